"""Pure decisions: how a curve's own past forecasts have fared, and what that says of the next one.

A curve that fell further than was foretold of it twice will mostly do so again. Its present value is foretold from two
earlier moments, and where it came in those forecasts, as a normal score, shifts and widens or narrows the next. A part
of every forecast is that the present lasts, as far off as it would have been at earlier moments of the same curve: that
guards against shapes which no net knows.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from daemon.forecast.rows import Flags, Rows
from daemon.forecast.seen import Encoded
from daemon.forecast.spread import LEVELS, POOLED, normal, pooled
from daemon.types import Floats, Ints

ORIGINS = (0.6, 0.8)
"""The earlier moments, as parts of the rows that have been seen."""
LEAST_ROWS = 4
SHIFT, SURPRISE = 0.2, 1.0
"""The next normal score has this part of the mean past one as its mean, each held within ``SURPRISE``: a greater
surprise says that the curve has turned, and not how far it will go on."""
OWN, PAST = 0.7, 0.2
"""The variance of the next normal score: ``OWN``, and ``PAST`` of the mean past square."""
LASTING = 8
"""The points, beside the 32 of the nets (``spread.POOLED``), by which the last value stands in the mixture: a fifth."""
LASTED = (0.4, 0.6, 0.8)
"""The earlier moments at which the last value is tried."""
MOST = 4.0
NEAR, FARTHER = 0.5, 3.0
"""Beyond the first horizon, in log-steps, the misses of the last value are taken to grow so much faster than its root:
a little of a run tells nothing of a turn to come."""
_SCORES = ndtri(LEVELS)


def before(rows: Rows, share: float) -> tuple[Rows, Flags]:
    """Give the rows as they stood when a part of each job's rows had been seen, and which of them had begun by then.

    A row that had not, or of a job of under ``LEAST_ROWS`` rows, stays as it is.
    """
    length = rows.values.shape[1]
    oldest = np.argmax(rows.seen, axis=1)
    start = np.full(int(rows.job.max(initial=0)) + 1, length)
    np.minimum.at(start, rows.job, oldest)
    first = start[rows.job]
    count = length - first
    gone = count - np.maximum(np.round(share * count), 1).astype(np.int64)
    place = np.arange(length)[None] - gone[:, None]
    source = np.maximum(place, 0)
    seen = np.take_along_axis(rows.seen, source, axis=1) & (place >= 0)
    begun: Flags = np.asarray(seen.any(axis=1) & (count >= LEAST_ROWS))
    steps, values = (
        np.where(begun[:, None], np.take_along_axis(each, source, axis=1), each) for each in (rows.steps, rows.values)
    )
    return Rows(rows.job, rows.names, steps, values, np.where(begun[:, None], seen, rows.seen)), begun


def place_of(quantiles: Floats, came: Floats) -> Floats:
    """Give the normal score at which came lies among nine quantiles: float64[R, 9] and float64[R] to float64[R]."""
    rising = np.maximum.accumulate(quantiles + 1e-9 * np.arange(len(LEVELS)), axis=1)
    low = np.clip((rising < came[:, None]).sum(axis=1) - 1, 0, len(LEVELS) - 2)
    everything = np.arange(len(came))
    left, right = rising[everything, low], rising[everything, low + 1]
    part = (came - left) / np.maximum(right - left, 1e-12)
    found: Floats = np.clip(_SCORES[low] + part * (_SCORES[low + 1] - _SCORES[low]), -MOST, MOST)
    return found


def corrected(quantiles: Floats, places: Sequence[Floats]) -> Floats:
    """Shift and stretch quantiles float64[R, K, 9] by the places of the past, each float64[R], NaN where unknown."""
    every = np.stack(places, axis=1)
    known = np.isfinite(every)
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, np.clip(every, -SURPRISE, SURPRISE), 0.0).sum(axis=1) / count
    square = np.where(known, every**2, 0.0).sum(axis=1) / count
    told = known.any(axis=1)
    spread = np.where(told, np.sqrt(OWN + PAST * square), 1.0)
    return _read(quantiles, SHIFT * mean[:, None] + spread[:, None] * _SCORES)


def lasting(rows: Rows, seen: Encoded, now: Floats, ahead: Floats) -> Floats:
    """Give the deviation of the last value at future steps, in scales: float64[R, K], NaN where nothing tells it.

    ``now`` float64[R] is the newest step seen. The misses of the last value from earlier moments grow with the root of
    the horizon in log-steps, and faster beyond ``NEAR``.
    """
    square, count = np.zeros(len(rows)), np.zeros(len(rows))
    for share in LASTED:
        then, begun = before(rows, share)
        newest = then.values.shape[1] - 1 - np.argmax(then.seen[:, ::-1], axis=1)
        value = then.values[np.arange(len(rows)), newest]
        at = then.steps[:, -1]
        known = begun & (at < now) & np.isfinite(value)
        miss = seen.scaled(np.where(known, value, 1.0)[:, None])[:, 0]
        far = np.log1p(now) - np.log1p(np.minimum(at, now))
        square += np.where(known, miss**2 / np.maximum(far, 1e-3), 0.0)
        count += known
    rate = np.where(count > 0, square / np.maximum(count, 1), np.nan)
    horizon = np.maximum(np.log1p(ahead) - np.log1p(now)[:, None], 1e-3)
    found: Floats = np.sqrt(rate[:, None] * horizon) * (1 + FARTHER * np.maximum(horizon - NEAR, 0))
    return found


def guarded(quantiles: Floats, deviation: Floats) -> Floats:
    """Mix the last value, normal with these deviations float64[R, K], into quantiles float64[R, K, 9]."""
    known = np.isfinite(deviation).all(axis=1)
    found = quantiles.copy()
    if known.any():
        found[known] = pooled([quantiles[known], normal(deviation[known])], (POOLED, LASTING))
    return found


def _read(quantiles: Floats, scores: Floats) -> Floats:
    """Read quantiles float64[R, K, 9] at normal scores float64[R, 9], linear between and beyond them."""
    low: Ints = np.clip(np.searchsorted(_SCORES, scores) - 1, 0, len(LEVELS) - 2)
    part = (scores - _SCORES[low]) / (_SCORES[low + 1] - _SCORES[low])
    left = np.take_along_axis(quantiles, low[:, None], axis=2)
    right = np.take_along_axis(quantiles, low[:, None] + 1, axis=2)
    found: Floats = left + part[:, None] * (right - left)
    return found
