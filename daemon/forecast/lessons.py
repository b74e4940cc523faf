"""Pure decisions: turn whole runs, recorded and made up, into lessons: what was seen at some moment, and what came."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.forecast.prior import Plan, Random, Series
from daemon.forecast.regimes import SLOTS, Regimes
from daemon.forecast.rows import Flags, Rows
from daemon.forecast.schedule import COUNTS, EDGES, GROWTHS, KINDS, next_level, steps_of
from daemon.types import Floats, Ints

ASKED = 8
LONGEST = 256


@dataclass(frozen=True, slots=True, eq=False)
class ScheduleLessons:
    """R moments: the regimes as seen, the chances' masks and classes that came.

    ``dwell`` float64[R, BINS + 1] marks the classes that agree with what came (for a run that ended: all longer ones
    and never); ``alive`` float64[R, BINS + 1] the share of each class still possible then. ``kind`` bool-like
    [R, kinds]; ``count``, ``growth`` int[R] with -1 for "nothing to learn".
    """

    regimes: Regimes
    dwell: Floats
    alive: Floats
    kind: Floats
    count: Ints
    growth: Ints


def schedule_lessons(plans: Sequence[Plan], random: Random) -> ScheduleLessons:
    """Give one lesson for each regime of each plan, told at its beginning; in three of ten the total stays untold.

    Where nothing but the time elapsed gives a scale, the moment is drawn without regard to what came after, and
    dropped if the change had come before it: else short regimes would be met too often.
    """
    moments = [(plan, place) for plan in plans for place in range(len(plan.levels))]
    size = len(moments)
    level, start = np.zeros((size, SLOTS)), np.zeros((size, SLOTS))
    count, now, total, family = np.zeros(size, np.int64), np.zeros(size), np.zeros(size), np.zeros(size, np.int64)
    full, further, fresh = np.zeros(size), np.zeros(size, np.int64), np.full(size, np.nan)
    growth = np.full(size, -1)
    for row, (plan, place) in enumerate(moments):
        first = max(place + 1 - SLOTS, 0)
        shown = place + 1 - first
        level[row, SLOTS - shown :] = plan.levels[first : place + 1]
        start[row, SLOTS - shown :] = plan.starts[first : place + 1]
        further[row] = len(plan.levels) - 1 - place
        end = plan.starts[place + 1] if further[row] else plan.total
        full[row] = end - plan.starts[place]
        now[row] = plan.starts[place] + np.floor(plan.total * 10 ** random.uniform(-3, 0))
        count[row], total[row], family[row] = place + 1, plan.total, plan.family
        if further[row]:
            fresh[row] = plan.levels[place + 1]
        if further[row] >= 2:
            next_dwell = plan.starts[place + 2] - plan.starts[place + 1]
            growth[row] = np.argmin(np.abs(GROWTHS - np.log2(max(next_dwell, 1) / max(full[row], 1))))
    total[random.random(size) < 0.3] = np.nan
    regimes = Regimes(level, start, count, now, total, family)
    dwell, alive = _dwell_targets(regimes, full, further > 0)
    classes = np.argmin(np.abs(COUNTS[None] - further[:, None]), axis=1)
    return ScheduleLessons(
        regimes, dwell, alive, _kinds(regimes, fresh), np.where(further > 0, classes, -1), growth.astype(np.int64)
    )


def _dwell_targets(regimes: Regimes, full: Floats, changed: Flags) -> tuple[Floats, Floats]:
    place = np.clip(np.log2(np.maximum(full, 1e-9) / regimes.reference), EDGES[0] + 1e-6, EDGES[-1] - 1e-6)
    beyond = np.concatenate([_beyond(place), np.ones((len(full), 1))], axis=1)
    hit = np.zeros_like(beyond)
    hit[np.arange(len(full)), np.searchsorted(EDGES, place, side="right") - 1] = 1.0
    bare = (regimes.count < 2) & ~np.isfinite(regimes.total)
    alive = np.concatenate([_beyond(np.where(bare, 0.0, -99.0)), np.ones((len(full), 1))], axis=1)
    target = np.where(changed[:, None], hit, beyond)
    target[bare & (regimes.elapsed >= full)] = 1.0
    alive[bare & (regimes.elapsed >= full)] = 1.0
    return target, alive


def _beyond(place: Floats) -> Floats:
    """Give the share of each bin that lies beyond a place: float64[R, BINS]."""
    share: Floats = 1 - np.clip((place[:, None] - EDGES[None, :-1]) / np.diff(EDGES)[None], 0.0, 1.0)
    return share


def _kinds(regimes: Regimes, fresh: Floats) -> Floats:
    """Mark the kinds of change that lead to the level that came; the nearest one where none does within 3 %."""
    size = len(regimes)
    ratio, difference = steps_of(regimes)
    opening = regimes.level[np.arange(size), SLOTS - np.minimum(regimes.count, SLOTS)]
    level, before = regimes.level[:, -1], regimes.level[:, -2]
    distance = np.empty((size, len(KINDS)))
    for kind in range(len(KINDS)):
        drawn = next_level(np.full(size, kind), level, before, ratio, difference, opening)
        distance[:, kind] = np.abs(np.log2(np.maximum(drawn, 1e-9) / np.where(np.isfinite(fresh), fresh, 1.0)))
    distance[regimes.count < 2, 4:8] = 50.0
    near = (distance < 0.043) | (distance <= distance.min(axis=1, keepdims=True))
    return np.where(np.isfinite(fresh)[:, None], near, 0).astype(np.float64)


def cut_rows(series: Sequence[Series], cuts: Sequence[int]) -> Rows:
    """Stack what each series showed before its cut, newest last."""
    longest = min(max(cuts), LONGEST)
    steps, values = np.zeros((len(series), longest)), np.full((len(series), longest), np.nan)
    for row, (one, cut) in enumerate(zip(series, cuts, strict=True)):
        size = min(cut, longest)
        steps[row, : longest - size] = one.steps[cut - size]
        steps[row, longest - size :] = one.steps[cut - size : cut]
        values[row, longest - size :] = one.values[cut - size : cut]
    seen = np.isfinite(values)
    return Rows(np.arange(len(series)), ("",) * len(series), steps, np.clip(values, -1e30, 1e30), seen)
