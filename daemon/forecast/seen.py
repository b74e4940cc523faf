"""Pure decisions: describe what has been seen of a curve, in a form in which all curves look alike.

A curve that was positive throughout is told in logarithms: losses fall by shares, and from 30 as from 3. Any other is
told in parts of its largest value. Then its newest value is 0 and what it has moved through is 1.
"""

from dataclasses import dataclass

import numpy as np

from daemon.forecast.rows import Flags, Rows, fill
from daemon.types import Floats, Ints

BINS = 24
SEQUENCE = 8
STATIC = 23
FARTHEST = 20.0
"""Centres and inputs are held within this many scales."""
SPIKES = 8
"""Under this many points no value is taken for a burst."""
FEW = 3
"""Under this many points a curve has no range yet: its scale is that of its value."""
NEWEST = 9
UP, DOWN = 2.3, 7.0
"""How far beyond all that was seen a positive curve may go, in logarithms."""
BEYOND = 10.0
"""How far beyond all that was seen any other curve may go, in ranges or scales."""
_POWERS = np.array([0.1, 0.25, 0.5, 0.8, 1.2, 2.0])
_MIDDLES = ((np.arange(BINS) + 0.5) / BINS) ** 2


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """R seen curves for the net: ``sequence`` [R, BINS, SEQUENCE], ``static`` [R, STATIC], and what undoes the telling.

    ``last`` and ``scale`` float64[R] are as told, ``size`` float64[R] the largest value. In scales from the last
    value: ``law`` float64[R, 3] (level, amplitude and power of the fitted law), ``tail`` (the newest bin), ``low`` (the
    least), ``recent`` and ``newest`` (medians of the newest nine and three rows), ``slope`` (per length of what was
    seen), ``rough`` (the mean jump from row to row), ``level`` (the value itself: what would be left to fall), all
    float64[R]. ``least`` and ``most`` bound what was seen, as told. ``flat`` marks curves that have never moved.
    """

    sequence: Floats
    static: Floats
    last: Floats
    scale: Floats
    size: Floats
    positive: Flags
    least: Floats
    most: Floats
    law: Floats
    tail: Floats
    low: Floats
    recent: Floats
    newest: Floats
    slope: Floats
    rough: Floats
    level: Floats
    points: Ints
    at: Floats
    total: Floats
    flat: Flags

    def values(self, scaled: Floats) -> Floats:
        """Turn what is told in scales from the last value into values of the column: float64[R, ...] to the same."""
        last, scale, size, least, most = (
            each.reshape(-1, *[1] * (scaled.ndim - 1))
            for each in (self.last, self.scale, self.size, self.least, self.most)
        )
        positive = self.positive.reshape(last.shape)
        reach = BEYOND * np.maximum(most - least, scale)
        told = np.clip(
            last + scale * scaled, least - np.where(positive, DOWN, reach), most + np.where(positive, UP, reach)
        )
        found: Floats = np.where(positive, np.exp(np.where(positive, told, 0.0)), told * size)
        return found

    def scaled(self, values: Floats) -> Floats:
        """Tell values of the column in scales from the last value, within 20: the other way of ``values``."""
        positive = self.positive[:, None]
        told = np.where(
            positive, np.log(np.where(positive, np.maximum(values, 1e-30), 1.0)), values / self.size[:, None]
        )
        found: Floats = np.clip((told - self.last[:, None]) / self.scale[:, None], -FARTHEST, FARTHEST)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """Curves as told: by row and by bin, where each known row falls, and the first, last and extreme values."""

    values: Floats
    filled: Floats
    mean: Floats
    full: Floats
    low: Floats
    high: Floats
    last: Floats
    least: Floats
    most: Floats
    one: Floats
    size: Floats
    positive: Flags
    points: Ints


