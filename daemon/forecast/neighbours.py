"""Pure decisions: let a curve's forecast lean on earlier runs of the same owner or group that were like it so far."""

from collections.abc import Sequence

import numpy as np

from daemon.forecast.rows import Rows, fill
from daemon.forecast.seen import Encoded
from daemon.types import Floats, History, Ints

PAST = 16
"""Points at which runs are compared, evenly over what has been seen."""
CLOSE = 0.1
"""Mean distance, in scales of the curve, at which an earlier run has lost two thirds of its weight."""
DOUBT = 0.5
"""Weight of "it will be different this time" against one exactly matching run."""
MOST = 0.8
"""The most that earlier runs may have of all trajectories."""
OWN = 0.5
"""The part of the forecast's own spread that stays around each earlier run's path."""
CLOSER = 0.5
"""The part of the distance between two runs that is still there at the end."""


def leaned(scaled: Floats, seen: Encoded, rows: Rows, histories: Sequence[History], ahead: Floats) -> Floats:
    """Lead a part of the paths along what earlier runs did from here on: float64[R, M, K] to the same, in scales.

    Runs are laid over each other by step or by share of the total, whichever fits better. A path keeps a part of its
    own way from the median. Curves without earlier runs of the same column stay as they are.
    """
    row, past, future = _candidates(rows, histories, ahead)
    if not len(row):
        return scaled
    found = scaled.copy()
    filled = fill(rows)
    now = seen.at
    for each in np.unique(row).tolist():
        mine = np.flatnonzero(row == each)
        asked = np.linspace(rows.steps[each][int(np.argmax(rows.seen[each]))], now[each], PAST)
        own = _told(seen, each, np.interp(asked, rows.steps[each], filled[each])[None])
        then = _told(seen, each, past[mine])
        apart = np.abs(then - own).mean(axis=1)
        weight = np.exp(-((apart / CLOSE) ** 2))
        if weight.sum() < 0.05:
            continue
        on = _told(seen, each, future[mine])
        gone = (ahead[each] - now[each]) / max(float(ahead[each][-1] - now[each]), 1.0)
        left = 1 - (1 - CLOSER) * np.clip(gone, 0, 1)
        on = on - left * then[:, -1:]
        taken = round(min(weight.sum() / (weight.sum() + DOUBT), MOST) * scaled.shape[1])
        shares = np.cumsum(weight) / weight.sum()
        picked = np.searchsorted(shares, (np.arange(taken) + 0.5) / max(taken, 1))
        middle = np.median(scaled[each], axis=0)
        found[each, :taken] = on[picked] + OWN * (scaled[each, :taken] - middle)
    return found


def _told(seen: Encoded, row: int, values: Floats) -> Floats:
    """Tell values of one row's column in scales from its last value: float64[N, P] to the same."""
    told = np.log(np.maximum(values, 1e-30)) if seen.positive[row] else values / seen.size[row]
    found: Floats = np.clip((told - seen.last[row]) / seen.scale[row], -20, 20)
    return found


def _candidates(rows: Rows, histories: Sequence[History], ahead: Floats) -> tuple[Ints, Floats, Floats]:
    """Read every earlier run off where the job has been and where it will be, by step and by share of the total.

    Gives the row int[C], past values float64[C, PAST] and future ones float64[C, K].
    """
    row: list[int] = []
    past: list[Floats] = []
    future: list[Floats] = []
    for each, (job, name) in enumerate(zip(rows.job.tolist(), rows.names, strict=True)):
        history = histories[job]
        first = float(rows.steps[each][int(np.argmax(rows.seen[each]))])
        asked = np.linspace(first, float(history.step[-1]), PAST) if history.earlier else np.zeros(0)
        for run in history.earlier:
            values = run.columns.get(name)
            known = np.isfinite(values) if values is not None else np.zeros(0, dtype=bool)
            if values is None or known.sum() < 2:
                continue
            steps, values = run.step[known].astype(np.float64), values[known]
            scales = [1.0]
            if history.total_steps and steps[-1] != history.total_steps:
                scales.append(float(steps[-1]) / history.total_steps)
            for scale in scales:
                row.append(each)
                past.append(np.interp(asked * scale, steps, values))
                future.append(np.interp(ahead[each] * scale, steps, values))
    return np.array(row, dtype=np.int64), np.array(past), np.array(future)
