"""Edge: what the ranks of a PyTorch job agree on: when to save, and that all of them have saved."""

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist

from scaleahead.reporter import Reporter

R = TypeVar("R")

AGREE_EVERY = 10


class Ranks:
    """The ranks of this process's default group; alone where there is none. Every rank makes the same calls.

    ``agree_every``: at which steps the ranks ask rank 0 whether a checkpoint is due; each asking is one broadcast.
    """

    def __init__(self, agree_every: int = AGREE_EVERY) -> None:
        self._agree_every = max(1, agree_every)

    def due(self, reporter: Reporter, step: int) -> bool:
        """Say on every rank alike whether a checkpoint is to be saved after this step, as rank 0 was asked."""
        if world_size() == 1:
            return reporter.checkpoint_due() is not None
        if step % self._agree_every:
            return False
        # On rank 0 alone is there anything to be asked: the others' reporters are inactive.
        said = _flag(reporter.checkpoint_due() is not None)
        dist.broadcast(said, src=0)
        return bool(said.item())


def together(save: Callable[[], R]) -> R:
    """Save on every rank, and return once all have. Raises on every rank where ``save`` raised on any."""
    if world_size() == 1:
        return save()
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


def _flag(value: bool) -> torch.Tensor:
    # What an accelerator's backend passes on must lie on the accelerator.
    here = torch.accelerator.current_accelerator()
    device = here if here is not None and "gloo" not in dist.get_backend() else torch.device("cpu")
    return torch.tensor([value], dtype=torch.int32, device=device)
