"""Pure decisions: the forecasts to beat. Each gives a point; what it missed on the part seen gives its interval.

A point forecast's spread is that of its own misses when it is asked, at 50, 70 and 90 % of what was seen, for the
newest value seen: normal, growing as the square root of the horizon in log-steps, as the misses are told in. Under
four known values it is a tenth of the newest one.

For ``elapsed_s`` every method foretells the time of a step, and the total is its sum over the steps that are left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from daemon.backtest.history import Run
from daemon.backtest.question import ELAPSED, Question
from daemon.backtest.score import LEVELS, NINETY
from daemon.types import Floats

ORIGINS = (0.5, 0.7, 0.9)
POINTS = 64
FEW = 4
LONGEST = 96
NEIGHBOURS = 5
_POWERS = np.array([0.1, 0.25, 0.5, 0.8, 1.2, 2.0])

Point = Callable[[Floats, Floats, Floats], Floats]
"""From known steps and values, both float64[n], foretell values at later steps: float64[P] to float64[P]."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A method's forecast: ``mean`` float64[P], ``quantiles`` float64[P, 7] at ``score.LEVELS``, ``ninety`` [P, 2]."""

    mean: Floats
    quantiles: Floats
    ninety: Floats | None = None

    def told(self) -> Floats:
        """Give the edges of the 90 % interval, unknown where the method does not tell them."""
        return np.full((len(self.mean), 2), np.nan) if self.ninety is None else self.ninety


def last_value(steps: Floats, values: Floats, asked: Floats) -> Floats:
    """Let the present persist."""
    return np.full(len(asked), values[-1])


def context_median(steps: Floats, values: Floats, asked: Floats) -> Floats:
    """Take the median of all that was seen."""
    return np.full(len(asked), float(np.median(values)))


def mean_so_far(steps: Floats, values: Floats, asked: Floats) -> Floats:
    """Take the mean of all that was seen, a row weighing as many steps as it stands for."""
    width = np.diff(steps, prepend=2 * steps[0] - steps[1]) if len(steps) > 1 else np.ones(1)
    return np.full(len(asked), float((values * width).sum() / width.sum()))


def linear_trend(steps: Floats, values: Floats, asked: Floats) -> Floats:
    """Go on along the line of least squares through all that was seen."""
    middle, level = steps.mean(), values.mean()
    spread = ((steps - middle) ** 2).sum()
    slope = ((steps - middle) * (values - level)).sum() / spread if spread > 0 else 0.0
    line: Floats = level + slope * (asked - middle)
    return line


def power_law(steps: Floats, values: Floats, asked: Floats) -> Floats:
    """Go on along ``level + amplitude x step^-power``, least squares over six powers; the last value under 4 rows."""
    if len(steps) < FEW:
        return last_value(steps, values, asked)
    reach = np.log1p(steps - steps[0])
    base = np.exp(-_POWERS[:, None] * reach[None])
    part = base - base.mean(axis=1, keepdims=True)
    amplitude = (part * values).sum(axis=1) / np.maximum((part**2).sum(axis=1), 1e-12)
    level = values.mean() - amplitude * base.mean(axis=1)
    with np.errstate(over="ignore"):
        misfit = ((values - level[:, None] - amplitude[:, None] * base) ** 2).sum(axis=1)
    best = int(np.argmin(np.where(np.isfinite(misfit), misfit, np.inf)))
    law: Floats = level[best] + amplitude[best] * np.exp(-_POWERS[best] * np.log1p(asked - steps[0]))
    return law


def periodic_naive(steps: Floats, values: Floats, asked: Floats) -> Floats:
    """Repeat the last period, found as the highest peak of the autocorrelation; the last value where there is none."""
    gap = float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
    bins = _even(steps, values, max(gap, 1e-9))
    period = _period(bins)
    ahead = np.ceil(np.maximum(asked - steps[-1], 0.0) / max(gap, 1e-9) - 1e-6).astype(np.int64)
    return np.asarray(bins[len(bins) - period + np.maximum(ahead - 1, 0) % period], dtype=np.float64)


