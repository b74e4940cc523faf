"""Pure decisions: where hyperparameters are heading, as weighted trajectories of one job's hyperparameters together."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.forecast.drivers import role
from daemon.forecast.earlier import Replay, replays
from daemon.forecast.regimes import SEQUENCE, SLOTS, STATIC, Regimes, cut, describe, stepwise
from daemon.forecast.rows import Rows, fill, grid, newest, stack, totals
from daemon.forecast.trend import continue_trends
from daemon.forecast.weights_file import Weights
from daemon.types import Floats, History, Ints

_HALF = (0.03, 0.07, 0.12, 0.2, 0.3, 0.42, 0.53, 0.64, 0.8, 0.95, 1.05, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5)
EDGES = np.array([-edge for edge in reversed(_HALF)] + list(_HALF))
"""Edges of the dwell's bins, in doublings of the reference: fine where a dwell repeats or doubles the last."""

BINS = len(EDGES) - 1
KINDS = ("x2", "x1.5", "x3", "x4", "repeat_ratio", "add_difference", "return", "return_first", "half", "x1.2")
RATIOS = np.array([2.0, 1.5, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0, 0.5, 1.2])
COUNTS = np.array([1, 2, 3, 4, 6, 8])
GROWTHS = np.array([-2.0, -1.0, -0.585, -0.2, 0.0, 0.2, 0.585, 1.0, 2.0])
CLASSES = (BINS + 1, len(KINDS), len(COUNTS), len(GROWTHS))
FARTHEST = 16.0
FARTHEST_AREA = 4.0
"""No undeclared path is drawn above so many times, or below that part of, the present level; sides of an image less."""


@dataclass(frozen=True, slots=True, eq=False)
class ScheduleSamples:
    """One job's hyperparameters over M trajectories: ``probability`` float64[M], ``paths[name]`` float64[M, K].

    ``declared`` names the columns the job declared, ``unknown`` those whose changes cannot be foretold.
    """

    probability: Floats
    paths: dict[str, Floats]
    declared: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """The head's answer for R columns: probabilities of dwell bin (last: never), kind, further changes and growth."""

    dwell: Floats
    kind: Floats
    count: Floats
    growth: Floats


class Schedules:
    """Foretell hyperparameters: declared first, then the owner's earlier runs, then the recurrent semi-Markov head."""

    def __init__(self, weights: Weights | None) -> None:
        """Take the head's weights; ``None`` gives the closed form. Raises ``WeightsError`` where they do not fit."""
        self._net = None
        if weights is not None:
            from daemon.forecast import nets  # delays torch

            self._net = nets.restore(nets.ScheduleNet(SEQUENCE, STATIC, CLASSES), weights.part("schedule"))

    def outlook(self, regimes: Regimes) -> Outlook:
        """Give each column's distribution of the next change, as it was when the present regime began."""
        if self._net is None:
            return closed_form(regimes)
        from daemon.forecast import nets  # delays torch

        logs = nets.answer(self._net, *describe(regimes))
        return Outlook(*(np.exp(part) / np.exp(part).sum(axis=1, keepdims=True) for part in logs))

    def sample(self, histories: Sequence[History], grids: Sequence[Ints], trajectories: int) -> list[ScheduleSamples]:
        """Draw M trajectories a job over its K future steps: stratified, the same for the same input.

        Every hyperparameter in the history has a path, and every one that is declared. All probabilities are 1 / M.
        """
        if not histories:
            return []
        ahead = grid(grids)
        rows = stack(histories, lambda name: name.startswith("hp."))
        filled = fill(rows)
        now, total = newest(histories), totals(histories)
        stepping = stepwise(rows, filled)
        declared = [declarations(history) for history in histories]
        told = [name in declared[job] for job, name in zip(rows.job, rows.names, strict=True)]
        free = np.flatnonzero(stepping & ~np.array(told, dtype=bool))
        paths = np.empty((len(rows), trajectories, ahead.shape[1]))
        regimes = cut(_take(rows, free), filled[free], now, total)
        earlier = replays(histories, ahead, {(int(rows.job[r]), rows.names[r]): filled[r] for r in free}, trajectories)
        paths[free] = self._walk(regimes, rows, free, ahead, trajectories, histories, earlier)
        smooth = np.flatnonzero(~stepping)
        paths[smooth] = continue_trends(
            rows.steps[smooth], filled[smooth], ahead[rows.job[smooth]], total[rows.job[smooth]]
        )[:, None]
        return _gather(histories, rows, paths, ahead, declared, _unknown(rows, free, regimes, earlier))

    def _walk(
        self,
        regimes: Regimes,
        rows: Rows,
        free: Ints,
        ahead: Floats,
        trajectories: int,
        histories: Sequence[History],
        earlier: dict[int, Replay],
    ) -> Floats:
        jobs = rows.job[free]
        levels = _levels(regimes, jobs, trajectories, histories, earlier)
        areas = np.array([role(rows.names[column], rows.values[column]) == "area" for column in free], dtype=bool)
        farthest = np.where(areas, FARTHEST_AREA, FARTHEST)
        paths = roll(regimes, self.outlook(regimes), ahead[jobs], levels, farthest)
        for row, (job, column) in enumerate(zip(jobs, free, strict=True)):
            replay = earlier.get(int(job))
            if replay is not None and rows.names[column] in replay.paths:
                taken = replay.paths[rows.names[column]]
                paths[row, : len(taken)] = taken
        return paths


