"""Edge: a DataLoader that knows how far it is, so that a run goes on amidst an epoch with the next batch."""

import random
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader


class Resumable:
    """A ``DataLoader`` whose place and random numbers go into a checkpoint by ``state_dict``.

    Lightning keeps the state of such a loader by itself. It gives what the loader alone would give; after
    ``load_state_dict`` the first iteration leaves out the batches that were served (they are read, and dropped).
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader
        self._served = 0
        self._start: dict[str, Any] = {}
        self._resume: dict[str, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":
            raise AttributeError(name)
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        resume, self._resume = self._resume, None
        generator = self._loader.generator
        if resume is not None:
            _set_random(resume["start"], generator)
        self._start = _random(generator)
        batches = iter(self._loader)
        self._served = resume["served"] if resume is not None else 0
        if resume is not None and self._served:
            for _ in range(self._served):
                next(batches, None)
            _set_random(resume["now"], generator)
        return self._serve(batches)

    def _serve(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self._served += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Give how far this epoch is, and the random numbers' state at its start and now."""
        now = _random(self._loader.generator)
        return {"served": self._served, "start": self._start or now, "now": now}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state at the next iteration. After a whole epoch, or before the first, one begins."""
        whole = state["served"] in (0, len(self._loader))
        self._resume = {**state, "served": 0, "start": state["now"]} if whole else state


def _random(generator: torch.Generator | None) -> dict[str, Any]:
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    if generator is not None:
        state["generator"] = generator.get_state()
    cuda: Any = torch.cuda
    if cuda.is_available() and cuda.is_initialized():
        state["cuda"] = cuda.get_rng_state_all()
    return state


def _set_random(state: dict[str, Any], generator: torch.Generator | None) -> None:
    torch.set_rng_state(state["torch"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    if generator is not None and "generator" in state:
        generator.set_state(state["generator"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
