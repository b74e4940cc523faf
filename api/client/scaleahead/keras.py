"""Edge: Keras 3 reported by one callback, whichever of TensorFlow, JAX and PyTorch runs beneath it."""

import json
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from scaleahead.place import find, note
from scaleahead.reporter import Reporter, harmless
from scaleahead.schedule import thinned

RATE_EVERY_SECONDS = 0.2
MOST_STEPS = 20_000


class Batches(keras.utils.PyDataset):
    """Endless training data by step, so that a run resumed at any step goes on with the next batch.

    ``batch_at(n)`` gives what ``fit`` takes for the nth batch of the run, counted from 0; the same for the same n.
    """

    def __init__(self, batch_at: Callable[[int], Any], **options: Any) -> None:
        super().__init__(**options)
        self.first = 0
        self._batch_at = batch_at
        # Backends read ahead: the shapes of the last batches, by their place.
        self._sizes: deque[tuple[int, int]] = deque(maxlen=64)

    @property
    def num_batches(self) -> None:
        """Give none: there is no end; ``steps_per_epoch`` says where an epoch ends."""
        return

    def __getitem__(self, index: int) -> Any:
        place = self.first + index
        batch = self._batch_at(place)
        self._sizes.append((place, _leading(batch)))
        return batch

    def size_at(self, place: int) -> int | None:
        """Give how many rows the batch at a place had, if it was read lately."""
        return next((size for at, size in reversed(self._sizes) if at == place and size), None)


class ScaleaheadCallback(keras.callbacks.Callback):
    """Reports the steps of ``fit`` and saves into ``folder`` when the daemon asks: weights, optimizer, random seeds.

    Call ``resume(model)`` before ``fit``; with ``data`` (a ``Batches``) it goes on with the next batch. Training stops
    at ``total_steps``; a ``fit`` that ends before may be followed by another. A ``LearningRateSchedule`` of the
    optimizer is declared. ``job`` or ``reporter`` as for ``Reporter``. Nothing in ``folder`` is deleted.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        job: str | None = None,
        *,
        reporter: Reporter | None = None,
        total_steps: int | None = None,
        batch_size: int | None = None,
        data: Batches | None = None,
    ) -> None:
        super().__init__()
        self.reporter = reporter or Reporter(job)
        if total_steps is not None:
            self.reporter.total_steps = total_steps
        self._folder = Path(folder)
        self._batch_size, self._data = batch_size, data
        self._step = 0
        self._seen = -1
        self._rate: float | None = None
        self._rate_at = float("-inf")
        self._random: dict[str, Any] | None = None

    def note(self, error: Exception) -> None:
        """Count an error of the client's own."""
        self.reporter.note(error)

    def resume(self, model: Any) -> int:
        """Load the newest checkpoint into a built and compiled model; give the steps that are done, 0 without one.

        Raises what Keras raises where the checkpoint is not this model's.
        """
        place = find(self._folder)
        if place is None:
            return 0
        # Without its variables there would be nothing to load the optimizer's state into.
        model.optimizer.build(model.trainable_variables)
        model.load_weights(place.path)
        random = json.loads(_beside(place.path).read_text())
        for seed, state in zip(_seeds(model), random["seeds"], strict=True):
            seed.assign(np.array(state, dtype="uint32"))
        self._random = random
        self._step = place.step
        return place.step

    @harmless()
    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Go on with the next batch, and declare what the optimizer knows of the steps to come."""
        if self._data is not None:
            self._data.first = self._step
        rates = getattr(self.model.optimizer, "_learning_rate", None)
        total = self.reporter.total_steps
        if total is None or not isinstance(rates, keras.optimizers.schedules.LearningRateSchedule):
            return
        if not self.reporter.active or not 0 < total - self._step <= MOST_STEPS:
            return
        ahead = [float(keras.ops.convert_to_numpy(rates(step))) for step in range(self._step, total)]
        for from_step, rate in thinned(ahead, self._step + 1).items():
            self.reporter.declare(from_step, lr=rate)

    @harmless()
    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the batches of an epoch anew."""
        self._seen = -1

    @harmless()
    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Take up the random numbers where they were: what comes before the first step may draw some."""
        if self._random is not None:
            random, self._random = self._random, None
            _set_torch_random(random)
        # Reading the rate costs more than all the rest on some backends.
        now = time.monotonic()
        if now - self._rate_at >= RATE_EVERY_SECONDS:
            self._rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            self._rate_at = now

    @harmless()
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the step, save if the daemon has asked, and stop at the last step."""
        # With steps_per_execution only the last of several batches is told of.
        self._step += max(1, batch - self._seen)
        self._seen = batch
        step = self._step
        hyperparameters: dict[str, Any] = {"lr": self._rate}
        size = self._data.size_at(step - 1) if self._data is not None else None
        if size or self._batch_size:
            hyperparameters["batch_size"] = size or self._batch_size
        self.reporter.step(step, hyperparameters, logs)
        if self.reporter.checkpoint_due() is not None:
            self.reporter.checkpoint(step, lambda: self._save(step))
        if self.reporter.total_steps is not None and step >= self.reporter.total_steps:
            self.model.stop_training = True

    @harmless()
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report what the validation found, and leave it out of the next step's time."""
        self.reporter.measured({name: value for name, value in (logs or {}).items() if name.startswith("val_")})
        self.reporter.rest()

    @harmless()
    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Say that training has reached its end, unless steps are left for another ``fit``."""
        total = self.reporter.total_steps
        if total is None or self._step >= total or self.model.stop_training:
            self.reporter.done()
        else:
            self._random = _torch_random()

    def _save(self, step: int) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step-{step}.weights.h5"
        seeds = [keras.ops.convert_to_numpy(seed).tolist() for seed in _seeds(self.model)]
        _beside(path).write_text(json.dumps({"seeds": seeds, **_torch_random()}))
        self.model.save_weights(path)
        note(self._folder, step, path)
        return str(path.resolve())


def _seeds(model: Any) -> list[Any]:
    """List the random states of a model's layers (its dropouts), which Keras leaves out of the weights."""
    return [variable for variable in model.variables if "seed_generator" in variable.path]


def _torch_random() -> dict[str, Any]:
    """Give the random state of PyTorch's own, from which dropouts without a seed draw on that backend."""
    if keras.backend.backend() != "torch":
        return {}
    import torch  # delays torch: another backend may run

    states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch": torch.get_rng_state().tolist(), "cuda": [state.tolist() for state in states]}


def _set_torch_random(random: dict[str, Any]) -> None:
    if keras.backend.backend() != "torch" or "torch" not in random:
        return
    import torch  # delays torch

    torch.set_rng_state(torch.tensor(random["torch"], dtype=torch.uint8))
    if random["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([torch.tensor(state, dtype=torch.uint8) for state in random["cuda"]])


def _beside(path: str | os.PathLike[str]) -> Path:
    return Path(str(path).removesuffix(".weights.h5") + ".random.json")


def _leading(batch: Any) -> int:
    """Give the leading dimension of the first array of a batch; 0 where none is seen."""
    while isinstance(batch, (tuple, list, dict)) and batch:
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    shape = getattr(batch, "shape", None)
    return int(shape[0]) if shape else 0