def roll(regimes: Regimes, outlook: Outlook, ahead: Floats, levels: Floats, farthest: Floats) -> Floats:
    """Walk each column through its next changes: float64[R, M, K] for ``levels`` float64[R, M, 4] in (0, 1).

    ``farthest`` float64[R] bounds how many times the present level a path may come to, and what part of it.
    The first change comes from the dwell's distribution, given that the present regime has already lasted; the kind,
    the number of further changes and the growth of dwells are drawn once a trajectory and hold along it.
    """
    elapsed, reference = regimes.elapsed, regimes.reference
    first = _first_dwell(outlook.dwell, elapsed, reference, levels[..., 0])
    present = regimes.level[:, -1]
    paths = np.repeat(np.repeat(present[:, None, None], levels.shape[1], axis=1), ahead.shape[1], axis=2)
    row, lane = np.nonzero(np.isfinite(first))
    kind = _draw(outlook.kind, levels[..., 1])[row, lane]
    left = COUNTS[_draw(outlook.count, levels[..., 2])[row, lane]]
    growth = 2.0 ** GROWTHS[_draw(outlook.growth, levels[..., 3])[row, lane]]
    dwell = first[row, lane]
    change = np.maximum(regimes.start[row, -1] + dwell, regimes.now[row] + 1)
    level, before = present[row].copy(), regimes.level[row, -2].copy()
    ratio, difference = steps_of(regimes)
    opening = regimes.level[np.arange(len(regimes)), SLOTS - np.minimum(regimes.count, SLOTS)]
    for turn in range(int(COUNTS[-1])):
        going = np.flatnonzero((left > turn) & (change <= ahead[row, -1]))
        if not len(going):
            break
        r, k = row[going], kind[going]
        fresh = next_level(k, level[going], before[going], ratio[r], difference[r], opening[r])
        fresh = np.clip(np.round(fresh), np.maximum(np.ceil(present[r] / farthest[r]), 1), present[r] * farthest[r])
        before[going], level[going] = level[going], fresh
        later = ahead[r] >= change[going, None]
        paths[r, lane[going]] = np.where(later, fresh[:, None], paths[r, lane[going]])
        dwell[going] = np.maximum(dwell[going] * growth[going], 1.0)
        change[going] += dwell[going]
    return paths


def steps_of(regimes: Regimes) -> tuple[Floats, Floats]:
    """Give the last jump as a ratio and as a difference; 2 and the level itself where there was none."""
    present, before = regimes.level[:, -1], regimes.level[:, -2]
    jumped = regimes.count >= 2
    ratio = np.where(jumped, present / np.maximum(before, 1.0), 2.0)
    return ratio, np.where(jumped, present - before, present)


def next_level(kind: Ints, level: Floats, before: Floats, ratio: Floats, difference: Floats, opening: Floats) -> Floats:
    """Give the level after a change of each kind (an index of ``KINDS``)."""
    fresh = level * RATIOS[kind]
    fresh = np.where(kind == 4, level * ratio, fresh)
    fresh = np.where(kind == 5, level + difference, fresh)
    fresh = np.where((kind == 6) & (before > 0), before, fresh)
    found: Floats = np.where((kind == 7) & (opening > 0), opening, fresh)
    return found


