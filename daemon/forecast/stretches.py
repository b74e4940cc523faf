"""Pure decisions: the stretches of constant hyperparameters that jobs have gone through, and their costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.forecast.drivers import MEMORY, Drivers, work_of
from daemon.types import Floats, History, Ints

MOST = 24
LONGEST = 64
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Stretches:
    """S stretches, oldest first in each job: flat float64[S], or float64[J, S] once ``packed`` (padded with NaN).

    ``group`` is 0 on the machine of the job's newest row, else a number for another machine or an earlier run.
    ``seconds`` is the median step time over the steps that rows stand for, ``scatter`` the rows' robust relative
    spread. ``level*`` (9th decile) and ``peak*`` are of host and GPU memory. NaN where a column said nothing. ``job``
    points at the batch.
    """

    job: Floats
    work: Floats
    reach: Floats
    held: Floats
    held_reach: Floats
    group: Floats
    count: Floats
    seconds: Floats
    scatter: Floats
    level: Floats
    peak: Floats
    gpu_level: Floats
    gpu_peak: Floats

    def __len__(self) -> int:
        return len(self.job)

    def memory(self, name: str) -> tuple[Floats, Floats]:
        """Give (level, peak) of a memory column."""
        return (self.level, self.peak) if name == MEMORY[0] else (self.gpu_level, self.gpu_peak)

    def take(self, rows: NDArray[Any]) -> "Stretches":
        """Take rows by index or mask."""
        return Stretches(*(getattr(self, each.name)[rows] for each in fields(self)))


def step_seconds(history: History) -> Floats:
    """Read the step time of each row; where the job does not report it, from receipt times (rows of one poll share)."""
    told = history.columns.get("step_seconds")
    if told is not None and np.isfinite(told).any():
        return np.where((told > 0) & (told < np.inf), told, np.nan)
    marks = np.flatnonzero(np.diff(history.at_s, prepend=-np.inf) > 0)
    if len(marks) < 2:
        return np.full(len(history), np.nan)
    ahead = np.diff(history.step[marks])
    pace = np.diff(history.at_s[marks]) / np.where(ahead > 0, ahead, 1)
    place = np.clip(np.searchsorted(marks, np.arange(len(history)), side="left") - 1, 0, len(pace) - 1)
    return np.where(ahead > 0, pace, np.nan)[place]


def cut(histories: Sequence[History], driver: Sequence[Drivers]) -> Stretches:
    """Cut the rows of many jobs into stretches of at most ``LONGEST`` rows, flat; ``job`` is the history's place."""
    sizes = [len(history) for history in histories]
    columns = [{name: filled(h.columns[name]) for name in d.roles} for h, d in zip(histories, driver, strict=True)]
    at = work_of(driver, columns, sizes)
    job = np.repeat(np.arange(len(sizes)), sizes)
    group = np.concatenate([_groups(h.offers, n) for h, n in zip(histories, sizes, strict=True)] or [np.zeros(0)])
    turn = np.ones(len(job), dtype=bool)
    turn[1:] = job[1:] != job[:-1]
    for each in (at.work, at.reach, at.held, group):
        turn[1:] |= each[1:] != each[:-1]
    starts, ends = _chopped(np.flatnonzero(turn), len(job))
    told, steps = _stacked(histories, sizes, "step_seconds"), _steps(histories, sizes)
    seconds, scatter = _medians(_windows(told, starts, ends), _windows(np.where(told > 0, steps, np.nan), starts, ends))
    memory = [
        level
        for name in MEMORY
        for level in _levels(np.sort(_windows(_stacked(histories, sizes, name), starts, ends), axis=1))
    ]
    count = (ends - starts).astype(float)
    return Stretches(
        job[starts].astype(float), at.work[starts], at.reach[starts], at.held[starts], at.held_reach[starts],
        group[starts], count, seconds, scatter, *memory,
    )  # fmt: skip


def packed(flat: Stretches, jobs: int) -> Stretches:
    """Lay flat stretches out as [jobs, S], each job's newest last of its own; at most ``MOST`` or so a job."""
    counts = np.bincount(flat.job.astype(np.int64), minlength=jobs)
    if counts.max(initial=0) > MOST:
        flat = _merged(flat, np.flatnonzero(counts > MOST))
        counts = np.bincount(flat.job.astype(np.int64), minlength=jobs)
    order = np.argsort(flat.job, kind="stable")
    row = flat.job[order].astype(np.int64)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    laid = []
    for each in fields(flat):
        table = np.full((jobs, max(int(counts.max(initial=0)), 1)), np.nan)
        table[row, place] = getattr(flat, each.name)[order]
        laid.append(table)
    return Stretches(*laid)


def joined(parts: Sequence[Stretches]) -> Stretches:
    """Put flat stretches end to end."""
    return Stretches(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Stretches)))


