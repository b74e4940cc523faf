"""Pure decisions: replay the owner's earlier runs whose beginning matches, as candidate trajectories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.types import Floats, History

_TOLERANCE = 0.04
"""Doublings of mean distance at which a match has lost two thirds of its weight."""
_DOUBT = 0.35
"""Weight of "it will be different this time" against one exactly matching run."""
_POINTS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What earlier runs foretell of one job: the first ``taken`` trajectories' paths by column, float64[taken, K].

    ``mass`` is the probability given to them all.
    """

    mass: float
    taken: int
    paths: dict[str, Floats]


def replays(
    histories: Sequence[History], ahead: Floats, columns: Mapping[tuple[int, str], Floats], trajectories: int
) -> dict[int, Replay]:
    """Match each job's undeclared columns against ``History.earlier``; jobs without a match are left out."""
    named: dict[int, list[str]] = {}
    for job, name in columns:
        if histories[job].earlier:
            named.setdefault(job, []).append(name)
    found = {}
    for job, names in named.items():
        replay = _replay(histories[job], ahead[job], {name: columns[job, name] for name in names}, trajectories)
        if replay is not None:
            found[job] = replay
    return found


def _replay(history: History, ahead: Floats, columns: Mapping[str, Floats], trajectories: int) -> Replay | None:
    matches: list[tuple[float, dict[str, Floats]]] = []
    for run in history.earlier:
        match = _match(history, run, ahead, columns)
        if match is not None and match[0] > 0.01:
            matches.append(match)
    weight = sum(weight for weight, _ in matches)
    if weight < 0.05:
        return None
    mass = min(weight / (weight + _DOUBT), 0.97)
    taken = round(mass * trajectories)
    shares = np.cumsum([weight for weight, _ in matches]) / weight
    picked = np.searchsorted(shares, (np.arange(taken) + 0.5) / max(taken, 1))
    paths = {name: np.array([matches[p][1][name] for p in picked]).reshape(taken, len(ahead)) for name in columns}
    return Replay(mass, taken, paths)


def _match(
    history: History, run: History, ahead: Floats, columns: Mapping[str, Floats]
) -> tuple[float, dict[str, Floats]] | None:
    """Weigh one earlier run and read off its continuation; by share of the total where both totals are known."""
    if len(run) == 0 or not any(name in run.columns for name in columns):
        return None
    scales = [1.0]
    if history.total_steps and run.total_steps and history.total_steps != run.total_steps:
        # A schedule told in shares of the run is the likelier one where both fit alike.
        scales.insert(0, run.total_steps / history.total_steps)
    size = min(len(history), len(next(iter(columns.values()))))
    steps = history.step[-size:].astype(np.float64)
    asked = np.linspace(steps[0], steps[-1], _POINTS)
    distances = np.zeros(len(scales))
    answers: list[dict[str, Floats]] = [{} for _ in scales]
    for name, filled in columns.items():
        present = filled[-1]
        lived = np.log2(np.maximum(filled[-size:][np.searchsorted(steps, asked, side="right") - 1], 1e-9))
        seen = np.isfinite(run.columns[name]) if name in run.columns else np.zeros(0, dtype=bool)
        if not seen.any():
            for place in range(len(scales)):
                answers[place][name] = np.full(len(ahead), present)
            continue
        told, at = run.columns[name][seen], run.step[seen].astype(np.float64)
        for place, scale in enumerate(scales):
            past = told[np.maximum(np.searchsorted(at, asked * scale, side="right") - 1, 0)]
            distances[place] += np.abs(np.log2(np.maximum(past, 1e-9)) - lived).mean()
            future = told[np.maximum(np.searchsorted(at, ahead * scale, side="right") - 1, 0)]
            answers[place][name] = np.clip(future, present / 1024, present * 1024)
            distances[place] += 0.5 * _TOLERANCE * float(past[-1] != present)
    best = int(np.argmin(distances + 1e-9 * np.arange(len(scales))))
    return float(np.exp(-distances[best] / _TOLERANCE)), answers[best]
