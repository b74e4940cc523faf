"""Pure decisions: cut stepwise hyperparameters into regimes, and describe them to the schedule head."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.forecast.rows import Flags, Rows, fill, newest, stack, totals
from daemon.types import Floats, History, Ints

SLOTS = 8
"""Regimes that the head sees of a column, the present one last."""

SEQUENCE = 11
STATIC = 10

_STILL = re.compile(
    r"(^|[._])(lr|learning_rate|weight_decay|decay|beta\d*|momentum|dropout|eps|epsilon|warmup|clip|seed|epochs?|"
    r"layers?|heads?|hidden|width|dim|vocab|workers|temperature|l1|l2)($|_)"
)
"""Names that do not drive resources while they stand still, and of these the ones that never do."""
_SMOOTH = re.compile(r"lr|rate|decay|momentum|dropout|epoch|seed|warmup|beta|eps|clip|temperature")


@dataclass(frozen=True, slots=True, eq=False)
class Regimes:
    """R columns as their newest ``SLOTS`` regimes, present one last, zeros in front.

    ``level`` and ``start`` float64[R, SLOTS]; ``count`` int[R] regimes seen in the window; ``now`` and ``total``
    float64[R] steps (``total`` NaN if unknown); ``family`` int[R]: 0 batch, 1 length, 2 other.
    """

    level: Floats
    start: Floats
    count: Ints
    now: Floats
    total: Floats
    family: Ints

    def __len__(self) -> int:
        return len(self.count)

    @property
    def elapsed(self) -> Floats:
        """Steps that the present regime has lasted."""
        return np.maximum(self.now - self.start[:, -1], 0.0)

    @property
    def reference(self) -> Floats:
        """The scale that dwells are told in: the last full dwell, else the total, else what has elapsed."""
        dwell = self.start[:, -1] - self.start[:, -2]
        scale = np.where(np.isfinite(self.total), self.total, np.maximum(self.elapsed, 1.0))
        chosen: Floats = np.maximum(np.where(self.count >= 2, dwell, scale), 1.0)
        return chosen


def drives(name: str) -> bool:
    """Tell by its name whether a hyperparameter may drive resources."""
    return _STILL.search(name) is None and _SMOOTH.search(name) is None


def family(name: str) -> int:
    """Class a hyperparameter by its name: 0 batch, 1 length of a sample, 2 other."""
    if re.search(r"batch|accum|micro", name):
        return 0
    return 1 if re.search(r"seq|len|window|context|resol|image|crop|token", name) else 2


def stepwise(rows: Rows, filled: Floats) -> Flags:
    """Find the columns that drive resources: whole numbers from 1 that stand still or change in steps: bool[R]."""
    whole = ((filled == np.round(filled)) & (filled >= 1) & (filled <= 1e12)).all(axis=1)
    changes = (filled[:, 1:] != filled[:, :-1]).sum(axis=1)
    calm = changes <= np.maximum(2, rows.seen.sum(axis=1) // 3)
    named = {name: (_STILL.search(name) is None, _SMOOTH.search(name) is None) for name in set(rows.names)}
    moves = np.array([named[name][0] for name in rows.names], dtype=bool)
    could = np.array([named[name][1] for name in rows.names], dtype=bool)
    answer: Flags = whole & calm & (moves | (could & (changes > 0)))
    return answer


def quiet(filled: Floats) -> Floats:
    """Take out values that stand in one single row and go back (an epoch's last partial batch): float64[R, L]."""
    calm = filled.copy()
    if filled.shape[1] >= 8:
        blip = (filled[:, 1:-1] != filled[:, :-2]) & (filled[:, :-2] == filled[:, 2:])
        calm[:, 1:-1] = np.where(blip, filled[:, :-2], filled[:, 1:-1])
    return calm


def cut(rows: Rows, filled: Floats, now: Floats, total: Floats) -> Regimes:
    """Cut stacked columns into regimes. ``now`` and ``total`` are per job; a regime begins at its first seen step."""
    size = len(rows)
    calm = quiet(filled)
    where_row, where = np.nonzero(calm[:, 1:] != calm[:, :-1])
    count = np.bincount(where_row, minlength=size).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(count)])[:-1]
    slot = SLOTS - count[where_row] + np.arange(len(where_row)) - first[where_row]
    keep = slot >= 0
    level, start = np.zeros((size, SLOTS)), np.zeros((size, SLOTS))
    level[where_row[keep], slot[keep]] = calm[where_row[keep], where[keep] + 1]
    start[where_row[keep], slot[keep]] = rows.steps[where_row[keep], where[keep] + 1]
    fits = np.flatnonzero(count < SLOTS)
    opening = SLOTS - 1 - count[fits]
    level[fits, opening] = calm[fits, 0]
    start[fits, opening] = np.where(count[fits] == 0, 0.0, _opening(rows.steps[fits]))
    families = {name: family(name) for name in set(rows.names)}
    kinds = np.array([families[name] for name in rows.names], dtype=np.int64)
    return Regimes(level, start, count + 1, now[rows.job], total[rows.job], kinds)


