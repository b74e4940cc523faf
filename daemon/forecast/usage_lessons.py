"""Pure decisions: turn whole series of usage into lessons: what was seen at some moment, and what came."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.forecast import analogs, usage
from daemon.forecast.lessons import ASKED, cut_rows
from daemon.forecast.prior import Random, Series
from daemon.types import Floats


@dataclass(frozen=True, slots=True, eq=False)
class UsageLessons:
    """R cut series of usage, ``ASKED`` questions each: inputs, what the sources say, what came, and weights.

    ``values`` float64[R, B] ascending are the series' own; ``shares`` float64[R, ASKED, SOURCES, B] each source's
    weights on them; ``target`` and ``values`` are in scales, offsets in ``unit`` float64[R] of these.
    """

    sequence: Floats
    static: Floats
    query: Floats
    unit: Floats
    values: Floats
    shares: Floats
    target: Floats
    weight: Floats


def usage_lessons(series: Sequence[Series], random: Random) -> UsageLessons:
    """Cut each series at a random moment and ask ``ASKED`` points up to 60 rows ahead, most within 30."""
    cuts = [int(random.integers(min(12, len(one.steps) - 2), len(one.steps) - 1)) for one in series]
    rows = cut_rows(series, cuts)
    now = np.array([one.steps[cut - 1] for one, cut in zip(series, cuts, strict=True)])
    picked = []
    for one, cut in zip(series, cuts, strict=True):
        reach = 30 if random.random() < 0.75 else 60
        picked.append(random.integers(cut, min(cut + reach, len(one.steps)), ASKED))
    ahead = np.array([one.steps[places] for one, places in zip(series, picked, strict=True)])
    came = np.array([one.values[places] for one, places in zip(series, picked, strict=True)])
    seen = usage.observe(rows, now, np.zeros(len(series)))
    past, far, near = usage.reach(seen, ahead)
    each = np.eye(analogs.SOURCES)
    shares = [analogs.pooled(past, near, np.broadcast_to(gate, (*far.shape, analogs.SOURCES))) for gate in each]
    whole = np.array([float(np.std(one.values)) for one in series]) + 1e-9
    return UsageLessons(
        usage.sequence(seen),
        usage.static(seen, past),
        usage.query(seen, past, far, near),
        usage.unit(past),
        past.values,
        np.stack(shares, axis=2),
        np.clip((came - seen.mean[:, None]) / np.maximum(seen.scale[:, None], 1e-30), -12, 12),
        np.sqrt(np.clip(seen.scale / whole, 0.01, 4.0)),
    )
