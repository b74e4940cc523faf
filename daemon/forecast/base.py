"""Values: what a forecaster is, and how to read a forecast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from daemon.types import Floats, Forecast, History


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far to look: ``steps`` ahead where the end is unknown, else to the finish; on ``points`` grid points."""

    steps: int = 1000
    points: int = 32
    trajectories: int = 64


class Forecaster(Protocol):
    """Foretell jobs' trajectories. Never raises for strange data: what cannot be foretold is said in the forecast."""

    name: str

    def predict(self, histories: Sequence[History], horizon: Horizon) -> list[Forecast]:
        """Forecast a batch of jobs, one forecast a history in the same order. Deterministic for the same input."""

    def observe(self, histories: Sequence[History]) -> None:
        """Learn online from what these jobs have shown since they were last seen. At most 50 ms a job."""


_NODES = np.array([-2.0201829, -0.9585725, 0.0, 0.9585725, 2.0201829]) * 1.4142135623730951
_WEIGHTS = np.array([0.0112574, 0.2220759, 0.5333333, 0.2220759, 0.0112574])


def quantiles(forecast: Forecast, name: str, levels: Sequence[float]) -> Floats:
    """Read quantiles of one path at every grid point: float[len(levels), K].

    The mixture over trajectories is widened by each path's own deviation through 5-point Gauss-Hermite nodes, so the
    answer has the resolution of 5 x M weighted points. Raises ``KeyError`` for a path the forecast does not have.
    """
    paths = forecast.paths[name]
    weights = np.repeat(forecast.probability[:, None], paths.shape[1], axis=1)
    deviation = forecast.deviations.get(name)
    if deviation is not None:
        paths = (paths[None] + _NODES[:, None, None] * deviation[None]).reshape(-1, paths.shape[1])
        weights = (_WEIGHTS[:, None, None] * weights[None]).reshape(-1, weights.shape[1])
    order = np.argsort(paths, axis=0, kind="stable")
    ranked = np.take_along_axis(paths, order, axis=0)
    mass = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
    mass /= mass[-1]
    found = np.empty((len(levels), paths.shape[1]))
    for row, level in enumerate(levels):
        place = np.minimum((mass < level - 1e-12).sum(axis=0), len(ranked) - 1)
        found[row] = ranked[place, np.arange(paths.shape[1])]
    return found


def seconds_to(forecast: Forecast) -> Floats | None:
    """Compute the seconds from the forecast's first step to each grid step, float[M, K]; ``None`` if it knows none."""
    pace = forecast.paths.get("step_seconds")
    if pace is None or not len(forecast.steps):
        return None
    gaps = np.diff(forecast.steps, prepend=forecast.at_step).astype(np.float64)
    return np.cumsum(pace * gaps, axis=1)
