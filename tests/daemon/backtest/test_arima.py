"""AutoETS and AutoARIMA as baselines, with a strict stand-in for statsforecast's models.

With the extra installed the same answers come from the real ones: docs/forecast-skill.md says what they scored.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest

from daemon.backtest import arima
from daemon.backtest.question import Question, ask
from daemon.types import Floats
from tests.daemon.backtest.runs import decaying, run

WIDTHS = {50: 0.6745, 80: 1.2816, 90: 1.6449, 95: 1.96}


class Model:
    """Forecasts the last value, and takes nothing that statsforecast 2 would not take."""

    def __init__(self, *, season_length: int) -> None:
        assert season_length == 1

    def forecast(self, *, y: Floats, h: int, level: list[int]) -> dict[str, Floats]:
        assert y.ndim == 1
        assert np.isfinite(y).all()
        assert h >= 1
        assert set(level) <= WIDTHS.keys()
        if len(y) < 10:
            raise ZeroDivisionError("float division by zero")
        grown = np.sqrt(np.arange(1, h + 1))
        found = {"mean": np.full(h, y[-1])}
        for one in level:
            found |= {f"lo-{one}": y[-1] - WIDTHS[one] * grown, f"hi-{one}": y[-1] + WIDTHS[one] * grown}
        return found


@pytest.fixture
def statsforecast(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, models = ModuleType("statsforecast"), ModuleType("statsforecast.models")
    whole.__spec__ = ModuleSpec("statsforecast", None)
    models.AutoETS = models.AutoARIMA = Model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "statsforecast", whole)
    monkeypatch.setitem(sys.modules, "statsforecast.models", models)


def question(values: Floats, seen: float = 0.5, horizon_s: float | None = None) -> Question:
    found = ask(run(values), "metric.loss", seen, horizon_s)
    assert found is not None
    return found


def test_both_answer_in_the_quantiles_of_all(statsforecast: None):
    asked = question(decaying(1).columns["metric.loss"], horizon_s=100.0)
    found = dict(arima.answers(asked))
    assert found.keys() == {"auto_ets", "auto_arima"}
    made = found["auto_ets"]
    assert made is not None
    middle = made.quantiles[:, 3]
    np.testing.assert_allclose(middle, asked.column("metric.loss")[-1])
    ahead = np.sqrt(np.arange(1, 11))
    np.testing.assert_allclose(made.quantiles[:, 6] - middle, 1.96 * ahead)
    np.testing.assert_allclose(made.told()[:, 1] - middle, 1.6449 * ahead)
    assert (np.diff(made.quantiles, axis=1) > 0).all()


@pytest.mark.parametrize("values", [np.full(40, 3.0), np.array([5.0, 4.0, 3.0, 2.0]), np.linspace(3, 1, 16)])
def test_what_a_model_refuses_is_no_answer(statsforecast: None, values: Floats):
    assert [made for _, made in arima.answers(question(values))] == [None, None]


def test_without_the_extra_and_for_total_times_there_is_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arima, "find_spec", lambda name: None)
    assert arima.answers(question(decaying(1).columns["metric.loss"])) == []
    monkeypatch.undo()
    whole = ask(run(np.ones(20)), "elapsed_s", 0.5, None)
    assert whole is not None
    assert arima.answers(whole) == []
