"""Edge: forecasts made quick to send from one process to another.

Their paths, most of an answer by far, go as single-precision rows through a file that is only memory and that both
have open: a pipe hands over 64 KiB at a time.
"""

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from daemon.forecast.rows import for_all
from daemon.types import Floats, Forecast, Ints

Ranges = tuple[Sequence[float], Sequence[float]]
"""The least and the greatest value of each path and then of each deviation."""


@dataclass(slots=True, eq=False)
class Packed:
    """A forecast that is quick to send: ``bare`` of paths, which are rows of one block in single precision.

    ``counts`` int[C] are the rows of each column, paths before deviations: M, or 1 where one stands for all.
    """

    bare: Forecast
    paths: tuple[str, ...]
    deviations: tuple[str, ...]
    counts: Ints
    block: NDArray[np.float32] | None = None

    def forecast(self) -> Forecast:
        """Give the forecast back, in double precision."""
        assert self.block is not None
        wide = self.block.astype(np.float64)
        many, ends = len(self.bare.probability), np.cumsum(self.counts).tolist()
        columns = [
            wide[end - count : end] if count == many else for_all(wide[end - 1 : end], many)
            for end, count in zip(ends, self.counts.tolist(), strict=True)
        ]
        first = len(self.paths)
        return replace(
            self.bare, paths=dict(zip(self.paths, columns[:first], strict=True)),
            deviations=dict(zip(self.deviations, columns[first:], strict=True)),
        )  # fmt: skip

    def ranges(self) -> Ranges:
        """Find each column's least and greatest value, all in one pass."""
        assert self.block is not None
        starts = np.cumsum(self.counts) - self.counts
        lows = np.minimum.reduceat(self.block.min(axis=1), starts)
        return lows.tolist(), np.maximum.reduceat(self.block.max(axis=1), starts).tolist()


def packed(forecast: object) -> object:
    """Make a forecast quick to send. What does not fit goes as it is."""
    if not isinstance(forecast, Forecast):
        return forecast
    columns = [*forecast.paths.values(), *forecast.deviations.values()]
    many, points = len(forecast.probability), len(forecast.steps)
    if not columns or not points or any(column.shape != (many, points) for column in columns):
        return forecast
    told = [column[:1] if _alike(column) else column for column in columns]
    with np.errstate(over="ignore"):
        block = np.concatenate(told, dtype=np.float32, casting="same_kind")
    counts = np.array([len(each) for each in told])
    return Packed(
        replace(forecast, paths={}, deviations={}), tuple(forecast.paths), tuple(forecast.deviations), counts, block
    )


def _alike(column: Floats) -> bool:
    """Say whether all rows are the same: a hyperparameter that does not move, a deviation of the grid point alone."""
    return column.strides[0] == 0 or bool(column[0, -1] == column[-1, -1] and (column[1:] == column[:1]).all())


def sent(made: Sequence[object], shared: int) -> bytes:
    """Put the blocks of an answer into the shared file, end to end, and give what goes through the pipe."""
    place = 0
    for each in made:
        if isinstance(each, Packed) and each.block is not None:
            os.pwrite(shared, each.block.data, place)
            place += each.block.nbytes
            each.block = None
    return pickle.dumps(made, protocol=5)


def received(body: bytes, shared: int) -> object:
    """Read an answer, and its blocks from the shared file."""
    answer = pickle.loads(body)
    place = 0
    for each in answer if isinstance(answer, list) else ():
        if isinstance(each, Packed):
            each.block = np.empty((int(each.counts.sum()), len(each.bare.steps)), dtype=np.float32)
            if os.preadv(shared, [each.block.data], place) != each.block.nbytes:
                raise EOFError("the shared file is too short")
            place += each.block.nbytes
    return answer
