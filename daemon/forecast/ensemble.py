"""Pure decisions: the recurrent forecaster. Schedules are sampled, and each sample is pushed through every other model.

A trajectory is one possible future of everything together: its hyperparameters, and the step time, memory, usage and
metrics that go with them. That is what the engine needs, and what separate forecasts of each column cannot say.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from daemon.forecast.base import Horizon
from daemon.forecast.calibrate import Calibration, load
from daemon.forecast.drivers import MEMORY, points
from daemon.forecast.grid import grid, made_at, nothing, tidy
from daemon.forecast.online import Learned, Memo, laws
from daemon.forecast.rows import for_all
from daemon.forecast.schedule import ScheduleSamples
from daemon.types import Floats, Forecast, History, Ints

_PART = 128
_THREADS = 2

Paths = dict[str, tuple[Floats, Floats]]
"""By name: the path float64[M, K] and its deviation, of the same shape."""


class Sampler(Protocol):
    """Sample futures of the hyperparameters."""

    def sample(self, histories: Sequence[History], grids: Sequence[Ints], trajectories: int) -> list[ScheduleSamples]:
        """Sample M futures a job on its grid; all grids are of one length."""


class Follower(Protocol):
    """Foretell columns along sampled hyperparameters."""

    def sample(
        self, histories: Sequence[History], grids: Sequence[Ints], samples: Sequence[ScheduleSamples]
    ) -> Sequence[Mapping[str, tuple[Floats, Floats]]]:
        """Give, for each job and column, path and deviation, both float64[M, K]."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The models that a forecast is made of. ``reason`` says why they are not the trained ones, "" if they are."""

    schedules: Sampler
    curves: Follower
    usages: Follower
    calibration: Calibration = field(default_factory=Calibration)
    reason: str = ""


def shipped(folder: Path | None = None) -> Parts:
    """Load the trained parts; where their weights cannot be used, closed forms of the same parts, and the reason."""
    from daemon.forecast.curve import Curves  # delays torch
    from daemon.forecast.schedule import Schedules
    from daemon.forecast.usage import Usages
    from daemon.forecast.weights_file import SHIPPED, WeightsError
    from daemon.forecast.weights_file import load as load_weights

    calibration, fault = load((folder or SHIPPED) / "calibration.json")
    try:
        weights = load_weights(folder)
        return Parts(Schedules(weights), Curves(weights), Usages(weights), calibration, weights.reason or fault)
    except WeightsError as error:
        return Parts(Schedules(None), Curves(None), Usages(None), calibration, f"closed_form: {error}")


