"""One suite over every forecaster."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.forecast.base import Forecaster, Horizon, quantiles
from daemon.forecast.curve import Curves
from daemon.forecast.ensemble import Parts, Recurrent
from daemon.forecast.persist import Persist
from daemon.forecast.schedule import Schedules
from daemon.forecast.usage import Usages
from daemon.forecast.worker import unsound
from daemon.types import Declared, Forecast, History
from tests.daemon.forecast.histories import NUMBER, strange
from tests.daemon.forecast.jobs import job

FORECASTERS: dict[str, Forecaster] = {
    "persist": Persist(),
    "closed form": Recurrent(Parts(Schedules(None), Curves(None), Usages(None), reason="closed_form: a test")),
    "recurrent": Recurrent(),
}
each_one = pytest.mark.parametrize("forecaster", FORECASTERS.values(), ids=FORECASTERS.keys())
PHYSICAL = st.sampled_from(["step_seconds", "usage.memory_gib", "usage.gpu_memory_gib"])
HORIZON = Horizon(steps=200, points=12, trajectories=16)


def sound(history: History, forecast: Forecast) -> None:
    assert forecast.job == history.job
    assert abs(forecast.probability.sum() - 1) < 1e-9
    assert (np.diff(forecast.steps) > 0).all()
    for name, path in (*forecast.paths.items(), *forecast.deviations.items()):
        assert path.shape == (len(forecast.probability), len(forecast.steps)), name
        assert np.isfinite(path).all(), name
    for name in forecast.paths:
        told = quantiles(forecast, name, (0.1, 0.5, 0.9))
        assert (np.diff(told, axis=0) >= 0).all(), name
    assert forecast.deviations.keys() <= forecast.paths.keys()


@each_one
def test_an_ordinary_job(forecaster: Forecaster) -> None:
    history = job([16, 32], [128, 128], declared=(Declared(2000, {"seq_len": 256.0}),))
    forecast = forecaster.predict([history], Horizon())[0]
    sound(history, forecast)
    assert unsound(history, forecast) == ""
    assert forecast.at_step == history.step[-1]
    assert forecast.finish_step == forecast.steps[-1] == history.total_steps
    assert set(history.columns) <= set(forecast.paths)


@each_one
def test_order_and_emptiness(forecaster: Forecaster) -> None:
    empty = History("empty", np.zeros(0, np.int64), np.zeros(0), {})
    histories = [job([16], [128], name="a"), empty, job([16, 32], [64, 64], name="b")]
    found = forecaster.predict(histories, HORIZON)
    assert [each.job for each in found] == ["a", "empty", "b"]
    assert found[1].unknown == ("everything",)
    assert not found[1].paths
    assert forecaster.predict([], HORIZON) == []


@each_one
def test_an_unknown_end_looks_the_horizon_ahead(forecaster: Forecaster) -> None:
    history = replace(job([16], [128]), total_steps=None)
    forecast = forecaster.predict([history], HORIZON)[0]
    assert forecast.finish_step is None
    assert forecast.steps[-1] == history.step[-1] + 200


@each_one
def test_learning_does_not_disturb(forecaster: Forecaster) -> None:
    history = job([16, 32], [128, 128], name="learned")
    forecaster.observe([history])
    forecaster.observe([history, job([16], [128], rows=2, name="young")])
    sound(history, forecaster.predict([history], HORIZON)[0])


@each_one
@settings(max_examples=40)
@given(history=strange(), odd=st.dictionaries(PHYSICAL, st.lists(NUMBER, min_size=1, max_size=6)))
def test_strange_data_never_raises(forecaster: Forecaster, history: History, odd: dict[str, list[float]]) -> None:
    tiled = {name: np.resize(np.array(values), len(history)) for name, values in odd.items()}
    history = replace(history, columns={**history.columns, **tiled})
    other = job([16, 32], [128, 128], rows=6)
    forecasts = forecaster.predict([history, other], HORIZON)
    forecaster.observe([history])
    sound(history, forecasts[0])
    sound(other, forecasts[1])


@each_one
@settings(max_examples=8)
@given(batch=st.sampled_from([8.0, 32.0, 256.0]), length=st.sampled_from([64.0, 512.0]), most=st.floats(1.1, 8.0))
def test_memory_never_falls_as_batch_or_length_grows(
    forecaster: Forecaster, batch: float, length: float, most: float
) -> None:
    past = job([batch, batch * 2], [length, length])
    kept = ("hp.batch_size", "hp.seq_len", "step_seconds", "usage.memory_gib")
    past = replace(past, columns={name: past.columns[name] for name in kept})
    for name, level in (("batch_size", batch * 2), ("seq_len", length)):
        asked = [
            replace(past, declared=(Declared(int(past.step[-1]) + 10, {name: level * factor}),))
            for factor in np.linspace(1.0, most, 5)
        ]
        forecasts = forecaster.predict(asked, HORIZON)
        for history, forecast in zip(asked, forecasts, strict=True):
            sound(history, forecast)
        peaks = [quantiles(forecast, "usage.memory_gib", (0.5, 0.99))[:, -1] for forecast in forecasts]
        assert (np.diff(peaks, axis=0) >= -1e-9).all()
