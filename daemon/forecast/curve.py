"""Pure decisions: where metrics are heading, as evenly spread quantile paths around an ensemble of simple laws."""

from collections.abc import Sequence

import numpy as np

from daemon.forecast import hindsight, spread
from daemon.forecast import seen as seeing
from daemon.forecast.neighbours import leaned
from daemon.forecast.rows import Rows, grid, newest, stack, totals
from daemon.forecast.schedule import ScheduleSamples
from daemon.forecast.seen import FARTHEST, FEW, SEQUENCE, STATIC, Encoded, encode, partners
from daemon.forecast.weights_file import Weights
from daemon.types import Floats, History, Ints

QUERY = 15
CENTRES = 9
HIDDEN = 48
MEMBERS = 3
"""Networks whose forecasts are mixed; each was taught without a part of the groups."""
LAW, CHANGE, TREND = 5, 6, 8
Paths = dict[str, tuple[Floats, Floats]]


class Curves:
    """Foretell metrics by a gate over last value, newest mean, power law and trend, with recurrent quantiles around."""

    def __init__(self, weights: Weights | None, calibrated: bool = True) -> None:
        """Take the nets' weights; ``None`` gives the closed form. Raises ``WeightsError`` where they do not fit.

        Without ``calibrated`` the past of each curve does not correct its quantiles.
        """
        self._net = None
        self._calibrated = calibrated
        if weights is not None:
            from daemon.forecast import nets  # delays torch

            self._net = nets.restore(
                nets.Members(MEMBERS, SEQUENCE, STATIC, QUERY, CENTRES, HIDDEN, len(spread.LEVELS)),
                weights.part("curve"),
            )

    def sample(
        self, histories: Sequence[History], grids: Sequence[Ints], samples: Sequence[ScheduleSamples]
    ) -> list[Paths]:
        """Give each job's metrics as (path float64[M, K], deviation float64[M, K]), as many as it has schedules.

        Path m stands at an even level of the forecast distribution; the deviation only smooths between neighbours.
        A metric that has never moved may do so on some paths, and is as it was on the others.
        """
        found: list[Paths] = [{} for _ in histories]
        rows = stack(histories, lambda name: name.startswith("metric."))
        if not len(rows):
            return found
        trajectories = len(samples[0].probability)
        ahead = grid(grids)[rows.job]
        total, partner = totals(histories)[rows.job], partners(rows)
        seen = encode(rows, newest(histories)[rows.job], total, partner)
        asked, between = spread.knots(ahead.shape[1])
        told = self.quantiles(seen, ahead[:, list(asked)])
        if self._calibrated:
            told = hindsight.corrected(told, self.places(rows, total, partner, seen))
            lasting = hindsight.lasting(rows, seen, _now(rows), ahead[:, list(asked)])
            told = hindsight.guarded(told, lasting)
        scaled: Floats = np.matmul(told.transpose(0, 2, 1), between[None]).transpose(0, 2, 1)
        path = seen.values(leaned(spread.paths(scaled, trajectories), seen, rows, histories, ahead))
        deviation = spread.left(seen.values(scaled), trajectories)
        still = seen.flat
        last: Floats = seen.values(np.zeros(len(rows)))[:, None]
        path[still] = last[still, None]
        deviation[still] = 0.1 * np.abs(last[still]) + 1e-3
        for row, (job, name) in enumerate(zip(rows.job.tolist(), rows.names, strict=True)):
            wide = 5.0 if histories[job].diverged else 1.0
            around: Floats = np.broadcast_to(wide * deviation[row], path[row].shape)
            found[job][name] = (path[row], around * _moving(seen.points[row], trajectories) if still[row] else around)
        return found

    def places(self, rows: Rows, total: Floats, partner: Ints, seen: Encoded) -> list[Floats]:
        """Say where each curve's newest value came in its own earlier forecasts: normal scores, NaN where unknown."""
        now = _now(rows)[:, None]
        last = seen.values(np.zeros(len(rows)))[:, None]
        found = []
        for share in hindsight.ORIGINS:
            then, begun = hindsight.before(rows, share)
            at = np.where(begun, then.steps[:, -1], now[:, 0])
            past = encode(then, at, total, partner)
            place = hindsight.place_of(self.quantiles(past, now)[:, 0], past.scaled(last)[:, 0])
            found.append(np.where(begun & ~past.flat & (at < now[:, 0]), place, np.nan))
        return found

    def quantiles(self, seen: Encoded, asked: Floats) -> Floats:
        """Give nine quantiles in scales from the last value at future steps: float64[R, K] to float64[R, K, 9]."""
        centre = centres(seen, asked)
        if self._net is None:
            return _closed_form(seen, asked, centre)
        from daemon.forecast import nets  # delays torch

        gate, offsets = nets.answer(self._net, seen.sequence, seen.static, query(seen, asked, centre))
        return combined(gate, offsets, centre, unit(seen, asked))


