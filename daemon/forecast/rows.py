"""Pure decisions: lay the columns of many jobs side by side, so that one array operation serves them all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.types import Floats, History, Ints

Flags = NDArray[np.bool_]

LARGEST = 1e30
"""Values are held within this, so that squares and differences stay finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """R columns of equal length L, newest row last, padded in front; ``job`` int[R] points at the history."""

    job: Ints
    names: tuple[str, ...]
    steps: Floats
    values: Floats
    seen: Flags

    def __len__(self) -> int:
        return len(self.names)


def stack(histories: Sequence[History], wanted: Callable[[str], bool], length: int = 256) -> Rows:
    """Stack the wanted columns' newest ``length`` rows; columns in which nothing is known are left out.

    ``steps`` are made to ascend; in front of a shorter history stands its first step, with ``seen`` false.
    """
    jobs: list[int] = []
    names: list[str] = []
    columns: list[Floats] = []
    longest = 1
    for index, history in enumerate(histories):
        size = min(len(history), length)
        if size == 0:
            continue
        longest = max(longest, size)
        for name, column in history.columns.items():
            if wanted(name) and len(column) >= size:
                jobs.append(index)
                names.append(name)
                columns.append(column[-size:])
    values: Floats
    if columns and all(len(column) == longest for column in columns):
        values = np.array(columns, dtype=np.float64)
    else:
        values = np.full((len(names), longest), np.nan)
        for row, column in enumerate(columns):
            values[row, longest - len(column) :] = column
    seen: Flags = np.isfinite(values)
    known: Flags = np.asarray(seen.any(axis=1))
    job = np.array(jobs, dtype=np.int64)[known] if names else np.zeros(0, dtype=np.int64)
    kept = tuple(name for name, keep in zip(names, known, strict=True) if keep)
    values = np.clip(values[known], -LARGEST, LARGEST)
    return Rows(job, kept, _steps(histories, longest)[job], values, seen[known])


def _steps(histories: Sequence[History], length: int) -> Floats:
    steps = np.zeros((len(histories), length))
    for index, history in enumerate(histories):
        size = min(len(history), length)
        if size:
            steps[index, length - size :] = history.step[-size:]
            steps[index, : length - size] = history.step[-size]
    ascending: Floats = np.maximum.accumulate(np.maximum(steps, 0.0), axis=1)
    return ascending


def totals(histories: Sequence[History]) -> Floats:
    """Give each job's total steps, NaN where unknown or already passed."""
    found = np.full(len(histories), np.nan)
    for index, history in enumerate(histories):
        if history.total_steps and (len(history) == 0 or history.total_steps >= history.step[-1]):
            found[index] = history.total_steps
    return found


def newest(histories: Sequence[History]) -> Floats:
    """Give each job's newest step, zero before the first."""
    return np.array([max(float(history.step[-1]), 0.0) if len(history) else 0.0 for history in histories])


def grid(grids: Sequence[Ints]) -> Floats:
    """Stack the grids of future steps: float64[J, K]. Raises ``ValueError`` where their lengths differ."""
    return np.asarray(grids, dtype=np.float64).reshape(len(grids), -1)


def fill(rows: Rows) -> Floats:
    """Carry the last known value forward over gaps, and the first one back to the beginning: float64[R, L]."""
    place = np.where(rows.seen, np.arange(rows.values.shape[1]), -1)
    place = np.maximum.accumulate(place, axis=1)
    first = np.argmax(rows.seen, axis=1)
    place = np.where(place < 0, first[:, None], place)
    filled: Floats = np.take_along_axis(rows.values, place, axis=1)
    return filled


def for_all(row: Floats, paths: int) -> Floats:
    """Let one row float64[1, K] stand for M paths: float64[M, K] that nobody can write to.

    As ``np.broadcast_to``, which takes longer than most of what is done to a row.
    """
    found: Floats = np.ndarray((paths, row.shape[-1]), row.dtype, np.ascontiguousarray(row), 0, (0, row.itemsize))
    found.flags.writeable = False
    return found


def reversed_bits(count: int) -> Floats:
    """Spread ``count`` levels evenly over (0, 1) so that every run of neighbours is balanced (van der Corput)."""
    bits = max(count - 1, 1).bit_length()
    index = np.arange(2**bits)
    mirrored = np.zeros(2**bits, dtype=np.int64)
    for bit in range(bits):
        mirrored |= ((index >> bit) & 1) << (bits - 1 - bit)
    order = mirrored[mirrored < count] if count < 2**bits else mirrored
    return (order + 0.5) / count
