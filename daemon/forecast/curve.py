"""Pure decisions: where metrics are heading, as evenly spread quantile paths around an ensemble of simple laws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.forecast import spread
from daemon.forecast.rows import Flags, Rows, fill, grid, newest, stack, totals
from daemon.forecast.schedule import ScheduleSamples
from daemon.forecast.weights_file import Weights
from daemon.types import Floats, History, Ints

BINS = 24
SEQUENCE = 5
STATIC = 8
QUERY = 10
CENTRES = 5
HIDDEN = 48
FARTHEST = 20.0
"""Everything is told in scales of the seen curve; centres and inputs are held within this many."""
SPIKES = 8
"""Under this many points no value is taken for a burst."""
_POWERS = np.array([0.1, 0.25, 0.5, 0.8, 1.2, 2.0])

Paths = dict[str, tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """R seen curves for the net: ``sequence`` [R, BINS, SEQUENCE], ``static`` [R, STATIC], and what undoes the scaling.

    ``last`` and ``scale`` float64[R]; ``law`` float64[R, 3]: level, amplitude and power of the fitted law, in scales
    from the last value; ``tail`` and ``slope`` float64[R]: the newest bin's mean and the newest trend per log-step.
    ``flat`` marks curves of under three points or without movement.
    """

    sequence: Floats
    static: Floats
    last: Floats
    scale: Floats
    law: Floats
    tail: Floats
    slope: Floats
    at: Floats
    total: Floats
    flat: Flags


class Curves:
    """Foretell metrics by a gate over last value, newest mean, power law and trend, with recurrent quantiles around."""

    def __init__(self, weights: Weights | None) -> None:
        """Take the net's weights; ``None`` gives the closed form. Raises ``WeightsError`` where they do not fit."""
        self._net = None
        if weights is not None:
            from daemon.forecast import nets  # delays torch

            self._net = nets.restore(
                nets.QuantileNet(SEQUENCE, STATIC, QUERY, CENTRES, HIDDEN, len(spread.LEVELS)), weights.part("curve")
            )

    def sample(
        self, histories: Sequence[History], grids: Sequence[Ints], samples: Sequence[ScheduleSamples]
    ) -> list[Paths]:
        """Give each job's metrics as (path float64[M, K], deviation float64[M, K]), as many as it has schedules.

        Path m stands at an even level of the forecast distribution; the deviation only smooths between neighbours,
        but for a metric that is constant or of one point: there it is all that is known, and wide.
        """
        found: list[Paths] = [{} for _ in histories]
        rows = stack(histories, lambda name: name.startswith("metric."))
        if not len(rows):
            return found
        trajectories = len(samples[0].probability)
        ahead = grid(grids)[rows.job]
        seen = encode(rows, newest(histories)[rows.job], totals(histories)[rows.job])
        quantiles = self.quantiles(seen, ahead)
        scaled = seen.last[:, None, None] + seen.scale[:, None, None] * quantiles
        path = spread.paths(scaled, trajectories)
        deviation = spread.left(scaled, trajectories)
        still = seen.flat
        path[still] = seen.last[still, None, None]
        deviation[still] = 0.1 * np.abs(seen.last[still, None]) + 1e-3
        for row, (job, name) in enumerate(zip(rows.job.tolist(), rows.names, strict=True)):
            wide = 5.0 if histories[job].diverged else 1.0
            found[job][name] = (path[row], np.broadcast_to(wide * deviation[row], path[row].shape))
        return found

    def quantiles(self, seen: Encoded, ahead: Floats) -> Floats:
        """Give nine quantiles in scales from the last value at future steps: float64[R, K] to float64[R, K, 9]."""
        places, between = spread.knots(ahead.shape[1])
        asked = ahead[:, list(places)]
        centre = centres(seen, asked)
        if self._net is None:
            found = _closed_form(seen, asked, centre)
        else:
            from daemon.forecast import nets  # delays torch

            gate, offsets = nets.answer(self._net, seen.sequence, seen.static, query(seen, asked, centre))
            found = (gate * centre).sum(axis=2, keepdims=True) + unit(seen, asked)[..., None] * offsets
        full: Floats = np.matmul(found.transpose(0, 2, 1), between[None]).transpose(0, 2, 1)
        return full


def encode(rows: Rows, now: Floats, total: Floats) -> Encoded:
    """Encode seen curves: means over bins that are even in the logarithm of the step, scaled by the run itself."""
    size = len(rows)
    values = np.where(rows.seen, _without_spikes(rows), 0.0)
    log = np.log1p(rows.steps)
    newest_place = rows.values.shape[1] - 1 - np.argmax(rows.seen[:, ::-1], axis=1)
    oldest_place = np.argmax(rows.seen, axis=1)
    everything = np.arange(size)
    low, high = log[everything, oldest_place], log[everything, newest_place]
    last = rows.values[everything, newest_place]
    width = np.maximum(high - low, 1e-9)
    place = np.clip(((log - low[:, None]) / width[:, None] * BINS).astype(np.int64), 0, BINS - 1)
    largest = np.maximum(np.abs(values).max(axis=1), 1e-30)
    mean, noise, filled = _bins(values / largest[:, None], rows.seen, place)
    points = rows.seen.sum(axis=1)
    unit = last / largest
    spans = np.sort(mean, axis=1)
    scale = spans[:, -3] - spans[:, 2] + noise[:, -4:].mean(axis=1) + 1e-6 * np.abs(unit) + 1e-12
    relative = np.clip((mean - unit[:, None]) / scale[:, None], -1e6, 1e6)
    held = np.clip(relative, -FARTHEST, FARTHEST)
    middle = low[:, None] + (np.arange(BINS) + 0.5) / BINS * width[:, None]
    law = _power_law(middle, held, filled)
    slope = np.clip((held[:, -1] - held[:, -7:-2].mean(axis=1)) / np.maximum(4 * width / BINS, 1e-9), -50, 50)
    grain = np.clip(noise / scale[:, None], 0, FARTHEST)
    sequence = np.stack(
        [np.arcsinh(relative), np.diff(held, axis=1, prepend=held[:, :1]), np.log1p(grain), filled, middle / 10], axis=2
    )
    known = np.isfinite(total)
    share = np.where(known, np.minimum(now / np.maximum(np.where(known, total, 1.0), 1.0), 1.0), 0.0)
    static = np.stack(
        [
            known,
            share,
            np.log(np.maximum(points, 1)) / 5,
            width / 5,
            high / 10,
            np.log1p(grain[:, -4:].mean(axis=1)),
            np.clip(law[:, 0] / 5, -4, 4),
            np.clip(np.log10(scale / np.maximum(np.abs(unit), 1e-12) + 1e-9) / 3, -3, 3),
        ],
        axis=1,
    ).astype(np.float64)
    still = (points < 3) | (np.ptp(np.where(rows.seen, values, last[:, None]), axis=1) <= 1e-12 * largest)
    return Encoded(sequence, static, last, scale * largest, law, held[:, -1], slope, np.maximum(now, 0.0), total, still)


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