def lasting(dwell: Floats, place: Floats) -> Floats:
    """Give the chance that a regime has changed before ``place`` (log2 of its dwell over the reference): float64[R]."""
    part = np.clip((place[:, None] - EDGES[None, :-1]) / np.diff(EDGES)[None], 0.0, 1.0)
    gone: Floats = (dwell[:, :-1] * part).sum(axis=1)
    return gone


def closed_form(regimes: Regimes) -> Outlook:
    """Give the outlook from counts alone: Dirichlet counts over kinds, a hazard that falls with regularity.

    Used where there are no weights. The counts before any is seen are those of the synthetic family.
    """
    size = len(regimes)
    sequence, _ = describe(regimes)
    changes = np.minimum(regimes.count, SLOTS) - 1
    alike = sequence[:, :, 5].sum(axis=1)
    same = np.maximum(sequence[:, :, 1], sequence[:, :, 2]).sum(axis=1)
    regular = (changes >= 2) & (alike >= np.maximum(changes - 2, 1)) & (same >= changes - 1)
    never = np.select([regular, changes == 0, changes == 1], [0.06, 0.8, 0.75], 0.4)
    middle = (EDGES[1:] + EDGES[:-1]) / 2
    wide = np.exp(-0.5 * (middle / 1.5) ** 2) * np.diff(EDGES)
    near = np.exp(-0.5 * (middle / 0.05) ** 2) * np.diff(EDGES)
    share = np.where(regular, 0.97, np.where(changes >= 1, 0.3, 0.0))[:, None]
    spread = share * near / near.sum() + (1 - share) * wide / wide.sum()
    dwell = np.concatenate([(1 - never)[:, None] * spread, never[:, None]], axis=1)
    kind = np.tile(np.array([4.0, 0.5, 0.3, 0.7, 0.0, 0.0, 0.3, 0.2, 0.5, 0.3]), (size, 1))
    kind /= 1 + 4 * (same > 0)[:, None]
    kind[:, 4] = sequence[:, :, 1].sum(axis=1) * 8 + (changes == 1)
    kind[:, 5] = sequence[:, :, 2].sum(axis=1) * 8 + (changes == 1)
    kind[:, 6] += sequence[:, :, 9].sum(axis=1) * 20
    count = np.tile(np.array([0.45, 0.2, 0.15, 0.1, 0.05, 0.05]), (size, 1))
    growth = np.tile(np.array([0.02, 0.06, 0.06, 0.06, 0.6, 0.06, 0.06, 0.06, 0.02]), (size, 1))
    return Outlook(dwell, kind / kind.sum(axis=1, keepdims=True), count, growth)


def declarations(history: History) -> dict[str, list[tuple[int, float]]]:
    """List the declared changes of each column, ascending by step; later words for one step win."""
    found: dict[str, list[tuple[int, float]]] = {}
    for declared in sorted(history.declared, key=lambda one: one.from_step):
        for name, value in declared.hyperparameters.items():
            if math.isfinite(value):
                column = name if name.startswith("hp.") else f"hp.{name}"
                found.setdefault(column, []).append((declared.from_step, float(value)))
    return found


def follow(changes: Sequence[tuple[int, float]], present: float | None, ahead: Floats) -> Floats:
    """Give the declared value at each step: that of the last change at or before it, else the present one."""
    steps = np.array([step for step, _ in changes], dtype=np.float64)
    values = np.array([changes[0][1] if present is None else present] + [value for _, value in changes])
    followed: Floats = values[np.searchsorted(steps, ahead, side="right")]
    return followed


def _first_dwell(dwell: Floats, elapsed: Floats, reference: Floats, levels: Floats) -> Floats:
    """Draw the present regime's full dwell in steps, infinite for never, given that ``elapsed`` is already over."""
    place = np.log2(np.maximum(elapsed, 1e-9) / reference)
    gone = lasting(dwell, place)
    mass = np.concatenate([np.zeros((len(dwell), 1)), np.cumsum(dwell, axis=1)], axis=1)
    wanted = gone[:, None] + levels * (mass[:, -1] - gone)[:, None]
    bin_ = (mass[:, None, 1:] <= wanted[:, :, None]).sum(axis=2)
    never = bin_ >= BINS
    bin_ = np.minimum(bin_, BINS - 1)
    below = np.take_along_axis(mass, bin_, axis=1)
    inside = (wanted - below) / np.maximum(np.take_along_axis(dwell, bin_, axis=1), 1e-12)
    log = EDGES[bin_] + np.clip(inside, 0.0, 1.0) * np.diff(EDGES)[bin_]
    return np.where(never, np.inf, reference[:, None] * 2.0**log)


