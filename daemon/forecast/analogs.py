"""Pure decisions: what a series showed in moments like the present one: weights on its own past, pooled to quantiles.

A forecast some bins ahead is a mixture of the series' own values. Those that followed moments like the present one
weigh most (analogues in a delay embedding, Lorenz 1969; at the best lag alone this is the periodic naive forecast);
beside them stand the newest values, all values, the lowest and the highest. Such a pool has the bursts, pauses and
levels that the series has, is as wide as its like moments differ, and needs no whole period.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.forecast.spread import LEVELS
from daemon.types import Floats, Ints

Singles = NDArray[np.float32]

WINDOW = 24
"""How many bins are laid over each other to tell how alike two moments are."""
FADES = (3.0, 6.0, 12.0)
"""How fast older ones of them count less, in bins; one set of analogues each."""
SOFTNESS = 4.0
FLOOR = 1e-3
MOST_AHEAD = 48
"""Beyond this, in bins, a forecast repeats in the series' period."""
ENDS = 0.2
"""The lowest and the highest values are this share of all."""
ANALOGUES, STILLS = len(FADES), 5
SOURCES = ANALOGUES + STILLS
_LEAST = 3
_OVERLAP = 4
"""A lag is used where a quarter of the known bins, at most ``WINDOW``, lies over others: few may match by chance."""
_NEWEST, _RECENT = 1.5, 12.0


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """R series' own values and what weighs them: ``values`` float64[R, B] ascending, ``order`` int[R, B] their bins.

    ``lags`` float32[R, ANALOGUES, B] weighs what came some bins after a like moment, by the lag; ``beyond`` sums it
    over all longer lags. ``stills`` float32[R, STILLS, B] weighs values whatever is asked, in ascending order of the
    values: the newest, the recent ones, all, the lowest, the highest. ``size`` int[R] counts the bins known.
    ``least`` float64[R, ANALOGUES] is the mean square distance of the most like moment.
    """

    values: Floats
    order: Ints
    lags: Singles
    beyond: Singles
    stills: Singles
    size: Ints
    least: Floats


def past(bins: Floats, size: Ints) -> Past:
    """Weigh the past of R series, float64[R, B] newest last, of which the last ``size`` bins are known."""
    width = bins.shape[1]
    known = np.arange(width) >= (width - size)[:, None]
    order = np.argsort(np.where(known, bins, np.inf), axis=1)
    values = np.take_along_axis(bins, order, axis=1)
    rank = np.arange(width)[None]
    values = np.where(rank < size[:, None], values, values[np.arange(len(bins)), size - 1][:, None])
    age = (width - 1 - order).astype(np.float64)
    inside = rank < size[:, None]
    few = np.maximum(np.ceil(ENDS * size), 1)[:, None]
    stills = np.stack(
        [
            np.exp(-age / _NEWEST), np.exp(-age / _RECENT), np.ones_like(age), rank < few,
            (rank >= size[:, None] - few).astype(np.float64),
        ],
        axis=1,
    )  # fmt: skip
    stills = stills * inside[:, None]
    stills /= stills.sum(axis=2, keepdims=True)
    lags, least = likeness(bins, size)
    beyond = np.cumsum(lags[..., ::-1], axis=2)[..., ::-1]
    return Past(values, order, lags, beyond, stills.astype(np.float32), size, least)


def likeness(bins: Floats, size: Ints) -> tuple[Singles, Floats]:
    """Weigh each lag by how like the bins before it are to the newest: float32[R, ANALOGUES, B], 0 where unknown.

    A power of the distance above the least one, in units of the least one: where nothing repeats all lags weigh alike.
    The least distances are given too: float64[R, ANALOGUES], 1 where no lag is known.
    """
    width = bins.shape[1]
    newest = bins[:, ::-1].astype(np.float32)
    padded = np.concatenate([newest, np.zeros((len(bins), WINDOW), np.float32)], axis=1)
    moved = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)[:, :WINDOW]
    apart = np.square(moved - newest[:, :WINDOW, None])
    back, lag = np.arange(WINDOW)[:, None], np.arange(width)[None]
    apart *= back + lag < (size if size.min(initial=width) < width else size[:1])[:, None, None]
    fade = np.exp(-np.arange(WINDOW)[None] / np.array(FADES)[:, None])
    shared = np.concatenate([np.zeros((ANALOGUES, 1)), np.cumsum(fade, axis=1)], axis=1)
    overlap = np.clip(size[:, None] - lag, 0, WINDOW)
    weight = np.maximum(shared[:, overlap].transpose(1, 0, 2), 1e-9)
    distance = np.matmul(fade.astype(np.float32)[None], apart) * fade.sum(axis=1)[None, :, None] / weight**2
    usable = np.logical_and(lag >= 1, lag <= _reach(size)[:, None])
    distance = np.where(usable[:, None], distance, np.inf)
    least = np.where((_reach(size) >= 1)[:, None, None], distance.min(axis=2, keepdims=True), 1.0)
    ratio = 1 + (distance - least) / (SOFTNESS * (least + FLOOR))
    return (1 / (ratio * ratio * ratio)).astype(np.float32), least[..., 0].astype(np.float64)


