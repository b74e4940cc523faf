"""Edge: PyTorch training reported by one line; nothing in the loop changes."""

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from scaleahead.ranks import AGREE_EVERY, Ranks, world_size
from scaleahead.reporter import Reporter

Save = Callable[[int], Any]


def watch(
    model: torch.nn.Module | None = None,
    optimizer: Optimizer | None = None,
    loader: Any = None,
    scheduler: Any = None,
    *,
    reporter: Reporter | None = None,
    job: str | None = None,
    total_steps: int | None = None,
    first_step: int = 0,
    save: Save | None = None,
    agree_every: int = AGREE_EVERY,
) -> "Watch":
    """Report a training loop from its optimizer's steps, and its learning rate and batch size with them.

    Without ``optimizer`` the first that steps is watched. The batch size is the leading dimension of the model's first
    tensor, times the ranks of the process group, the sequence length the next one of integer input, else what
    ``loader`` says. ``save(step)`` writes a checkpoint of ``step`` steps; it is called between two steps, when the
    daemon asks. A ``schedule`` of ``loader``, its sampler or data set, or of ``scheduler`` ({from_step: {name: value}})
    is declared. ``first_step`` counts the steps that a resumed run has behind it.

    With several ranks call it on each, with the same ``save``: they agree on it at every ``agree_every``th step, all
    save after the same one, and it is acknowledged once all have.
    """
    reporter = reporter or Reporter(job, total_steps=total_steps)
    watched = Watch(reporter, optimizer, loader, first_step, save, agree_every)
    for schedule in known_schedules(loader, scheduler):
        for from_step, hyperparameters in schedule.items():
            reporter.declare(from_step, **hyperparameters)
    watched.attach(model)
    return watched


class Watch:
    """What ``watch`` has hung onto a loop. ``close`` takes it off again."""

    def __init__(
        self,
        reporter: Reporter,
        optimizer: Optimizer | None,
        loader: Any,
        first_step: int,
        save: Save | None,
        agree_every: int = AGREE_EVERY,
    ) -> None:
        self.reporter = reporter
        self.step = first_step
        self._optimizer = weakref.ref(optimizer) if optimizer is not None else None
        self._loader = loader
        self._save = save
        # A rank without a ``save`` takes no part.
        self._ranks = Ranks(agree_every if save is not None else None)
        self._shapes = Shapes()
        self._sees_forwards = False
        self._hooks: list[Any] = []

    def attach(self, model: torch.nn.Module | None) -> None:
        """Hang onto the optimizer (or all of them) and the model."""
        optimizer = self._optimizer() if self._optimizer else None
        if optimizer is not None:
            self._hooks.append(optimizer.register_step_post_hook(self._quiet(self._stepped)))
        else:
            self._hooks.append(register_optimizer_step_post_hook(self._quiet(self._stepped)))
        if model is not None:
            self._sees_forwards = True
            hook = self._quiet(self._forward)
            self._hooks.append(model.register_forward_pre_hook(hook, with_kwargs=True))

    def loss(self, value: Any) -> None:
        """Give the loss of the step under way; a tensor is read later and no device is waited for."""
        self.reporter.loss(value)

    def done(self) -> None:
        """Say that training has reached its end."""
        self.answer()
        self.reporter.done()

    def close(self) -> None:
        """Let go of the model and the optimizer, and stop serving."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.reporter.close()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Report ``done`` unless the block failed, and close."""
        if kind is None:
            self.done()
        self.close()

    def answer(self) -> None:
        """Save and hold if the daemon has asked; only with ``save``. All ranks call it after the same step."""
        save = self._save
        if save is not None and self._ranks.due(self.reporter, self.step):
            self.reporter.checkpoint(self.step, lambda: self._ranks.save(lambda: save(self.step)))

    def _quiet(self, call: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(call)
        def tried(*args: Any, **kwargs: Any) -> None:
            try:
                call(*args, **kwargs)
            except Exception as error:  # the border to somebody's training: nothing of ours may cross it
                self.reporter.note(error)

        return tried

    def _forward(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module.training:
            if self._shapes.forwards == 0:
                # The step before is wholly over here: scheduler, counters and all.
                self.answer()
            self._shapes.see((*args, *kwargs.values()))

    def _stepped(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._optimizer is None:
            self._optimizer = weakref.ref(optimizer)
        if self._optimizer() is not optimizer:
            return
        hyperparameters = self._shapes.take()
        if "batch_size" not in hyperparameters:
            batch_size = _loader_batch(self._loader)
            if batch_size is not None:
                hyperparameters["batch_size"] = batch_size * world_size()
        hyperparameters["lr"] = float(optimizer.param_groups[0]["lr"])
        self.step += 1
        self.reporter.step(self.step, hyperparameters)
        if not self._sees_forwards:
            self.answer()


class Shapes:
    """What one step's forward passes tell: batch size, sequence length, and how many were accumulated."""

    def __init__(self) -> None:
        self.forwards = 0
        self._shape: dict[str, int] = {}

    def see(self, values: Iterable[Any]) -> None:
        """Look at what a forward pass of training is given."""
        self.forwards += 1
        given = _first_tensor(values)
        if given is None or given.dim() == 0:
            return
        shape = {"batch_size": given.shape[0]}
        if given.dim() == 2 and not given.is_floating_point() and not given.is_complex():
            shape["seq_len"] = given.shape[1]
        for name, size in shape.items():
            self._shape[name] = max(int(size), self._shape.get(name, 0))

    def take(self) -> dict[str, Any]:
        """Give the hyperparameters seen since the last call; the batch size is that of all ranks together."""
        seen: dict[str, Any] = dict(self._shape)
        if "batch_size" in seen:
            seen["batch_size"] *= world_size()
        if self.forwards > 1:
            seen["gradient_accumulation"] = self.forwards
        self.forwards, self._shape = 0, {}
        return seen


def _first_tensor(values: Iterable[Any]) -> torch.Tensor | None:
    """Find the first tensor among arguments, one level deep."""
    for value in values:
        if isinstance(value, torch.Tensor):
            return value
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
        for entry in inner:
            if isinstance(entry, torch.Tensor):
                return entry
    return None


def _loader_batch(loader: Any) -> int | None:
    for owner in (loader, getattr(loader, "batch_sampler", None)):
        size = getattr(owner, "batch_size", None)
        if isinstance(size, int):
            return size
    return None


def known_schedules(loader: Any, scheduler: Any) -> list[Mapping[int, Mapping[str, float]]]:
    """Find the schedules that a loop's parts make known."""
    parts = ("batch_sampler", "sampler", "dataset")
    owners = [loader, *(getattr(loader, part, None) for part in parts), scheduler]
    found = [getattr(owner, "schedule", None) for owner in owners]
    return [schedule for schedule in found if isinstance(schedule, Mapping)]