def _bins(values: Floats, seen: Flags, place: Ints) -> tuple[Floats, Floats, Floats]:
    """Average by bin, carrying over empty ones: mean, deviation, and whether anything fell into the bin."""
    size = len(values)
    flat = (np.arange(size)[:, None] * BINS + place)[seen]
    shape = (size, BINS)
    count = np.bincount(flat, minlength=size * BINS).reshape(shape)
    first = np.bincount(flat, values[seen], minlength=size * BINS).reshape(shape) / np.maximum(count, 1)
    square = np.bincount(flat, values[seen] ** 2, minlength=size * BINS).reshape(shape) / np.maximum(count, 1)
    noise = np.sqrt(np.maximum(square - first**2, 0.0))
    source = np.maximum.accumulate(np.where(count > 0, np.arange(BINS), 0), axis=1)
    mean = np.take_along_axis(first, source, axis=1)
    return mean, np.take_along_axis(noise, source, axis=1), (count > 0).astype(np.float64)


def _power_law(middle: Floats, held: Floats, filled: Floats) -> Floats:
    """Fit level + amplitude x step^-power by weighted least squares over a few powers: float64[R, 3]."""
    weight = filled * np.linspace(0.2, 1.0, BINS)[None]
    weight = weight / weight.sum(axis=1, keepdims=True)
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


def centres(seen: Encoded, asked: Floats) -> Floats:
    """Give the simple forecasts in scales: last value, newest mean, power law, the law's change, half the trend."""
    far = np.log1p(asked) - np.log1p(seen.at)[:, None]
    level, amplitude, power = seen.law[:, 0:1], seen.law[:, 1:2], seen.law[:, 2:3]
    law = level + amplitude * np.exp(-power * np.clip(far, 0, 20))
    change = amplitude * (np.exp(-power * np.clip(far, 0, 20)) - 1)
    zero = np.zeros_like(asked)
    every = np.stack(
        [zero, zero + seen.tail[:, None], law, change, 0.5 * seen.slope[:, None] * np.clip(far, 0, 3)], axis=2
    )
    found: Floats = np.clip(every, -FARTHEST, FARTHEST)
    return found


def unit(seen: Encoded, asked: Floats) -> Floats:
    """Give the scale of what is uncertain: the newest noise, and what trend and law say may still move."""
    far = np.log1p(asked) - np.log1p(seen.at)[:, None]
    grain = np.expm1(seen.static[:, 5])[:, None]
    moving = np.abs(seen.slope)[:, None] * np.clip(far, 0, 2)
    change = np.abs(seen.law[:, 1:2]) * (1 - np.exp(-seen.law[:, 2:3] * np.clip(far, 0, 20)))
    found: Floats = 0.005 + np.minimum(grain + 0.5 * moving + 0.3 * change, FARTHEST)
    return found


def query(seen: Encoded, asked: Floats, centre: Floats) -> Floats:
    """Describe what is asked: horizon in log-steps and as share of the total, and what the simple laws say."""
    far = np.clip(np.log1p(asked) - np.log1p(seen.at)[:, None], 0, 8)
    known = np.isfinite(seen.total)[:, None]
    total = np.maximum(np.where(known, seen.total[:, None], 1.0), 1.0)
    return np.stack(
        [
            far,
            np.sqrt(far),
            np.where(known, np.minimum((asked - seen.at[:, None]) / total, 1.5), 0.0),
            np.where(known, np.clip(1 - asked / total, -0.5, 1.0), 0.0),
            np.exp(-4 * far),
            np.log(unit(seen, asked)) / 3,
            *(np.arcsinh(centre[:, :, place]) for place in range(1, CENTRES)),
        ],
        axis=2,
    )


def _closed_form(seen: Encoded, asked: Floats, centre: Floats) -> Floats:
    """Blend last value and the law's change by horizon; the spread grows with the horizon and the noise."""
    far = np.clip(np.log1p(asked) - np.log1p(seen.at)[:, None], 0, 8)
    middle = (1 - np.exp(-far)) * 0.7 * centre[:, :, 3] + 0.3 * np.minimum(far, 1) * centre[:, :, 4]
    blended: Floats = middle[..., None] + spread.normal(0.8 * unit(seen, asked) + 0.02 * np.sqrt(far))
    return blended
