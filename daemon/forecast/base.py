"""Values: what a forecaster is, and how to read a forecast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtri

from daemon.forecast.rows import reversed_bits
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


_NODES = 5
_POINTS = 320


def quantiles(forecast: Forecast, name: str, levels: Sequence[float]) -> Floats:
    """Read quantiles of one path at every grid point: float[len(levels), K].

    Each path stands for at least 5 points of equal weight, even in its own Gaussian and shifted from path to path:
    where all paths run together their points still fill one Gaussian, tails included. At least 320 points in all.
    Raises ``KeyError`` for a path the forecast does not have.
    """
    paths = forecast.paths[name]
    weights = np.repeat(forecast.probability[:, None], paths.shape[1], axis=1)
    deviation = forecast.deviations.get(name)
    if deviation is not None:
        count = max(_NODES, -(-_POINTS // len(paths))) | 1  # odd: a single path is its own median
        nodes = ndtri((np.arange(count)[:, None] + reversed_bits(len(paths))) / count)
        paths = (paths[None] + nodes[:, :, None] * deviation[None]).reshape(-1, paths.shape[1])
        weights = np.tile(weights / count, (count, 1))
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
