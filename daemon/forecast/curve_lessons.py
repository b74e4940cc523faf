"""Pure decisions: turn whole curves, recorded and made up, into lessons: what was seen, and what came."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from daemon.forecast import curve
from daemon.forecast.lessons import LONGEST
from daemon.forecast.prior import Random, Series
from daemon.forecast.rows import Flags, Rows
from daemon.forecast.seen import UP, Encoded, encode
from daemon.types import Floats, Ints

ASKED = 4
MOST, LEAST = 2.0, -1.0
"""What came counts as at most and at least this in its group's scale, as in the backtest's score."""
FEWEST_THINNED = 3
_PART = 2000


@dataclass(frozen=True, slots=True, eq=False)
class CurveLessons:
    """R cut curves: the net's inputs, what undoes the telling, and what came at ``ASKED`` later points.

    ``target`` float64[R, ASKED] is what came in scales from the last value, ``came`` the same in its group's scale
    (``low`` is 0, ``low + width`` 1). ``horizon`` is in log-steps.
    """

    sequence: Floats
    static: Floats
    query: Floats
    centre: Floats
    unit: Floats
    horizon: Floats
    last: Floats
    scale: Floats
    size: Floats
    positive: Flags
    highest: Floats
    now: Floats
    target: Floats
    came: Floats
    low: Floats
    width: Floats

    def __len__(self) -> int:
        return len(self.last)

    def take(self, places: Ints) -> "CurveLessons":
        """Give the lessons at these places."""
        return CurveLessons(*(getattr(self, each.name)[places] for each in fields(self)))


def joined(parts: Sequence[CurveLessons]) -> CurveLessons:
    """Put lessons together."""
    return CurveLessons(
        *(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(CurveLessons))
    )


def scale_of(series: Sequence[Series]) -> tuple[float, float]:
    """Give the scale of a group's curves: (low, width), from the best finals (1 %) to the median beginning.

    As in the backtest's score, but told from below for a metric that rises, whose best finals are the highest.
    """
    first = np.array([one.values[0] for one in series])
    final = np.array([one.values[-1] for one in series])
    high = float(np.median(first))
    rising = float(np.median(final)) > high and float(np.percentile(final, 1)) >= high
    low = float(np.percentile(final, 99 if rising else 1))
    if not abs(high - low) > 1e-9 * max(abs(high), abs(low)):
        return low, max(abs(low), 1e-9)
    return min(low, high), abs(high - low)


def curve_lessons(series: Sequence[Series], random: Random, scales: Sequence[tuple[float, float]]) -> CurveLessons:
    """Cut each curve at a random moment and ask ``ASKED`` later points, half of them the final one.

    One curve in four is thinned to 3 to 40 rows first, and one in eight told in other units; in three of twenty the
    total stays untold, and one in sixteen is turned over, so that rising metrics, and values that are not positive,
    are known too.
    """
    parts = []
    for place in range(0, len(series), _PART):
        varied = [
            _varied(one, pair, random)
            for one, pair in zip(series[place : place + _PART], scales[place : place + _PART], strict=True)
        ]
        parts.append(_cut([one for one, _ in varied], [pair for _, pair in varied], random))
    return joined(parts)


def _varied(one: Series, pair: tuple[float, float], random: Random) -> tuple[Series, tuple[float, float]]:
    rows = len(one.steps)
    if random.random() < 0.25 and rows > FEWEST_THINNED:
        count = int(np.exp(random.uniform(np.log(FEWEST_THINNED), np.log(min(rows, 40)))))
        places = np.unique(np.round(np.linspace(random.integers(0, 2), rows - 1, count)).astype(np.int64))
        partner = None if one.partner is None else one.partner[places]
        one = replace(one, steps=one.steps[places], values=one.values[places], partner=partner)
    if random.random() < 1 / 8:
        times = 10 ** random.uniform(-3, 3)
        partner = None if one.partner is None else one.partner * times
        one = replace(one, values=one.values * times, partner=partner)
        pair = (pair[0] * times, pair[1] * times)
    if random.random() < 1 / 16:
        one, pair = replace(one, values=-one.values, partner=None), (-pair[0] - pair[1], pair[1])
    return one, pair


def _cut(series: Sequence[Series], scales: Sequence[tuple[float, float]], random: Random) -> CurveLessons:
    cuts, ahead, came = [], np.empty((len(series), ASKED)), np.empty((len(series), ASKED))
    for row, one in enumerate(series):
        share = one.steps[0] + random.uniform(0.05, 0.95) * (one.steps[-1] - one.steps[0])
        cut = int(np.clip(np.searchsorted(one.steps, share, side="right"), 1, len(one.steps) - 1))
        picked = np.append(random.integers(cut, len(one.steps), ASKED - 2), [len(one.steps) - 1] * 2)
        cuts.append(cut)
        ahead[row], came[row] = one.steps[picked], one.values[picked]
    total = np.array([max(one.total, float(one.steps[-1])) for one in series])
    total[random.random(len(series)) < 0.15] = np.nan
    low, width = np.array(scales).T
    return lessons(told(series, cuts, total), ahead, came, low, width)


def told(series: Sequence[Series], cuts: Sequence[int], total: Floats) -> Encoded:
    """Encode what each curve, and its partner, had shown before its cut."""
    now = np.array([max(float(one.steps[cut - 1]), 0.0) for one, cut in zip(series, cuts, strict=True)])
    rows, count = _stacked(series, cuts), len(series)
    partner = np.where(rows.seen[count:].any(axis=1), np.arange(count) + count, -1)
    without = np.full(count, -1, dtype=np.int64)
    pairs = np.concatenate([partner, without])
    whole = encode(rows, np.tile(now, 2), np.tile(total, 2), pairs)
    return Encoded(*(getattr(whole, each.name)[:count] for each in fields(whole)))


def _stacked(series: Sequence[Series], cuts: Sequence[int]) -> Rows:
    """Stack what each series showed before its cut, and below them the same of their partners."""
    longest, count = min(max(cuts), LONGEST), len(series)
    steps, values = np.zeros((2 * count, longest)), np.full((2 * count, longest), np.nan)
    for row, (one, cut) in enumerate(zip(series, cuts, strict=True)):
        size = min(cut, longest)
        for place, column in ((row, one.values), (row + count, one.partner)):
            steps[place, : longest - size] = one.steps[cut - size]
            steps[place, longest - size :] = one.steps[cut - size : cut]
            if column is not None:
                values[place, longest - size :] = column[cut - size : cut]
    seen = np.isfinite(values)
    return Rows(np.arange(2 * count), ("",) * (2 * count), steps, np.clip(values, -1e30, 1e30), seen)


def lessons(seen: Encoded, ahead: Floats, came: Floats, low: Floats, width: Floats) -> CurveLessons:
    """Give the lessons of encoded curves: what was asked, float64[R, Q], what came, and the scales of their groups."""
    centre = curve.centres(seen, ahead)
    scaled = (came - low[:, None]) / width[:, None]
    return CurveLessons(
        seen.sequence.astype(np.float32),
        seen.static.astype(np.float32),
        curve.query(seen, ahead, centre).astype(np.float32),
        centre,
        curve.unit(seen, ahead),
        curve.far(seen, ahead),
        seen.last,
        seen.scale,
        seen.size,
        seen.positive,
        seen.most + UP,
        seen.values(np.zeros(len(came))),
        seen.scaled(came),
        np.clip(scaled, LEAST, MOST),
        low,
        width,
    )