def _even(steps: Floats, values: Floats, gap: float) -> Floats:
    """Lay values on an even grid that ends with the newest, at most ``LONGEST`` long."""
    count = int(min(np.floor((steps[-1] - steps[0]) / gap + 1e-6) + 1, LONGEST))
    return np.asarray(np.interp(steps[-1] - gap * np.arange(count - 1, -1, -1), steps, values))


def _period(bins: Floats) -> int:
    size = len(bins)
    if size < 6 or not np.ptp(bins) > 0:
        return 1
    centred = (bins - bins.mean()) / np.ptp(bins)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(centred, 2 * size)) ** 2)[: size // 2 + 2]
    correlation = correlation / (size - np.arange(len(correlation)))
    correlation /= max(correlation[0], 1e-30)
    body = correlation[2:-1]
    peaks = (body >= correlation[1:-2]) & (body >= correlation[3:]) & (body > 0.1)
    return int(np.argmax(np.where(peaks, body - 0.001 * np.arange(len(body)), -1.0))) + 2 if peaks.any() else 1


SIMPLE: Mapping[str, Point] = {
    "last_value": last_value,
    "context_median": context_median,
    "linear_trend": linear_trend,
    "mean_so_far": mean_so_far,
    "power_law": power_law,
    "periodic_naive": periodic_naive,
}


def series(run: Run, target: str, size: int) -> tuple[Floats, Floats]:
    """Give the known steps and values of what a method foretells: the column, or for ``elapsed_s`` the step time."""
    values = run.column("step_seconds" if target == ELAPSED else target)[:size]
    known = np.isfinite(values)
    return run.step[:size][known], values[known]


def answer(point: Point, question: Question) -> Answer | None:
    """Let a point forecaster answer a question, with its interval; ``None`` where it has nothing to go by."""
    steps, values = series(question.run, question.target, question.size)
    if not len(steps):
        return None
    base = float(question.column(ELAPSED)[np.isfinite(question.column(ELAPSED))][-1]) if _total(question) else 0.0
    middle = base + foretold(point, question, steps, values, question.now, question.steps)
    return around(_held(middle, values, base, question), _rate(point, question, steps, values), question)


def _total(question: Question) -> bool:
    return question.target == ELAPSED


def foretold(point: Point, question: Question, steps: Floats, values: Floats, now: float, asked: Floats) -> Floats:
    """Foretell values at ``asked``, or for ``elapsed_s`` the seconds from ``now`` until then."""
    if not _total(question):
        return np.nan_to_num(point(steps, values, asked), nan=float(values[-1]))
    edges = np.linspace(now, max(float(asked.max()), now + 1e-9), POINTS + 1)
    rates = np.maximum(point(steps, values, (edges[1:] + edges[:-1]) / 2), 0.0)
    passed = np.concatenate([[0.0], np.cumsum(rates * np.diff(edges))])
    return np.asarray(np.interp(asked, edges, passed), dtype=np.float64)


def _held(middle: Floats, values: Floats, base: float, question: Question) -> Floats:
    """Keep extrapolations within reason: ten times the seen range beyond it, or for times within 1e3 of persistence."""
    if _total(question):
        most = float(values.max()) * (question.steps - question.now) * 1e3
        return np.clip(middle, base, base + most)
    wide = 10 * (np.ptp(values) + 1e-3 * np.abs(values).max() + 1e-12)
    return np.clip(middle, values.min() - wide, values.max() + wide)


def _log_ahead(question: Question, now: float, asked: Floats) -> Floats:
    first = float(question.run.step[0])
    far = np.log1p(np.maximum(asked - first, 0.0)) - np.log1p(max(now - first, 0.0))
    return np.asarray(np.maximum(far, 1e-3), dtype=np.float64)


def _rate(point: Point, question: Question, steps: Floats, values: Floats) -> Floats:
    """Give the deviation at the asked steps, float64[P], from misses on what was seen."""
    ahead = _log_ahead(question, question.now, question.steps)
    if len(steps) < FEW:
        span = question.steps - question.now if _total(question) else np.ones(len(ahead))
        return np.asarray(0.1 * abs(float(values[-1])) * span + 1e-12)
    squares = []
    for origin in ORIGINS:
        cut = min(max(round(origin * len(steps)), 2), len(steps) - 1)
        asked = steps[-1:]
        then = foretold(point, question, steps[:cut], values[:cut], float(steps[cut - 1]), asked)
        came = _came(steps, values, cut) if _total(question) else values[-1]
        with np.errstate(over="ignore"):
            squares.append(float((then[0] - came) ** 2 / _log_ahead(question, float(steps[cut - 1]), asked)[0]))
    rate = float(np.mean(np.minimum(squares, 1e300)))
    return np.asarray(np.sqrt(rate * ahead) + 1e-12)


def _came(steps: Floats, values: Floats, cut: int) -> float:
    """Give the seconds that really passed between two known steps."""
    return float((values[cut:] * np.diff(steps)[cut - 1 :]).sum())


def around(middle: Floats, deviation: Floats, question: Question) -> Answer:
    """Put normal quantiles around a point forecast; a time never ends before now."""
    quantiles = middle[:, None] + np.minimum(deviation, 1e150)[:, None] * ndtri(np.array((*LEVELS, *NINETY)))
    if _total(question):
        known = question.column(ELAPSED)
        quantiles = np.maximum(quantiles, known[np.isfinite(known)][-1])
    return Answer(middle, quantiles[:, : len(LEVELS)], quantiles[:, len(LEVELS) :])


def nearest(question: Question, candidates: Sequence[Run]) -> Answer | None:
    """Answer by the five earlier runs of the group that were most alike so far: their change from here, scaled.

    Runs are laid over each other by share of their length; what they did from there on, relative to this run's last
    value (for times: to its own pace), is the forecast, each run weighing the inverse of its distance.
    """
    steps, values = series(question.run, question.target, question.size)
    if not len(steps) or not candidates:
        return None
    share = np.linspace(0.0, question.now / max(question.total, 1), 17)[1:]
    mine = np.interp(share * question.total, steps, values)
    found: list[tuple[float, Floats]] = []
    for run in candidates:
        then = _continued(question, run, share, mine)
        if then is not None:
            found.append(then)
    if not found:
        return None
    found.sort(key=lambda one: one[0])
    near = found[:NEIGHBOURS]
    weights = 1.0 / (np.array([distance for distance, _ in near]) + 0.05 * (near[-1][0] + 1e-9))
    weights /= weights.sum()
    ends = np.array([end for _, end in near])
    return weighted(np.asarray(weights @ ends), ends, weights)


def _continued(question: Question, run: Run, share: Floats, mine: Floats) -> tuple[float, Floats] | None:
    """Give an earlier run's distance, and this run's future if it goes on as that one did; ``None`` if unfit."""
    steps, values = series(run, question.target, len(run))
    if len(steps) < 2 or run is question.run:
        return None
    length = float(run.step[-1])
    past = np.interp(share * length, steps, values)
    distance = float(np.sqrt(np.mean((past - mine) ** 2))) / (float(np.ptp(mine)) + 1e-9 + 0.01 * abs(float(mine[-1])))
    asked = question.steps / max(question.total, 1) * length
    if _total(question):
        pace = float(mine[-1]) / max(float(past[-1]), 1e-12)
        edges = np.linspace(question.now, float(question.steps.max()), POINTS + 1)
        rates = np.interp((edges[1:] + edges[:-1]) / 2 / max(question.total, 1) * length, steps, values) * pace
        known = question.column(ELAPSED)
        passed = np.concatenate([[0.0], np.cumsum(rates * np.diff(edges))])
        return distance, known[np.isfinite(known)][-1] + np.interp(question.steps, edges, passed)
    end = float(mine[-1]) + np.interp(asked, steps, values) - float(past[-1])
    return (distance, end) if np.isfinite(end).all() and np.isfinite(distance) else None


def weighted(mean: Floats, points: Floats, weights: Floats) -> Answer:
    """Answer with the quantiles of weighted points float64[N, P], linear between their middles."""
    order = np.argsort(points, axis=0, kind="stable")
    ranked = np.take_along_axis(points, order, axis=0)
    mass = np.cumsum(weights[order], axis=0) - weights[order] / 2
    levels = (*LEVELS, *NINETY)
    found = np.array([np.interp(levels, mass[:, place], ranked[:, place]) for place in range(points.shape[1])])
    return Answer(mean, found[:, : len(LEVELS)], found[:, len(LEVELS) :])