def _reach(size: Ints) -> Ints:
    """Give the longest lag that is used; below 1 there is none."""
    found: Ints = size - np.clip(size // _OVERLAP, _LEAST, WINDOW)
    return found


def wrapped(far: Ints, period: Ints, size: Ints) -> Ints:
    """Bring horizons int[R, K], in bins, within what was seen, whole periods off: int[R, K] from 1 on."""
    most = np.clip(np.minimum(MOST_AHEAD, size // 2), 1, None)[:, None]
    turns = np.ceil(np.maximum(far - most, 0) / period[:, None]).astype(np.int64)
    near = far - turns * period[:, None]
    found: Ints = np.clip(np.where(near < 1, near + period[:, None], near), 1, np.maximum(_reach(size), 1)[:, None])
    return found


def pooled(seen: Past, near: Ints, gate: Floats) -> Singles:
    """Give each value's share at horizons int[R, K]: float32[R, K, B], ascending by value, each summing to 1.

    ``gate`` float64[R, K, SOURCES] weighs the sources; what is meant for analogues that are not there goes to the
    newest values.
    """
    beyond = np.take_along_axis(seen.beyond, near[:, None], axis=2).transpose(0, 2, 1)
    there = beyond > 0
    mine = np.where(there, gate[..., :ANALOGUES] / np.where(there, beyond, 1.0), 0.0)
    still = gate[..., ANALOGUES:].copy()
    still[..., 0] += np.where(there, 0.0, gate[..., :ANALOGUES]).sum(axis=2)
    width = seen.values.shape[1]
    # By lag: the lags that are asked of stand behind as many zeros as bins lie ahead, so that no lag is out of reach.
    most = int(near.max(initial=1))
    by_lag = np.zeros((*near.shape, width + most), np.float32)
    np.matmul(mine.astype(np.float32), seen.lags, out=by_lag[..., :width])
    place = width - 1 - seen.order[:, None] + near[..., None]
    place += (np.arange(near.size) * (width + most)).reshape(near.shape)[..., None]
    found: Singles = by_lag.ravel()[place]
    found += np.matmul(still.astype(np.float32), seen.stills)
    return found


def quantiles(values: Floats, shares: Singles) -> Floats:
    """Give the quantiles at ``LEVELS`` of weighted values: float64[R, B] and float32[R, K, B] to float64[R, K, 9].

    Each value stands in the middle of its share; between them it is linear.
    """
    width = values.shape[1]
    total = np.cumsum(shares, axis=2)
    asked = total[..., -1:] * np.array(LEVELS, dtype=total.dtype)
    total -= shares / 2
    middle = total.ravel()
    row = (np.arange(len(values) * shares.shape[1]) * width).reshape(shares.shape[:2])[..., None]
    above = _first(middle, row, asked, width)
    low, high = middle[row + above - 1], middle[row + above]
    part = np.clip((asked - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)
    flat = values.ravel()
    below = (np.arange(len(values)) * width)[:, None, None] + above - 1
    found: Floats = flat[below] * (1 - part) + flat[below + 1] * part
    return found


def _first(ranked: Singles, row: Ints, asked: Singles, width: int) -> Ints:
    """Find by halving which of a row's ascending values is the first not below what is asked, at least the second."""
    low, high = np.ones(asked.shape, np.int64), np.full(asked.shape, width - 1)
    for _ in range((width - 1).bit_length()):
        half = (low + high) // 2
        less = ranked[row + half] < asked
        low, high = np.where(less, np.minimum(half + 1, high), low), np.where(less, high, half)
    return low