def _opening(steps: Floats) -> Floats:
    """Tell where the first regime began: at the job's beginning if the window's first rows are near it."""
    near = steps[:, 0] <= 0.1 * (steps[:, -1] - steps[:, 0])
    began: Floats = np.where(near, 0.0, steps[:, 0])
    return began


def describe(regimes: Regimes) -> tuple[Floats, Floats]:
    """Describe regimes to the head: sequence float64[R, SLOTS, SEQUENCE] and static float64[R, STATIC]."""
    size = len(regimes)
    slots = np.arange(SLOTS)
    valid = slots[None] >= SLOTS - np.minimum(regimes.count, SLOTS)[:, None]
    depth = np.cumsum(valid, axis=1)
    logs = np.where(valid, np.log2(np.maximum(regimes.level, 1e-9)), 0.0)
    jump = np.where(depth >= 2, np.diff(logs, axis=1, prepend=0.0), 0.0)
    difference = np.where(depth >= 2, np.diff(regimes.level, axis=1, prepend=0.0), 0.0)
    dwell = np.where(depth >= 2, np.maximum(np.diff(regimes.start, axis=1, prepend=0.0), 1.0), 1.0)
    growth = np.where(depth >= 3, np.log2(dwell) - np.log2(_before(dwell, 1.0)), 0.0)
    again = (depth >= 3) & (np.abs(jump - _before(jump)) < 0.02)
    added = (depth >= 3) & (np.abs(difference - _before(difference)) <= 0.02 * np.abs(difference))
    back = (depth >= 3) & (regimes.level == _before(_before(regimes.level)))
    known = np.isfinite(regimes.total)
    total = np.where(known, np.maximum(regimes.total, 1.0), np.inf)[:, None]
    sequence = np.stack(
        [
            np.clip(jump, -6, 6) / 2,
            again,
            added,
            np.clip(growth, -5, 5),
            depth >= 3,
            (depth >= 3) & (np.abs(growth) < 0.06),
            np.where(valid, np.minimum(regimes.start / total, 1.5), 0.0),
            np.where(depth >= 2, np.minimum(dwell / total, 1.5), 0.0),
            valid & (depth == 1),
            back,
            valid,
        ],
        axis=2,
    ).astype(np.float64)
    static = np.zeros((size, STATIC))
    static[:, 0] = known
    static[:, 1] = np.where(known, np.log10(np.maximum(np.where(known, regimes.total, 1.0), 1.0)) / 6, 0.0)
    static[np.arange(size), 2 + regimes.family] = 1.0
    static[:, 5] = np.abs(logs[:, -1] - np.round(logs[:, -1])) < 1e-6
    static[:, 6] = np.minimum(regimes.count, SLOTS) / SLOTS
    static[:, 7] = regimes.count >= 2
    static[:, 8] = (regimes.count < 2) & known
    static[:, 9] = np.clip(logs[:, -1] / 20, 0, 2)
    return sequence, static


def _before(values: Floats, first: float = 0.0) -> Floats:
    moved = np.roll(values, 1, axis=1)
    moved[:, 0] = first
    return moved


def last_change(histories: Sequence[History]) -> Floats:
    """Give the step of each job's newest change of a hyperparameter that drives resources, zero without one."""
    found = np.zeros(len(histories))
    rows = stack(histories, lambda name: name.startswith("hp."))
    if not len(rows):
        return found
    filled = fill(rows)
    regimes = cut(rows, filled, newest(histories), totals(histories))
    changed = stepwise(rows, filled) & (regimes.count >= 2)
    np.maximum.at(found, rows.job[changed], regimes.start[changed, -1])
    return found
