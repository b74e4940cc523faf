"""Pure decisions: where utilisation is heading: what followed like moments, weighed by a recurrent net."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from daemon.forecast import analogs, spread
from daemon.forecast.analogs import FLOOR, Past
from daemon.forecast.curve import Paths
from daemon.forecast.regimes import drives, last_change
from daemon.forecast.rows import Flags, Rows, grid, newest, stack
from daemon.forecast.schedule import ScheduleSamples
from daemon.forecast.weights_file import Weights
from daemon.types import Floats, History, Ints

BINS = 96
POOL = 4
SEQUENCE = 2 + POOL
STATIC = 15
QUERY = 7
HIDDEN = 32
PLAIN = (1.0, 1.0, 1.0, 0.0, 0.1, 0.3, 0.0, 0.0)
"""How the sources are weighed without a net."""
FARTHEST = 8.0
LONGEST = 64
"""The longest period looked for, in bins."""
MOVED = 0.6
"""A value this far from the newest, in scales, is of another stay."""
WIDTH = 0.1
"""The spread around the pool without a net, in what the most like moments leave open."""
ELSEWHERE = ("usage.memory_gib", "usage.gpu_memory_gib")
"""Memory follows from the hyperparameters and is foretold by its own model."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """R seen series in even bins: ``bins`` float64[R, BINS] scaled by ``mean`` and ``scale``, ``seen`` alike.

    ``period`` int[R] in bins (1: none found) with its autocorrelation ``strength``; ``at`` float64[R] is the newest
    step and ``width`` a bin's steps. ``low`` and ``high`` bound what was ever seen.
    """

    bins: Floats
    seen: Floats
    mean: Floats
    scale: Floats
    period: Ints
    strength: Floats
    at: Floats
    width: Floats
    low: Floats
    high: Floats


class Usages:
    """Foretell utilisation from a series' own past, a net weighing the sources; the regime starts anew at a change."""

    def __init__(self, weights: Weights | None) -> None:
        """Take the net's weights; ``None`` gives the closed form. Raises ``WeightsError`` where they do not fit."""
        self._net = None
        if weights is not None:
            from daemon.forecast import nets  # delays torch

            net = nets.QuantileNet(SEQUENCE, STATIC, QUERY, analogs.SOURCES, HIDDEN, len(spread.LEVELS))
            self._net = nets.restore(net, weights.part("usage"))

    def sample(
        self, histories: Sequence[History], grids: Sequence[Ints], samples: Sequence[ScheduleSamples]
    ) -> list[Paths]:
        """Give each job's usage but memory as (path float64[M, K], deviation float64[M, K]).

        Along a trajectory the deviation widens from the step on at which a hyperparameter that drives resources
        leaves its present level: the regime there has not been seen.
        """
        found: list[Paths] = [{} for _ in histories]
        rows = stack(histories, lambda name: name.startswith("usage.") and name not in ELSEWHERE)
        if not len(rows):
            return found
        trajectories = len(samples[0].probability)
        seen = observe(rows, newest(histories)[rows.job], last_change(histories)[rows.job])
        quantiles = self.quantiles(seen, grid(grids)[rows.job])
        scaled = seen.mean[:, None, None] + seen.scale[:, None, None] * quantiles
        scaled = np.clip(scaled, seen.low[:, None, None], seen.high[:, None, None])
        path = spread.paths(scaled, trajectories)
        outer = spread.outermost(trajectories)
        path[:, outer] = np.clip(path[:, outer], seen.low[:, None, None], seen.high[:, None, None])
        deviation = np.broadcast_to(spread.left(scaled, trajectories)[:, None], path.shape)
        elsewhere = 0.15 * np.abs(scaled[..., len(spread.LEVELS) // 2])
        driving = {name for name in {name for sample in samples for name in sample.paths} if drives(name)}
        leaves = [_leaves(history, sample, driving) for history, sample in zip(histories, samples, strict=True)]
        for row, (job, name) in enumerate(zip(rows.job.tolist(), rows.names, strict=True)):
            away = leaves[job]
            wide = deviation[row]
            if away is not None:
                wide = np.where(away, np.maximum(wide[:1], elsewhere[row]), wide[:1])
            found[job][name] = (path[row], wide)
        return found

    def quantiles(self, seen: Context, ahead: Floats) -> Floats:
        """Give nine quantiles in scales from the mean at future steps: float64[R, K] to float64[R, K, 9]."""
        past, far, near = reach(seen, ahead)
        if self._net is None:
            gate = np.broadcast_to(np.array(PLAIN) / sum(PLAIN), (*far.shape, analogs.SOURCES))
            offsets = spread.normal(np.broadcast_to(WIDTH * unit(past)[:, None], far.shape))
        else:
            from daemon.forecast import nets  # delays torch

            gate, offsets = nets.answer(self._net, sequence(seen), static(seen, past), query(seen, past, far, near))
            offsets = unit(past)[:, None, None] * offsets
        found: Floats = analogs.quantiles(past.values, analogs.pooled(past, near, gate)) + offsets
        return found


def reach(seen: Context, ahead: Floats) -> tuple[Past, Floats, Ints]:
    """Give the weighted past, and steps in bins ahead: as asked float64[R, K], and brought within it int[R, K]."""
    far = np.clip(np.ceil((ahead - seen.at[:, None]) / seen.width[:, None] - 1e-6), 1, 1e9)
    size = np.maximum(BINS - np.argmax(seen.seen > 0, axis=1), 1).astype(np.int64)
    return analogs.past(seen.bins, size), far, analogs.wrapped(far.astype(np.int64), seen.period, size)


def _leaves(history: History, sample: ScheduleSamples, driving: Set[str]) -> Flags | None:
    """Mark where a trajectory has left the present hyperparameters: bool[M, K], or ``None`` where none ever does."""
    away = np.zeros((1, 1), dtype=bool)
    for name in sorted(driving & sample.paths.keys()):
        present = history.last(name)
        if present is not None:
            away = away | (sample.paths[name] != present)
    return away if away.any() else None


def observe(rows: Rows, now: Floats, changed: Floats) -> Context:
    """Lay each series since its last regime change into even bins, newest last, and find its period."""
    fresh = np.logical_and(rows.seen, rows.steps >= changed[:, None])
    kept = np.where(np.any(fresh, axis=1, keepdims=True), fresh, rows.seen)
    gap = _gap(rows)
    width = np.maximum(gap, 1e-9)
    age = np.floor((now[:, None] - rows.steps) / width[:, None] + 1e-6)
    near = np.logical_and(kept, age < BINS)
    inside = np.where(np.any(near, axis=1, keepdims=True), near, kept)
    place = BINS - 1 - np.clip(age, 0, BINS - 1).astype(np.int64)
    largest = np.maximum(np.abs(np.where(inside, rows.values, 0)).max(axis=1), 1e-30)
    size = len(rows)
    flat = (np.arange(size)[:, None] * BINS + place)[inside]
    count = np.bincount(flat, minlength=size * BINS).reshape(size, BINS)
    unit = np.where(inside, rows.values / largest[:, None], 0.0)
    total = np.bincount(flat, unit[inside], minlength=size * BINS).reshape(size, BINS)
    seen = (count > 0).astype(np.float64)
    points = np.maximum(seen.sum(axis=1), 1)
    bins = total / np.maximum(count, 1)
    mean = (bins * seen).sum(axis=1) / points
    spread_ = np.sqrt(((bins - mean[:, None]) ** 2 * seen).sum(axis=1) / points)
    scale = spread_ + 0.02 * np.abs(mean) + 1e-6 + 0.1 * np.abs(mean) / points
    scaled = np.clip((bins - mean[:, None]) / scale[:, None], -FARTHEST, FARTHEST) * seen
    scaled = _carry(scaled, seen)
    period, strength = _period(scaled, seen)
    least, most = (
        np.where(rows.seen, rows.values, np.inf).min(axis=1),
        np.where(rows.seen, rows.values, -np.inf).max(axis=1),
    )
    low = np.where(least >= 0, 0.0, -np.inf)
    high = np.where((most <= 1) & (least >= 0), 1.0, np.maximum(most, 0) * 3 + 1)
    return Context(scaled, seen, mean * largest, scale * largest, period, strength, now, width, low, high)


def _gap(rows: Rows) -> Floats:
    """Give the median distance of neighbouring rows in steps: float64[R]; 1 where there is one row."""
    gaps = np.diff(rows.steps, axis=1)
    if not gaps.shape[1]:
        return np.ones(len(rows))
    ranked = np.sort(np.where(gaps > 0, gaps, np.inf), axis=1)
    count = (gaps > 0).sum(axis=1)
    middle = ranked[np.arange(len(rows)), np.maximum(count - 1, 0) // 2]
    found: Floats = np.where(np.isfinite(middle), middle, 1.0)
    return found


def _carry(scaled: Floats, seen: Floats) -> Floats:
    source = np.maximum.accumulate(np.where(seen > 0, np.arange(BINS), -1), axis=1)
    carried: Floats = np.where(source >= 0, np.take_along_axis(scaled, np.maximum(source, 0), axis=1), 0.0)
    return carried


def _period(scaled: Floats, seen: Floats) -> tuple[Ints, Floats]:
    """Find the period as the highest peak of the autocorrelation that returns at least twice in what was seen."""
    centred = scaled * (np.cumsum(seen, axis=1) > 0)
    power = np.abs(np.fft.rfft(centred, 2 * BINS, axis=1)) ** 2
    shared = np.maximum(np.arange(BINS, 0, -1), 8)[None]
    correlation = np.fft.irfft(power, axis=1)[:, :BINS] / shared
    correlation = correlation / np.maximum(correlation[:, :1], 1e-9)
    body = correlation[:, 2 : LONGEST + 1]
    peak = (body >= correlation[:, 1:LONGEST]) & (body >= correlation[:, 3 : LONGEST + 2])
    lags = np.arange(2, LONGEST + 1)
    allowed = peak & (lags[None] * 1.5 <= seen.sum(axis=1)[:, None])
    score = np.where(allowed, body - 0.001 * lags[None], -1.0)
    best = np.argmax(score, axis=1)
    strength = np.clip(body[np.arange(len(scaled)), best], 0.0, 1.0) * (score[np.arange(len(scaled)), best] > 0.1)
    return np.where(strength > 0, lags[best], 1).astype(np.int64), strength


def sequence(seen: Context) -> Floats:
    """Describe the series to the net, ``POOL`` bins a step: float64[R, BINS / POOL, SEQUENCE]."""
    size = len(seen.bins)
    pooled = seen.bins.reshape(size, BINS // POOL, POOL)
    known = seen.seen.reshape(size, BINS // POOL, POOL).mean(axis=2, keepdims=True)
    return np.concatenate([pooled, known, np.ptp(pooled, axis=2)[..., None]], axis=2)


def static(seen: Context, past: Past) -> Floats:
    """Describe each series as a whole: float64[R, STATIC]."""
    step = np.abs(np.diff(seen.bins, axis=1)).mean(axis=1)
    newest = seen.bins[:, -1]
    below = (past.values <= newest[:, None]).mean(axis=1)
    moved = np.abs(seen.bins[:, ::-1] - newest[:, None]) > MOVED
    stay = np.minimum(np.where(moved.any(axis=1), np.argmax(moved, axis=1), BINS), past.size)
    return np.stack(
        [
            seen.strength,
            seen.period / LONGEST,
            np.log(np.maximum(seen.scale / np.maximum(np.abs(seen.mean), 1e-9), 1e-6)) / 5,
            seen.seen.mean(axis=1),
            step,
            np.median(seen.bins, axis=1),
            seen.bins[:, -24:].mean(axis=1),
            seen.bins[:, -24:].std(axis=1),
            newest,
            below,
            np.log1p(stay) / 5,
            stay / past.size,
            *(np.log(past.least + FLOOR).T / 5),
        ],
        axis=1,
    )


def query(seen: Context, past: Past, far: Floats, near: Ints) -> Floats:
    """Describe what is asked: how many bins ahead, and how much of the likeness reaches there: float64[R, K, QUERY]."""
    beyond = np.take_along_axis(past.beyond, near[:, None], axis=2) / np.maximum(past.beyond[..., :1], 1e-12)
    return np.stack(
        [
            np.minimum(far, 30) / 30,
            np.log1p(np.minimum(far, 90)) / 4,
            np.exp(-far / 2),
            *(np.sqrt(beyond).transpose(1, 0, 2)),
            np.broadcast_to(seen.strength[:, None], far.shape),
        ],
        axis=2,
    )


def unit(past: Past) -> Floats:
    """Give the size of what the most like moments leave open, in scales: float64[R]."""
    found: Floats = np.clip(np.sqrt(past.least[:, 1] + FLOOR), 0.05, 1.0)
    return found