class Recurrent:
    """Foretell joint trajectories. Keeps what it learns of each job, so that it serves one fleet at a time."""

    name = "recurrent"

    def __init__(self, parts: Parts | None = None) -> None:
        """Take the parts, or load those that are shipped."""
        self._parts = parts or shipped()
        self._memo = Memo()
        self._method = "closed_form" if self._parts.reason.startswith("closed_form") else self.name

    def predict(self, histories: Sequence[History], horizon: Horizon) -> list[Forecast]:
        """Forecast a batch of jobs. A job without rows gets a forecast without paths, unknown "everything"."""
        found = [nothing(history, horizon, self._method) for history in histories if not len(history)]
        full = [tidy(history) for history in histories if len(history)]
        made = iter(self._in_parts(full, horizon))
        empty = iter(found)
        return [next(made) if len(history) else next(empty) for history in histories]

    def observe(self, histories: Sequence[History]) -> None:
        """Learn online: conformal factors, and stretches that will leave the window."""
        self._memo.learn([tidy(history) for history in histories])

    def _in_parts(self, histories: Sequence[History], horizon: Horizon) -> list[Forecast]:
        """Forecast parts of the batch side by side: arrays stay in the cache, and numpy lets both cores work."""
        parts = [histories[place : place + _PART] for place in range(0, len(histories), _PART)]
        if len(parts) < 2:
            return self._made(histories, horizon)
        with ThreadPoolExecutor(_THREADS) as pool:
            return [each for made in pool.map(lambda part: self._made(part, horizon), parts) for each in made]

    def _made(self, histories: Sequence[History], horizon: Horizon) -> list[Forecast]:
        if not histories:
            return []
        grids = [grid(history, horizon) for history in histories]
        longest = max(len(steps) for steps, _ in grids)
        padded = [_padded(steps, longest) for steps, _ in grids]
        samples = self._parts.schedules.sample(histories, padded, horizon.trajectories)
        curves = self._parts.curves.sample(histories, padded, samples)
        usages = self._parts.usages.sample(histories, padded, samples)
        learned = [self._memo.of(history) for history in histories]
        priced = _priced(histories, samples, learned, longest)
        return [
            self._joined(history, *grids[j], samples[j], {**curves[j], **usages[j], **priced[j]}, learned[j])
            for j, history in enumerate(histories)
        ]

    def _joined(
        self, history: History, steps: Ints, finish: int | None, sample: ScheduleSamples,
        columns: Mapping[str, tuple[Floats, Floats]], learned: Learned,
    ) -> Forecast:  # fmt: skip
        """Put the parts together on the job's own grid. A path that is not finite is left out: it is unknown."""
        ahead, behind = steps - history.step[-1], int(history.step[-1] - history.step[0])
        paths = {name: path[:, : len(steps)] for name, path in sample.paths.items() if _finite(path)}
        deviations: dict[str, Floats] = {}
        for name, (path, deviation) in columns.items():
            left = _told(deviation)
            if _finite(path) and _finite(left):
                offline = self._parts.calibration.factor(name, ahead, behind)
                paths[name] = path[:, : len(steps)]
                if name.startswith("metric.") and not isinstance(offline, float):
                    paths[name] = _stretched(paths[name], offline)
                left = left[:, : len(steps)] * (offline * learned.factors.get(name, 1.0))
                deviations[name] = (
                    left if len(left) == len(sample.probability) else for_all(left, len(sample.probability))
                )
        lost = sorted({*columns, *sample.paths, "step_seconds"} - paths.keys())
        return Forecast(
            history.job, made_at(history), int(history.step[-1]), steps,
            sample.probability / sample.probability.sum(), paths, deviations, finish, method=self._method,
            reason=self._parts.reason, declared=tuple(sample.declared),
            unknown=tuple(dict.fromkeys([*sample.unknown, *lost])),
        )  # fmt: skip


def _stretched(path: Floats, factor: Floats) -> Floats:
    """Stretch paths about their median: a metric's spread lies in its paths, not in the deviation around them."""
    half = len(path) // 2
    ranked = np.partition(path, (half - 1, half) if len(path) > 1 else 0, axis=0)
    middle = ranked[half] if len(path) % 2 else 0.5 * (ranked[half - 1] + ranked[half])
    found: Floats = path - middle
    found *= factor
    found += middle
    return found


def _told(values: Floats) -> Floats:
    """Give one row, float64[1, K], for one that merely stands for every path: what is done to it is done once."""
    return values[:1] if values.strides[0] == 0 else values


def _finite(values: Floats) -> bool:
    """Say whether all values are finite, by their sum: one pass, and what overflows is as bad."""
    return math.isfinite(float(np.add.reduce(values, axis=None)))


def _priced(
    histories: Sequence[History], samples: Sequence[ScheduleSamples], learned: Sequence[Learned], longest: int
) -> list[Paths]:
    """Give step time and memory along the sampled hyperparameters; memory that was only ever zero stays zero."""
    law = laws(histories, learned)
    count = len(samples[0].probability)
    shape = (len(histories), count, longest)
    at = points(law.driver, [sample.paths for sample in samples], [count * longest] * len(histories))
    seconds, spread = (at.spread(each).reshape(shape) for each in law.cost.predict(at))
    found: list[Paths] = [
        {"step_seconds": (seconds[j], spread[j])} if law.cost.known[j] else {} for j in range(shape[0])
    ]
    for name in MEMORY:
        if any(name in history.columns for history in histories):
            gib, deviation = law.memory[name].along(at, shape)
            for j, history in enumerate(histories):
                if law.memory[name].known[j] or history.last(name) is not None:
                    found[j][name] = (gib[j], deviation[j])
    return found


def _padded(steps: Ints, points: int) -> Ints:
    """Bring a grid to the batch's length with steps beyond its end; they are cut off again."""
    return np.concatenate([steps, steps[-1] + 1 + np.arange(points - len(steps))]) if len(steps) < points else steps