def partners(rows: Rows) -> Ints:
    """Name the row of the same job's training loss for each other metric, -1 where there is none: int[R]."""
    training = {int(job): row for row, job in reversed(list(enumerate(rows.job))) if "train" in rows.names[row]}
    return np.array(
        [-1 if "train" in name else training.get(int(job), -1) for job, name in zip(rows.job, rows.names, strict=True)],
        dtype=np.int64,
    ).reshape(-1)


def encode(rows: Rows, now: Floats, total: Floats, partner: Ints | None = None) -> Encoded:
    """Describe seen curves: means over bins that are even in the root of the time, scaled by the run itself.

    ``now`` and ``total`` float64[R]; a total may be NaN. ``partner`` int[R] names each row's partner, -1 for none.
    """
    clean = _without_spikes(rows)
    told = _told(rows, clean)
    jumps = np.abs(np.diff(told.filled[:, -NEWEST:], axis=1))
    rough = jumps.mean(axis=1) if jumps.shape[1] else np.zeros(len(rows))
    grain = np.median(jumps, axis=1) if jumps.shape[1] else np.zeros(len(rows))
    spans = np.sort(told.mean, axis=1)
    scale = spans[:, -3] - spans[:, 2] + rough + 1e-6 * told.one + 1e-12
    scale = np.where(told.points < FEW, np.maximum(told.most - told.least, told.one) + 1e-12, scale)

    def scaled(values: Floats) -> Floats:
        found: Floats = np.clip((values - told.last) / scale, -FARTHEST, FARTHEST)
        return found

    relative = np.clip((told.mean - told.last[:, None]) / scale[:, None], -1e6, 1e6)
    held = np.clip(relative, -FARTHEST, FARTHEST)
    times = told.low[:, None] + _MIDDLES * np.maximum(told.high - told.low, 1e-9)[:, None]
    law = _power_law(np.log1p(times), held, told.full)
    recent, newest = (scaled(np.median(told.filled[:, -count:], axis=1)) for count in (NEWEST, 3))
    low, high = scaled(told.least), scaled(told.most)
    slopes = [np.clip(_slope(held, count), -50, 50) for count in (4, 10)]
    known = np.isfinite(total)
    length = np.maximum(np.where(known, total, 1.0), 1.0)[:, None]
    beside, apart = _beside(rows, clean, told, scale, partner)
    sequence = [
        np.arcsinh(relative),
        np.diff(held, axis=1, prepend=held[:, :1]),
        told.full,
        np.where(known[:, None], times / length, 0.0),
        np.log1p(times) / 10,
        np.clip((told.mean - told.last[:, None]) / (told.one[:, None] + 1e-9), -4, 4),
    ]
    static = [
        known,
        np.where(known, np.minimum(now / length[:, 0], 1.0), 0.0),
        np.log(np.maximum(told.points, 1)) / 5,
        (np.log1p(told.high) - np.log1p(told.low)) / 5,
        np.log1p(told.high) / 10,
        np.arcsinh(20 * grain / scale),
        np.arcsinh(20 * rough / scale),
        law[:, 0] / 5,
        law[:, 1] / 5,
        law[:, 2],
        np.clip(np.log10(scale / np.maximum(told.one, 1e-12) + 1e-9) / 3, -3, 3),
        told.positive,
        np.arcsinh(5 * low),
        np.arcsinh(high),
        np.arcsinh(5 * recent),
        np.arcsinh(5 * newest),
        *(np.arcsinh(slope) for slope in slopes),
        np.arcsinh(5 * held[:, -1]),
        _magnitude(told) / 3,
    ]
    return Encoded(
        np.concatenate([np.stack(sequence, axis=2), beside], axis=2),
        np.concatenate([np.stack(static, axis=1).astype(np.float64), apart], axis=1),
        told.last, scale, told.size, told.positive, told.least, told.most, law, held[:, -1], low, recent, newest,
        slopes[1], rough / scale, np.clip(told.one / scale, 0, 10), told.points, np.maximum(now, 0.0), total,
        (told.points >= FEW) & (told.most - told.least <= 1e-12 * np.maximum(np.abs(told.most), 1.0)),
    )  # fmt: skip