def _merged(flat: Stretches, jobs: Ints) -> Stretches:
    """Merge neighbours in size where a job has too many stretches; its newest stays alone, and last.

    Means keep a linear law true, so a schedule that moves at every step loses no slope.
    """
    crowded = np.isin(flat.job, jobs)
    parts = [flat.take(~crowded)]
    for job in jobs:
        own = flat.take(flat.job == job)
        order = np.lexsort((own.reach[:-1], own.work[:-1], own.group[:-1]))
        for each in np.array_split(order, MOST - 1):
            parts.extend(_one(own.take(part)) for part in np.split(each, np.flatnonzero(np.diff(own.group[each])) + 1))
        parts.append(own.take(np.array([len(own) - 1])))
    return joined(parts)


def _one(own: Stretches) -> Stretches:
    merged: Mapping[str, Any] = {"count": np.sum, "peak": np.max, "gpu_peak": np.max}
    values = []
    for each in fields(own):
        column = getattr(own, each.name)
        column = column[np.isfinite(column)]
        values.append(np.array([merged.get(each.name, np.mean)(column) if len(column) else np.nan]))
    return Stretches(*values)


def filled(values: Floats) -> Floats:
    """Carry the last known value forward; what comes before the first one takes that."""
    known = np.isfinite(values)
    if known.all() or not known.any():
        return values
    place = np.maximum.accumulate(np.where(known, np.arange(len(values)), int(np.argmax(known))))
    return values[place]


def _groups(offers: Sequence[str], n: int) -> Floats:
    """Number the machines: 0 is the newest row's; a row that does not say is taken for the newest's."""
    if len(offers) != n or n == 0 or offers.count(offers[-1]) == n:
        return np.zeros(n)
    numbers = {offers[-1]: 0, "": 0}
    return np.array([numbers.setdefault(each, len(numbers)) for each in offers], dtype=float)


def _chopped(starts: Ints, total: int) -> tuple[Ints, Ints]:
    """Cut what lasts longer than ``LONGEST`` evenly, so that the newest part of a stretch can outweigh its past."""
    lasts = np.diff(starts, append=total)
    pieces = -(-lasts // LONGEST)
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    cuts = np.repeat(starts, pieces) + number * np.repeat(lasts, pieces) // np.repeat(pieces, pieces)
    return cuts, np.append(cuts[1:], total).astype(np.int64)


def _stacked(histories: Sequence[History], sizes: Sequence[int], name: str) -> Floats:
    """Put one column of many jobs end to end; NaN where unknown or not above what counts as zero."""
    found = np.full(sum(sizes), np.nan)
    start = 0
    for history, size in zip(histories, sizes, strict=True):
        values = history.columns.get(name)
        if values is not None:
            found[start : start + size] = values
        if name == "step_seconds" and not np.isfinite(found[start : start + size]).any():
            found[start : start + size] = step_seconds(history)
        start += size
    found[~((found > _LEAST) & (found < np.inf))] = np.nan
    return found


def _steps(histories: Sequence[History], sizes: Sequence[int]) -> Floats:
    """Count the steps since the row before, end to end; 1 for a job's first row and where steps stand still."""
    found = np.ones(sum(sizes))
    start = 0
    for history, size in zip(histories, sizes, strict=True):
        found[start + 1 : start + size] = np.maximum(np.diff(history.step), 1)
        start += size
    return found


def _windows(values: Floats, starts: Ints, ends: Ints) -> Floats:
    """Lay stretches out as rows [S, LONGEST], NaN where there is nothing."""
    if not len(starts) or not np.isfinite(values).any():
        return np.full((len(starts), 1), np.nan)
    place = starts[:, None] + np.arange(int((ends - starts).max()))
    return np.where(place < ends[:, None], values[np.minimum(place, len(values) - 1)], np.nan)


def _picked(rows: Floats, place: Ints) -> Floats:
    return np.take_along_axis(rows, np.maximum(place, 0)[:, None], axis=1)[:, 0]


def _medians(rows: Floats, steps: Floats) -> tuple[Floats, Floats]:
    """Give each row's median and its relative spread (median absolute deviation, as a standard deviation).

    An entry weighs the steps that it stands for: just after a change, a row of one step is half of the old setting.
    """
    order = np.argsort(rows, axis=1)
    rows = np.take_along_axis(rows, order, axis=1)
    mass = np.cumsum(np.nan_to_num(np.take_along_axis(steps, order, axis=1)), axis=1)
    n = np.isfinite(rows).sum(axis=1)
    low, high = ((mass < mass[:, -1:] * half).sum(axis=1) for half in (0.5 - 1e-9, 0.5 + 1e-9))
    middle = 0.5 * (_picked(rows, np.minimum(low, n - 1)) + _picked(rows, np.minimum(high, n - 1)))
    off = np.sort(np.abs(rows - middle[:, None]), axis=1)
    spread = np.where(n >= 4, 1.4826 * _picked(off, n // 2) / middle, np.nan)
    return np.where(n > 0, middle, np.nan), spread


def _levels(rows: Floats) -> tuple[Floats, Floats]:
    """Give each row's settled height (its 9th decile) and its peak."""
    n = np.isfinite(rows).sum(axis=1)
    return _picked(rows, (0.9 * (n - 1)).astype(np.int64)), _picked(rows, n - 1)