def _now(rows: Rows) -> Floats:
    """Give the newest step of which a value is known: float64[R]."""
    found: Floats = np.where(rows.seen, rows.steps, 0.0).max(axis=1)
    return found


def _moving(points: int, trajectories: int) -> Floats:
    """Say on which paths a curve may move that never has, float64[M, 1] of 0 and 1.

    Half of what is believed beforehand is that a curve is constant for good, half that it is of any rate of change:
    after n equal values it moves with a chance of 1 / (n + 1). On one path it always does.
    """
    found: Floats = (np.arange(trajectories) < max(round(trajectories / (points + 1)), 1)).astype(np.float64)[:, None]
    return found


def far(seen: Encoded, asked: Floats) -> Floats:
    """Give the horizon in log-steps: float64[R, Q]."""
    found: Floats = np.log1p(asked) - np.log1p(seen.at)[:, None]
    return found


def combined(gate: Floats, offsets: Floats, centre: Floats, scale: Floats) -> Floats:
    """Pool the members' quantiles: gates [E, R, Q, C] and offsets [E, R, Q, 9] to [R, Q, 9]."""
    middle = (gate * centre).sum(axis=3, keepdims=True)
    return spread.pooled(middle + scale[..., None] * offsets)


def centres(seen: Encoded, asked: Floats) -> Floats:
    """Give the simple forecasts in scales: float64[R, Q, CENTRES].

    Last value, newest bin, least value, medians of the newest nine and three rows, power law, the law's change from
    here, a fall by a share of the value itself, and a part of the newest trend.
    """
    horizon = np.clip(far(seen, asked), 0, 20)
    level, amplitude, power = seen.law[:, 0:1], seen.law[:, 1:2], seen.law[:, 2:3]
    fading = np.exp(-power * horizon)
    zero = np.zeros_like(asked)
    every = np.stack(
        [
            zero,
            *(zero + each[:, None] for each in (seen.tail, seen.low, seen.recent, seen.newest)),
            level + amplitude * fading,
            amplitude * (fading - 1),
            -np.minimum(seen.level, 5)[:, None] * (1 - np.exp(-0.5 * horizon)),
            0.3 * seen.slope[:, None] * _lengths(seen, asked),
        ],
        axis=2,
    )
    found: Floats = np.clip(every, -FARTHEST, FARTHEST)
    return found


def _lengths(seen: Encoded, asked: Floats) -> Floats:
    """Give the steps ahead over the steps behind, within 1."""
    found: Floats = np.clip((asked - seen.at[:, None]) / np.maximum(seen.at, 1.0)[:, None], 0, 1)
    return found


def unit(seen: Encoded, asked: Floats) -> Floats:
    """Give the scale of what is uncertain: the newest jumps, what trend and law may move, the value's own size."""
    horizon = np.clip(far(seen, asked), 0, 20)
    change = np.abs(seen.law[:, 1:2]) * (1 - np.exp(-seen.law[:, 2:3] * horizon))
    moving = np.abs(seen.slope)[:, None] * _lengths(seen, asked)
    unknown = np.where(seen.points < FEW, 0.2, 0.0)[:, None] * np.minimum(horizon, 2)
    own = 0.05 * np.minimum(seen.level, 4)[:, None] * (1 - np.exp(-0.5 * horizon))
    found: Floats = (
        0.003 + unknown + own + np.minimum(seen.rough[:, None] + 0.2 * moving + 0.3 * change, seeing.FARTHEST)
    )
    return found


def query(seen: Encoded, asked: Floats, centre: Floats) -> Floats:
    """Describe what is asked: horizon in log-steps and as share of the total, and what the simple laws say."""
    horizon = np.clip(far(seen, asked), 0, 8)
    known = np.isfinite(seen.total)[:, None]
    total = np.maximum(np.where(known, seen.total[:, None], 1.0), 1.0)
    return np.stack(
        [
            horizon,
            np.sqrt(horizon),
            np.where(known, np.minimum((asked - seen.at[:, None]) / total, 1.5), 0.0),
            np.where(known, np.clip(1 - asked / total, -0.5, 1.0), 0.0),
            np.exp(-4 * horizon),
            np.clip(seen.at[:, None] / np.maximum(asked, 1), 0, 1),
            np.log(unit(seen, asked)) / 3,
            *(np.arcsinh(centre[:, :, place]) for place in range(1, CENTRES)),
        ],
        axis=2,
    )


def _closed_form(seen: Encoded, asked: Floats, centre: Floats) -> Floats:
    """Blend last value and the law's change by horizon; the spread grows with the horizon and the noise."""
    horizon = np.clip(far(seen, asked), 0, 8)
    middle = (1 - np.exp(-horizon)) * 0.7 * centre[:, :, CHANGE] + 0.3 * np.minimum(horizon, 1) * centre[:, :, TREND]
    blended: Floats = middle[..., None] + spread.normal(0.8 * unit(seen, asked) + 0.02 * np.sqrt(horizon))
    return blended
