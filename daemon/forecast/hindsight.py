"""Pure decisions: how a curve's own past forecasts have fared, and what that says of the next one.

A curve that fell further than was foretold of it twice will mostly do so again. Its present value is foretold from two
earlier moments, and where it came in those forecasts, as a normal score, shifts and widens or narrows the next.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from daemon.forecast.rows import Flags, Rows
from daemon.forecast.spread import LEVELS
from daemon.types import Floats, Ints

ORIGINS = (0.6, 0.8)
"""The earlier moments, as parts of the rows that have been seen."""
LEAST_ROWS = 4
SHIFT = 0.3
OWN, PAST = 0.85, 0.3
"""The next normal score has this part of the mean past one as its mean, and as its variance ``OWN`` and ``PAST`` of the
mean past square: least squares over recorded curves whose group the nets had not seen, each group counting alike."""
MOST = 4.0
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
    mean = np.where(known, every, 0.0).sum(axis=1) / count
    square = np.where(known, every**2, 0.0).sum(axis=1) / count
    told = known.any(axis=1)
    spread = np.where(told, np.sqrt(OWN + PAST * square), 1.0)
    return _read(quantiles, SHIFT * mean[:, None] + spread[:, None] * _SCORES)


def _read(quantiles: Floats, scores: Floats) -> Floats:
    """Read quantiles float64[R, K, 9] at normal scores float64[R, 9], linear between and beyond them."""
    low: Ints = np.clip(np.searchsorted(_SCORES, scores) - 1, 0, len(LEVELS) - 2)
    part = (scores - _SCORES[low]) / (_SCORES[low + 1] - _SCORES[low])
    left = np.take_along_axis(quantiles, low[:, None], axis=2)
    right = np.take_along_axis(quantiles, low[:, None] + 1, axis=2)
    found: Floats = left + part[:, None] * (right - left)
    return found