def _draw(probability: Floats, levels: Floats) -> Ints:
    mass = np.cumsum(probability, axis=1)
    mass /= mass[:, -1:]
    drawn: Ints = np.minimum((mass[:, None, :] <= levels[:, :, None]).sum(axis=2), probability.shape[1] - 1)
    return drawn


def _levels(
    regimes: Regimes, jobs: Ints, trajectories: int, histories: Sequence[History], earlier: dict[int, Replay]
) -> Floats:
    """Spread the draws: float64[R, M, 4], stratified over the trajectories that no earlier run has taken.

    Columns of one job that last changed together share their order, so that they change together again.
    """
    levels = np.full((len(jobs), trajectories, 4), 0.5)
    orders: dict[tuple[int, float], int] = {}
    counts: dict[int, int] = {}
    alike: dict[tuple[int, int], list[int]] = {}
    for row, job in enumerate(jobs.tolist()):
        together = (job, regimes.start[row, -1] if regimes.count[row] >= 2 else -1.0 - row)
        if together not in orders:
            orders[together] = counts.get(job, 0)
            counts[job] = orders[together] + 1
        taken = earlier[job].taken if job in earlier else 0
        alike.setdefault((taken, orders[together]), []).append(row)
    turns = np.array([(zlib.crc32(histories[job].job.encode()) % 997 + 0.5) / 997 for job in jobs.tolist()])
    for (taken, order), chosen in alike.items():
        if taken < trajectories:
            levels[chosen, taken:] = _lattice(trajectories - taken, order, turns[chosen])
    return levels


def _lattice(count: int, order: int, turns: Floats) -> Floats:
    """Lay ``count`` points in the unit cube, float64[R, count, 4]; the first axis is exactly even (Kronecker).

    ``turns`` float64[R] only turns each row's points, so that no two jobs draw alike.
    """
    primes = (*(1, 29, 41, 53, 67, 83, 97, 113)[order % 8 :], 1)
    step = next(prime for prime in primes if math.gcd(prime, count) == 1)
    index = np.arange(count)
    points = np.empty((len(turns), count, 4))
    points[..., 0] = ((index * step) % count + turns[:, None]) / count
    slopes = np.array([0.7548776662, 0.5698402910, 0.4142135624])
    points[..., 1:] = (np.outer(index + order * 17, slopes)[None] + turns[:, None, None]) % 1.0
    return points


def _unknown(rows: Rows, free: Ints, regimes: Regimes, earlier: dict[int, Replay]) -> dict[int, list[str]]:
    """Name by job the columns whose next change cannot be foretold: under two changes seen, no earlier run to go by."""
    found: dict[int, list[str]] = {}
    for row in np.flatnonzero(regimes.count < 3):
        job = int(rows.job[free[row]])
        replay = earlier.get(job)
        if replay is None or replay.mass < 0.5:
            found.setdefault(job, []).append(rows.names[free[row]])
    return found


def _take(rows: Rows, chosen: Ints) -> Rows:
    names = tuple(rows.names[row] for row in chosen)
    return Rows(rows.job[chosen], names, rows.steps[chosen], rows.values[chosen], rows.seen[chosen])


def _gather(
    histories: Sequence[History],
    rows: Rows,
    paths: Floats,
    ahead: Floats,
    declared: Sequence[dict[str, list[tuple[int, float]]]],
    unknown: dict[int, list[str]],
) -> list[ScheduleSamples]:
    """Hand each job its paths, the declared ones written over."""
    found: list[dict[str, Floats]] = [{} for _ in histories]
    for row, (job, name) in enumerate(zip(rows.job.tolist(), rows.names, strict=True)):
        found[job][name] = paths[row]
    trajectories = paths.shape[1]
    samples = []
    for job, history in enumerate(histories):
        for name, changes in declared[job].items():
            followed = follow(changes, history.last(name), ahead[job])
            found[job][name] = np.repeat(followed[None], trajectories, axis=0)
        probability = np.full(trajectories, 1.0 / trajectories)
        samples.append(
            ScheduleSamples(probability, found[job], tuple(sorted(declared[job])), tuple(sorted(unknown.get(job, ()))))
        )
    return samples
