"""Edge: what the ranks of a PyTorch job agree on: when to save, and that all of them have saved."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from scaleahead.reporter import Reporter

R = TypeVar("R")

AGREE_EVERY = 10
KEY = "scaleahead/saves/"


class Ranks:
    """The ranks of this process's default group that save together; alone where there is none.

    ``agree_every``: at which steps the ranks ask rank 0 whether a checkpoint is due; each asking is one broadcast. Make
    it on every rank before the first step, and ask it after every step. Where some rank did not, the others would wait
    for it for ever: then none is waited for, and rank 0 saves alone. ``None``: this rank takes no part.
    """

    def __init__(self, agree_every: int | None = AGREE_EVERY) -> None:
        self._agree_every = max(1, agree_every or 1)
        self._complete: bool | None = None
        self._first: int | None = None
        if agree_every is not None and world_size() > 1:
            _store().set(f"{KEY}{dist.get_rank()}", "here")

    def due(self, reporter: Reporter, step: int) -> bool:
        """Say on every rank alike whether a checkpoint is to be saved after this step, as rank 0 was asked."""
        if world_size() == 1:
            return reporter.checkpoint_due() is not None
        if self._first is None:
            self._first = step
        # Before a step of its own this rank cannot know whether the others have begun.
        if step == self._first or step % self._agree_every:
            return False
        if not self.complete:
            return dist.get_rank() == 0 and reporter.checkpoint_due() is not None
        # On rank 0 alone is there anything to be asked: the others' reporters are inactive.
        said = _flag(reporter.checkpoint_due() is not None)
        dist.broadcast(said, src=0)
        return bool(said.item())

    @property
    def complete(self) -> bool:
        """Say whether every rank takes part. Looked at once, after a step: none gets there before all have begun."""
        if self._complete is None:
            self._complete = bool(_store().check([f"{KEY}{rank}" for rank in range(world_size())]))
        return self._complete

    def save(self, save: Callable[[], R]) -> R:
        """Save on every rank, and return once all have. Raises on every rank where ``save`` raised on any."""
        return together(save) if world_size() > 1 and self.complete else save()


def together(save: Callable[[], R]) -> R:
    """Save on every rank of a group, whatever comes of it on any, and only then return or raise."""
    failure: Exception | None = None
    place: R | None = None
    try:
        place = save()
    except Exception as error:  # the user's own function; the other ranks wait for this one's word
        failure = error
    saved = _flag(failure is None)
    dist.all_reduce(saved, op=dist.ReduceOp.MIN)
    if failure is not None:
        raise failure
    if not saved.item():
        raise OSError("another rank could not save")
    return place  # type: ignore[return-value]  # what ``save`` gave


def world_size() -> int:
    """Give how many ranks there are, 1 outside of a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()


def _flag(value: bool) -> torch.Tensor:
    # What an accelerator's backend passes on must lie on the accelerator.
    here = torch.accelerator.current_accelerator()
    device = here if here is not None and "gloo" not in dist.get_backend() else torch.device("cpu")
    return torch.tensor([value], dtype=torch.int32, device=device)
