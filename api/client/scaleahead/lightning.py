"""Edge: Lightning's Trainer reported by one callback."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from scaleahead.place import find, note
from scaleahead.reporter import Reporter, harmless
from scaleahead.schedule import learning_rates
from scaleahead.torch import Shapes, known_schedules

AGREE_EVERY = 10


def last_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """Give the newest whole checkpoint in ``folder``, for ``fit(ckpt_path=...)``; ``None`` if there is none."""
    place = find(folder)
    return place.path if place else None


class ScaleaheadCallback(Callback):
    """Reports a Trainer's steps and saves into ``folder`` when the daemon asks, by ``Trainer.save_checkpoint``.

    Steps in all, learning rates ahead and a curriculum's ``schedule`` are read from the Trainer and declared. With
    several ranks, they agree on saving at every ``agree_every``th step. ``job`` or ``reporter`` as for ``Reporter``.
    Nothing in ``folder`` is deleted.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        job: str | None = None,
        *,
        reporter: Reporter | None = None,
        agree_every: int = AGREE_EVERY,
    ) -> None:
        self.reporter = reporter or Reporter(job)
        self._folder = Path(folder)
        self._agree_every = max(1, agree_every)
        self._shapes = Shapes()
        self._rate: float | None = None
        self._step = 0

    def note(self, error: Exception) -> None:
        """Count an error of the client's own."""
        self.reporter.note(error)

    @harmless()
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Declare what the Trainer knows of the steps to come."""
        self._step = trainer.global_step
        total = trainer.estimated_stepping_batches
        self.reporter.total_steps = int(total) if 0 < total < float("inf") else None
        configs = trainer.lr_scheduler_configs
        first = configs[0] if configs else None
        for schedule in known_schedules(trainer.train_dataloader, first.scheduler if first else None):
            for from_step, hyperparameters in schedule.items():
                self.reporter.declare(from_step, **hyperparameters)
        if first is None or self.reporter.total_steps is None or not self.reporter.active:
            return
        every = first.frequency
        if first.interval == "epoch":
            every *= -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        # Where an epoch is half over, the scheduler moves when it ends.
        begun = self._step // every * every + 1
        for from_step, rate in learning_rates(first.scheduler, begun, self.reporter.total_steps, every).items():
            self.reporter.declare(from_step, lr=rate)

    @harmless()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Read the learning rate that the step is made with."""
        self._rate = float(optimizer.param_groups[0]["lr"])

    @harmless()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the step if the batch ended one, and save if the daemon has asked."""
        self._shapes.see(batch.values() if isinstance(batch, dict) else (batch,))
        step = trainer.global_step
        if step <= self._step:
            return
        self._step = step
        hyperparameters = self._shapes.take()
        if self._rate is not None:
            hyperparameters["lr"] = self._rate
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self.reporter.step(step, hyperparameters, {} if loss is None else {"loss": loss})
        if self._due(trainer, step):
            self.reporter.checkpoint(step, lambda: self._save(trainer, step))

    @harmless()
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report what the validation found, and leave it out of the next step's time."""
        if not trainer.sanity_checking:
            self.reporter.measured(trainer.callback_metrics)
            self.reporter.rest()

    @harmless()
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say that training has reached its end; the hook answers until the process ends."""
        self.reporter.done()

    def _save(self, trainer: Trainer, step: int) -> str:
        path = self._folder / f"step-{step}.ckpt"
        self._folder.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            note(self._folder, step, path)
        return str(path.resolve())

    def _due(self, trainer: Trainer, step: int) -> bool:
        if trainer.world_size <= 1:
            return self.reporter.checkpoint_due() is not None
        if step % self._agree_every:
            return False
        return bool(trainer.strategy.broadcast(self.reporter.checkpoint_due() is not None, src=0))
