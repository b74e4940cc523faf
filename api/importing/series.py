"""Pure decisions: scattered points of a recorded run, laid into rows as a history file has them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from api.importing.naming import Named
from daemon.backtest.history import LARGEST, Run
from daemon.types import Floats

Point = tuple[float, float, float]
"""Step, seconds since the epoch, value; NaN where unknown."""


@dataclass(slots=True)
class Recorded:
    """A run as another tool recorded it: points by its own names, and settings that hold throughout."""

    job: str
    group: str = ""
    owner: str = ""
    started_at: float = math.nan
    points: dict[str, list[Point]] = field(default_factory=dict)
    settings: dict[str, float] = field(default_factory=dict)


def raw_names(runs: Iterable[Recorded]) -> list[str]:
    """List every name that occurs, settings under ``params/``."""
    found: dict[str, None] = {}
    for run in runs:
        found.update(dict.fromkeys(run.points))
        found.update({f"params/{name}": None for name in run.settings})
    return list(found)


def run_of(recorded: Recorded, named: Mapping[str, Named]) -> Run | None:
    """Lay a run's points into rows: one a step, or one a moment where there are no steps; ``None`` if none are left."""
    rows, times, by_time = _rows(recorded, named)
    if not rows:
        return None
    order = sorted(rows)
    moments = np.array([times.get(place, math.nan) for place in order])
    started = recorded.started_at
    if math.isnan(started) and np.isfinite(moments).any():
        started = float(np.nanmin(moments))
    columns = _columns(rows, order)
    elapsed = columns.pop("elapsed_s", moments - started)
    steps = np.array(order, dtype=np.float64) - (started if by_time else 0.0)
    settings = _settings(recorded, named)
    total = columns.pop("total_steps", np.full(len(order), settings.get("total_steps", math.nan)))
    for column, value in settings.items():
        if column.startswith("hp."):
            columns.setdefault(column, np.full(len(order), value))
    return Run(
        recorded.job, recorded.group, recorded.owner, _stamp(started), np.floor(steps + 0.5),
        np.where((elapsed >= 0) & (elapsed <= LARGEST), elapsed, np.nan), total, columns,
    )  # fmt: skip


def _rows(
    recorded: Recorded, named: Mapping[str, Named]
) -> tuple[dict[float, dict[str, float]], dict[float, float], bool]:
    """Give the rows by step, when each was, and whether the step is the moment for want of another.

    A series that is itself the step gives its values to whatever was recorded at the same moments.
    """
    series = {named[name].column: (named[name].factor, told) for name, told in recorded.points.items() if name in named}
    factor, told = series.pop("step", (1.0, []))
    stepped = {at: value * factor for _, at, value in told}
    by_time = not stepped and all(math.isnan(point[0]) for _, points in series.values() for point in points)
    rows: dict[float, dict[str, float]] = {}
    times: dict[float, float] = {}
    for column, (factor, points) in series.items():
        for step, at, value in points:
            place = stepped.get(at, math.nan) if stepped else at if by_time else step
            if abs(place) <= LARGEST:
                rows.setdefault(place, {})[column] = value * factor
                if math.isfinite(at):
                    times[place] = min(times.get(place, at), at)  # what sums a run up is written later, at step 0
    return rows, times, by_time


def _columns(rows: Mapping[float, Mapping[str, float]], order: Sequence[float]) -> dict[str, Floats]:
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return {name: np.array([rows[place].get(name, math.nan) for place in order]) for name in names}


def _settings(recorded: Recorded, named: Mapping[str, Named]) -> dict[str, float]:
    told = {name: named.get(f"params/{name}") for name in recorded.settings}
    return {one.column: recorded.settings[name] * one.factor for name, one in told.items() if one is not None}


def _stamp(seconds: float) -> str:
    if not 0.0 < seconds < 4e9:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def number(text: str) -> float:
    """Read a setting's number; NaN for any other text. Truth counts as 1 and 0."""
    plain = text.strip().lower()
    if plain in ("true", "false"):
        return float(plain == "true")
    try:
        return float(plain)
    except ValueError:
        return math.nan
