"""Pure decisions: what comes before any forecast: tidying the history, laying the grid, and having nothing to go by."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from daemon.forecast.base import Horizon
from daemon.types import Floats, Forecast, History, Ints

LARGEST = 1e15


def grid(history: History, horizon: Horizon) -> tuple[Ints, int | None]:
    """Lay the grid of future steps: (int[K] ascending after the newest step, the finish or ``None``).

    It reaches to the finish, or ``horizon.steps`` ahead where none is known or it has been passed. Half the points lie
    in the nearest tenth; each declared change has a point just before it and one on it, the nearest changes first.
    K is ``horizon.points``, or fewer where fewer steps are left.
    """
    now = int(history.step[-1]) if len(history) else 0
    finish = history.total_steps if history.total_steps is not None and history.total_steps > now else None
    left = (finish - now) if finish is not None else max(horizon.steps, 1)
    points = min(max(horizon.points, 2), left)
    turns = sorted({change.from_step - now for change in history.declared if 0 < change.from_step - now <= left})
    fixed = {left}
    for turn in turns:
        wanted = fixed | {max(turn - 1, 1), turn}
        if len(wanted) > max(points // 2, 1):
            break
        fixed = wanted
    near = max(round(0.1 * left), 1)
    free = points - len(fixed)
    spread = np.concatenate([np.linspace(1, near, free // 2), np.linspace(near, left, free - free // 2 + 1)[:-1]])
    chosen = fixed.union(spread.astype(np.int64).tolist())
    rest = np.linspace(1, left, min(left, 4 * points)).astype(np.int64).tolist() if len(chosen) < points else []
    for step in rest:
        if len(chosen) == points:
            break
        chosen.add(step)
    return now + np.array(sorted(chosen), dtype=np.int64), finish


def made_at(history: History) -> datetime:
    """Tell when a history was last heard of, which is when a forecast from it was made."""
    last = float(history.at_s[-1]) if len(history) else 0.0
    return datetime.fromtimestamp(last if 0.0 <= last < 4e9 else 0.0, UTC)


def tidy(history: History) -> History:
    """Take columns that are not of the history's length out, and values beyond all use (``LARGEST``) for unknown."""
    n = len(history)
    kept = {name: values for name, values in history.columns.items() if len(values) == n}
    wild = [name for name, values in kept.items() if n and not _usable(values)]
    if not wild and len(kept) == len(history.columns):
        return history
    for name in wild:
        kept[name] = np.where(np.abs(kept[name]) <= LARGEST, kept[name], np.nan)
    return replace(history, columns=kept)


def _usable(values: Floats) -> bool:
    return bool(np.fmax.reduce(values, initial=0.0) <= LARGEST and np.fmin.reduce(values, initial=0.0) >= -LARGEST)


def nothing(history: History, horizon: Horizon, method: str) -> Forecast:
    """Say of a job that has shown nothing that everything is unknown: one trajectory, no paths."""
    steps, finish = grid(history, horizon)
    return Forecast(
        history.job, made_at(history), 0, steps, np.ones(1), {}, finish_step=finish, method=method,
        reason="no observations yet", unknown=("everything",),
    )  # fmt: skip
