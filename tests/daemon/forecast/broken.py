"""Edge: forecasters that misbehave, each in its own way, for the process that runs them."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from daemon.forecast.base import Horizon
from daemon.forecast.persist import Persist
from daemon.types import Forecast, History


class Sound(Persist):
    """Persistence under another name, told apart by its method; prints, as libraries do."""

    def predict(self, histories: Sequence[History], horizon: Horizon) -> list[Forecast]:
        print("a library speaks")
        return [replace(forecast, method="sound") for forecast in super().predict(histories, horizon)]


class Late(Sound):
    def predict(self, histories: Sequence[History], horizon: Horizon) -> list[Forecast]:
        if any(history.job == "late" for history in histories):
            time.sleep(60)
        return super().predict(histories, horizon)


class Dying(Sound):
    def predict(self, histories: Sequence[History], horizon: Horizon) -> list[Forecast]:
        if any(history.job == "die" for history in histories):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(histories, horizon)


class Unstartable:
    def __init__(self) -> None:
        raise OSError("no weights")


class Raising(Sound):
    """Fails for one job only; learning fails always."""

    def predict(self, histories: Sequence[History], horizon: Horizon) -> list[Forecast]:
        if any(history.job == "bad" for history in histories):
            raise ValueError("cannot foretell\nthis job")
        return super().predict(histories, horizon)

    def observe(self, histories: Sequence[History]) -> None:
        raise ValueError("cannot learn")


class Nonsense(Sound):
    """Spoils the forecast in the way that the job is named after."""

    def predict(self, histories: Sequence[History], horizon: Horizon) -> Any:
        made = super().predict(histories, horizon)
        return [spoilt(history.job, forecast) for history, forecast in zip(histories, made, strict=True)]


class Talking(Sound):
    """Answers fewer forecasts than asked for."""

    def predict(self, histories: Sequence[History], horizon: Horizon) -> list[Forecast]:
        return super().predict(histories, horizon)[1:]


def spoilt(way: str, forecast: Forecast) -> Any:
    """Spoil a sound forecast."""
    paths, seconds = forecast.paths, forecast.paths["step_seconds"]
    ways: dict[str, dict[str, Any]] = {
        "nan": {"paths": {**paths, "step_seconds": seconds * np.nan}},
        "infinite": {"paths": {**paths, "metric.loss": seconds * np.inf}},
        "negative": {"paths": {**paths, "usage.memory_gib": seconds - 1e3}},
        "huge": {"paths": {**paths, "usage.memory_gib": seconds * 1e12}},
        "chances": {"probability": forecast.probability * 0.9},
        "unlikely": {"probability": -forecast.probability},
        "shape": {"paths": {**paths, "step_seconds": seconds[:, :-1]}},
        "deviation": {"deviations": {"step_seconds": -np.ones_like(seconds)}},
        "steps": {"steps": forecast.steps[::-1]},
        "empty": {"steps": forecast.steps[:0], "paths": {}},
        "stale": {"at_step": forecast.at_step - 1},
        "other": {"job": "another"},
    }
    return None if way == "nothing" else replace(forecast, **ways.get(way, {}))