def _magnitude(told: _Told) -> Floats:
    """Give the common logarithm of the newest value's size: a loss of 0.69 or 6.9 tells what is being learned.

    Beyond where losses commonly lie it says no more, so that no other column is taken for what it is not.
    """
    value = np.where(told.positive, np.exp(np.where(told.positive, told.last, 0.0)), np.abs(told.last) * told.size)
    found: Floats = np.clip(np.log10(value + 1e-6), -2.0, 1.5)
    return found


def _told(rows: Rows, clean: Floats) -> _Told:
    size, everything = len(rows), np.arange(len(rows))
    newest = rows.values.shape[1] - 1 - np.argmax(rows.seen[:, ::-1], axis=1)
    oldest = np.argmax(rows.seen, axis=1)
    largest = np.maximum(np.abs(np.where(rows.seen, clean, 0.0)).max(axis=1), 1e-30)
    positive = np.where(rows.seen, rows.values, 1.0).min(axis=1) > 0
    values = _tell(clean, rows.seen, positive, largest)
    last = _tell(rows.values[everything, newest][:, None], np.ones((size, 1), bool), positive, largest)[:, 0]
    low, high = rows.steps[everything, oldest], rows.steps[everything, newest]
    mean, full = _bins(values, rows.seen, _places(rows, low, high))
    filled = fill(Rows(rows.job, rows.names, rows.steps, values, rows.seen))
    least, most = np.where(rows.seen, values, np.inf).min(axis=1), np.where(rows.seen, values, -np.inf).max(axis=1)
    one = np.where(positive, 1.0, np.abs(last))
    return _Told(
        values, filled, mean, full, low, high, last, least, most, one, largest, positive, rows.seen.sum(axis=1)
    )


def _tell(values: Floats, seen: Flags, positive: Flags, largest: Floats) -> Floats:
    """Take logarithms of positive curves, parts of the largest value of others; 0 where nothing was seen."""
    logs = np.log(np.where(seen & positive[:, None] & (values > 0), values, 1.0))
    found: Floats = np.where(seen, np.where(positive[:, None], logs, values / largest[:, None]), 0.0)
    return found


def _places(rows: Rows, low: Floats, high: Floats) -> Ints:
    share = np.clip((rows.steps - low[:, None]) / np.maximum(high - low, 1e-9)[:, None], 0, 1)
    return np.minimum((np.sqrt(share) * BINS).astype(np.int64), BINS - 1)


def _beside(rows: Rows, clean: Floats, told: _Told, scale: Floats, partner: Ints | None) -> tuple[Floats, Floats]:
    """Describe each curve's partner in the curve's own scales: [R, BINS, 2] and [R, 3], zero where there is none."""
    sequence, static = np.zeros((len(rows), BINS, 2)), np.zeros((len(rows), 3))
    mine = np.flatnonzero(partner >= 0) if partner is not None else np.zeros(0, dtype=np.int64)
    if partner is None or not len(mine):
        return sequence, static
    theirs = partner[mine]
    seen = rows.seen[theirs]
    values = _tell(clean[theirs], seen, told.positive[mine], told.size[mine])
    places = _places(rows, told.low, told.high)[mine]
    mean, _ = _bins(values, seen, places)
    relative = np.clip((mean - told.last[mine, None]) / scale[mine, None], -1e6, 1e6)
    held = np.clip(relative, -FARTHEST, FARTHEST)
    sequence[mine] = np.stack([np.arcsinh(relative), np.diff(held, axis=1, prepend=held[:, :1])], axis=2)
    moved = np.arcsinh(held[:, -1] - held[:, -5:].mean(axis=1))
    static[mine] = np.stack([np.ones(len(mine)), np.arcsinh(3 * held[:, -1]), moved], axis=1)
    return sequence, static


