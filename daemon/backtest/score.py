"""Pure decisions: how far forecasts were off. The same figures, from the same seven quantiles, for every method.

CRPS is twice the pinball loss integrated over the levels, each of the seven standing for the levels nearest to it
(Gneiting and Raftery 2007); for a forecast without spread that is its absolute error exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.types import Floats, Ints

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
MIDDLE = 3
NINETY = (0.05, 0.95)
"""The edges of the 90 % interval, which no score but its own coverage looks at."""
MOST = 2.0
"""A scaled loss counts as at most this: a diverged run is one large miss, not 1e30. As little as -1."""

_EDGES = np.concatenate([[0.0], (np.array(LEVELS[1:]) + np.array(LEVELS[:-1])) / 2, [1.0]])


@dataclass(frozen=True, slots=True)
class Scale:
    """How a group's losses are scaled: ``(x - low) / (high - low)``."""

    low: float
    high: float

    def of(self, values: Floats) -> Floats:
        """Scale values, holding them within -1 and ``MOST``."""
        return np.clip((values - self.low) / (self.high - self.low), -1.0, MOST)


def scale(first: Floats, final: Floats) -> Scale:
    """Scale a group from its runs' first and final values: 0 at the best finals (1 %), 1 at the median beginning.

    For a metric that rises, the best finals are the highest. A group that goes nowhere is scaled by its size.
    """
    high = float(np.median(first))
    rising = float(np.median(final)) > high and float(np.percentile(final, 1)) >= high
    low = float(np.percentile(final, 99 if rising else 1))
    if not abs(high - low) > 1e-9 * max(abs(high), abs(low)):
        return Scale(low, low + max(abs(low), 1e-9))
    return Scale(low, high)


def crps(quantiles: Floats, actual: Floats) -> Floats:
    """Give the CRPS of each answer from its seven quantiles: float64[N, 7] and float64[N] to float64[N]."""
    levels = np.array(LEVELS)
    miss = actual[:, None] - quantiles
    found: Floats = 2 * (np.maximum(levels * miss, (levels - 1) * miss) * np.diff(_EDGES)).sum(axis=1)
    return found


def relative(quantiles: Floats, actual: Floats) -> Floats:
    """Give each median's error over the actual value, unknown where that is zero: float64[N]."""
    nonzero = np.abs(actual) > 1e-12
    found: Floats = np.abs(actual - quantiles[:, MIDDLE]) / np.where(nonzero, np.abs(actual), np.nan)
    return found


def inside(quantiles: Floats, actual: Floats, low: int, high: int) -> float:
    """Give the share of actual values between two of the quantiles, a rounding error allowed."""
    slack = 1e-9 * np.maximum(np.abs(actual), 1e-9)
    return float(((actual >= quantiles[:, low] - slack) & (actual <= quantiles[:, high] + slack)).mean())


def summary(
    quantiles: Floats, actual: Floats, raw_quantiles: Floats, raw: Floats, raw_ninety: Floats
) -> dict[str, float | int | None]:
    """Sum up N answers: mae and crps in the scale given; coverages, mape and wql in the column's own units.

    The point forecast is the median. ``raw_ninety`` float64[N, 2] is NaN for a method that does not tell it. ``mape``
    leaves out actual values of zero, ``wql`` is total CRPS over total size.
    """
    off = np.abs(actual - quantiles[:, MIDDLE])
    share = relative(raw_quantiles, raw)
    share = share[np.isfinite(share)]
    size = float(np.abs(raw).sum())
    told = np.isfinite(raw_ninety).all(axis=1)
    return {
        "n": len(actual),
        "mae": float(off.mean()),
        "crps": float(crps(quantiles, actual).mean()),
        "coverage80": inside(raw_quantiles, raw, 1, 5),
        "coverage90": inside(raw_ninety[told], raw[told], 0, 1) if told.any() else None,
        "coverage95": inside(raw_quantiles, raw, 0, 6),
        "mape": float(share.mean()) if len(share) else None,
        "wql": float(crps(raw_quantiles, raw).sum()) / size if size > 0 else None,
    }


def paired(
    ours: Floats, theirs: Floats, clusters: Sequence[str], seed: int, draws: int = 2000
) -> Mapping[str, float | int]:
    """Give the mean difference of losses (ours less theirs) and its 95 % interval, clusters drawn with replacement."""
    names, place = np.unique(np.array(clusters), return_inverse=True)
    count = np.bincount(place, minlength=len(names)).astype(np.float64)
    total = np.bincount(place, ours - theirs, minlength=len(names))
    drawn: Ints = np.random.default_rng(seed).integers(0, len(names), (draws, len(names)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "difference": float((ours - theirs).mean()),
        "low": float(low),
        "high": float(high),
        "clusters": len(names),
    }
