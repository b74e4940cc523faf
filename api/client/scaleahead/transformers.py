"""Edge: Hugging Face's Trainer (and what accelerate runs beneath it) reported by one callback."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from scaleahead.place import find, note
from scaleahead.ranks import AGREE_EVERY, Ranks
from scaleahead.reporter import Reporter, harmless, log
from scaleahead.schedule import learning_rates
from scaleahead.torch import Shapes, known_schedules


def last_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """Give the newest whole checkpoint in an ``output_dir``, for ``train(resume_from_checkpoint=...)``; else ``None``.

    One that the Trainer was killed amidst is passed over.
    """
    place = find(folder)
    return place.path if place else None


class ScaleaheadCallback(TrainerCallback):
    """Reports a Trainer's steps and lets it save when the daemon asks.

    Steps in all, learning rates ahead and a curriculum's ``schedule`` are read from the Trainer and declared. The
    checkpoint is the Trainer's own, in ``output_dir``. With several ranks, they agree on saving at every
    ``agree_every``th step. ``job`` or ``reporter`` as for ``Reporter``.
    """

    def __init__(
        self, job: str | None = None, *, reporter: Reporter | None = None, agree_every: int = AGREE_EVERY
    ) -> None:
        self.reporter = reporter or Reporter(job)
        self._agree_every = agree_every
        self._ranks = Ranks(None)
        self._shapes = Shapes()
        self._hook: Any = None
        self._rate: float | None = None
        self._asked_at = 0.0

    def note(self, error: Exception) -> None:
        """Count an error of the client's own."""
        self.reporter.note(error)

    @harmless()
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        """Declare what the Trainer knows of the steps to come."""
        self.reporter.total_steps = state.max_steps
        # Not before: the process group may be made after the callback.
        self._ranks = Ranks(self._agree_every)
        if self._hook is not None:
            self._hook.remove()
        self._hook = parts["model"].register_forward_pre_hook(self._see, with_kwargs=True)
        for schedule in known_schedules(parts.get("train_dataloader"), parts.get("lr_scheduler")):
            for from_step, hyperparameters in schedule.items():
                self.reporter.declare(from_step, **hyperparameters)
        if self.reporter.active:
            rates = learning_rates(parts.get("lr_scheduler"), state.global_step + 1, state.max_steps)
            for from_step, rate in rates.items():
                self.reporter.declare(from_step, lr=rate)
        if args.save_only_model:
            log.warning("save_only_model leaves nothing to resume from: requests for a checkpoint stay unanswered")

    @harmless()
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        """Read the learning rate that the step is made with."""
        self._rate = float(parts["optimizer"].param_groups[0]["lr"])

    @harmless()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        """Report the step, and have the Trainer save if the daemon has asked."""
        hyperparameters = self._shapes.take()
        if self._rate is not None:
            hyperparameters["lr"] = self._rate
        self.reporter.step(state.global_step, hyperparameters)
        if self._ranks.due(self.reporter, state.global_step):
            control.should_save = not args.save_only_model
            self._asked_at = time.monotonic()

    @harmless()
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **parts: Any,
    ) -> None:
        """Report the losses that the Trainer logs: it sums them on the device, and reads them at these steps only."""
        # The learning rate is a hyperparameter, and the run's own summary at the end is no metric of a step.
        kept = {n: v for n, v in (logs or {}).items() if n not in ("epoch", "learning_rate", "total_flos")}
        self.reporter.measured({n: v for n, v in kept.items() if not n.startswith("train_")})

    @harmless()
    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        """Leave the evaluation out of the next step's time, and of the checkpoint's."""
        self.reporter.rest()
        self._asked_at = time.monotonic()

    @harmless()
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        """Acknowledge a checkpoint, asked for or the Trainer's own, and hold if it was asked for."""
        if args.save_only_model or not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if not (folder / "trainer_state.json").exists():
            return
        note(args.output_dir, state.global_step, folder)
        asked = self.reporter.handshake.pending is not None and self._asked_at
        seconds = time.monotonic() - self._asked_at if asked else None
        self.reporter.saved(folder.name, state.global_step, str(folder.resolve()), seconds)
        self.reporter.hold()

    @harmless()
    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any) -> None:
        """Say that training has reached its end; the hook answers until the process ends."""
        if self._hook is not None:
            self._hook.remove()
        self.reporter.done()

    @harmless()
    def _see(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module.training:
            self._shapes.see((*args, *kwargs.values()))