def _without_spikes(rows: Rows) -> Floats:
    """Bring back into reach what shot far out of a curve that has come back since: float64[R, L].

    In reach is all up to the curve's beginning, and ten interquartile ranges beyond the quartiles. Without this one
    burst to 1e10, most often the very first value, would be the scale of all that follows.
    A curve that is out of reach now is left as it is.
    """
    filled = fill(rows)
    ranked = np.sort(np.where(rows.seen, rows.values, np.inf), axis=1)
    count = rows.seen.sum(axis=1)
    everything = np.arange(len(rows))
    low, high = ranked[everything, count // 4], ranked[everything, np.maximum(3 * count // 4, count // 4)]
    low = np.where(np.isfinite(low), low, 0.0)
    high = np.where(np.isfinite(high), high, low)
    reach = 10 * (high - low)
    first, last = _beginning(rows), filled[:, -1]
    low, high = np.minimum(first, low - reach), np.maximum(first, high + reach)
    inside = (last >= low) & (last <= high) & (count >= SPIKES)
    low, high = np.where(inside, low, -np.inf), np.where(inside, high, np.inf)
    found: Floats = np.clip(rows.values, low[:, None], high[:, None])
    return found


def _beginning(rows: Rows) -> Floats:
    """Give the median of each curve's first three known values, its first of fewer: float64[R]."""
    place = np.cumsum(rows.seen, axis=1)
    opening = np.sort(np.where(rows.seen & (place <= 3), rows.values, np.inf), axis=1)[:, :3]
    middle: Floats = opening[:, -2] if opening.shape[1] > 2 else opening[:, 0]
    return np.where(np.isfinite(middle), middle, opening[:, 0])


def _bins(values: Floats, seen: Flags, place: Ints) -> tuple[Floats, Floats]:
    """Average by bin, carrying over empty ones: the mean, and whether anything fell into the bin."""
    size, shape = len(values), (len(values), BINS)
    flat = (np.arange(size)[:, None] * BINS + place)[seen]
    count = np.bincount(flat, minlength=size * BINS).reshape(shape)
    first = np.bincount(flat, values[seen], minlength=size * BINS).reshape(shape) / np.maximum(count, 1)
    source = np.maximum.accumulate(np.where(count > 0, np.arange(BINS), 0), axis=1)
    source = np.maximum(source, np.argmax(count > 0, axis=1)[:, None])
    return np.take_along_axis(first, source, axis=1), (count > 0).astype(np.float64)


def _slope(held: Floats, count: int) -> Floats:
    """Fit a line through the newest bins: its rise per length of what was seen, float64[R]."""
    at = _MIDDLES[-count:] - _MIDDLES[-count:].mean()
    found: Floats = (held[:, -count:] * at).sum(axis=1) / (at**2).sum()
    return found


def _power_law(middle: Floats, held: Floats, full: Floats) -> Floats:
    """Fit level + amplitude x step^-power by weighted least squares over a few powers: float64[R, 3]."""
    weight = full * np.linspace(0.2, 1.0, BINS)[None]
    weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    reach = middle - middle[:, -1:]
    best = np.zeros((len(held), 3))
    error = np.full(len(held), np.inf)
    mean = (weight * held).sum(axis=1)
    for power in _POWERS:
        base = np.exp(np.clip(-power * reach, 0, 30))
        centre = (weight * base).sum(axis=1)
        part = base - centre[:, None]
        amplitude = (weight * part * held).sum(axis=1) / np.maximum((weight * part**2).sum(axis=1), 1e-9)
        level = mean - amplitude * centre
        misfit = (weight * (held - level[:, None] - amplitude[:, None] * base) ** 2).sum(axis=1)
        better = misfit < error
        best[better] = np.stack([level, amplitude, np.full(len(held), power)], axis=1)[better]
        error[better] = misfit[better]
    best[:, :2] = np.clip(best[:, :2], -FARTHEST, FARTHEST)
    return best
