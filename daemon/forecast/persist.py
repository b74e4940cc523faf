"""Pure decisions: the present persists. The baseline to beat, the reactive twin's eyes, and the fallback."""

from collections.abc import Sequence

import numpy as np

from daemon.forecast.base import Horizon
from daemon.forecast.grid import grid, made_at, nothing, tidy
from daemon.forecast.stretches import step_seconds
from daemon.types import Floats, Forecast, History

RECENT = 32


class Persist:
    """Foretell that everything stays as it is, in one trajectory.

    Step time stays at its recent median, memory at its recent peak, everything else at its last value. Deviations are
    the recent scatter.
    """

    name = "persist"

    def predict(self, histories: Sequence[History], horizon: Horizon) -> list[Forecast]:
        """Forecast a batch of jobs, one forecast a history."""
        return [self._one(tidy(history), horizon) for history in histories]

    def observe(self, histories: Sequence[History]) -> None:
        """Learn nothing."""

    def _one(self, history: History, horizon: Horizon) -> Forecast:
        if not len(history):
            return nothing(history, horizon, self.name)
        steps, finish = grid(history, horizon)
        columns = dict(history.columns) | {"step_seconds": step_seconds(history)}
        paths: dict[str, Floats] = {}
        deviations: dict[str, Floats] = {}
        for name, values in columns.items():
            recent = values[-RECENT:]
            recent = recent[np.isfinite(recent)]
            if not len(recent):
                before = values[np.isfinite(values)]
                recent = before[-1:]
            if len(recent):
                paths[name] = np.full((1, len(steps)), present(name, recent))
                if not name.startswith("hp."):
                    deviations[name] = np.full((1, len(steps)), float(recent.std()))
        unknown = () if "step_seconds" in paths else ("step_seconds",)
        return Forecast(
            history.job, made_at(history), int(history.step[-1]), steps, np.ones(1), paths, deviations, finish,
            method=self.name, unknown=unknown,
        )  # fmt: skip


def present(name: str, recent: Floats) -> float:
    """Say what stands for the present in a column's newest known values (at least one)."""
    if name == "step_seconds":
        return float(np.median(recent))
    if name.endswith("memory_gib"):
        return float(recent[-8:].max())
    return float(recent[-1])
