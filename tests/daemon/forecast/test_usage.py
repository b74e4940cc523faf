import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.forecast.schedule import Schedules
from daemon.forecast.usage import Usages
from daemon.forecast.weights_file import Weights, WeightsError, load
from daemon.types import Declared, History
from tests.daemon.forecast.histories import history, strange

M = 64
MODELS = [Usages(load()), Usages(None)]
each_model = pytest.mark.parametrize("model", MODELS, ids=["recurrent", "closed form"])


def foretell(model: Usages, one: History, grid: np.ndarray):
    return model.sample([one], [grid], Schedules(None).sample([one], [grid], M))[0]


@each_model
@settings(max_examples=40, deadline=None)
@given(histories=st.lists(strange(), min_size=1, max_size=5))
def test_any_history_gives_finite_paths(model: Usages, histories: list[History]):
    grids = [np.arange(1, 8, dtype=np.int64) * 50 + (int(one.step[-1]) if len(one) else 0) for one in histories]
    found = model.sample(histories, grids, Schedules(None).sample(histories, grids, 16))
    for one, usages in zip(histories, found, strict=True):
        known = {n for n, v in one.columns.items() if n.startswith("usage.") and np.isfinite(v).any()}
        assert known == set(usages)
        for path, deviation in usages.values():
            assert path.shape == deviation.shape == (16, 7)
            assert np.isfinite(path).all()
            assert np.isfinite(deviation).all()
            assert (deviation >= 0).all()


@each_model
def test_memory_is_left_to_its_own_model(model: Usages):
    one = history({"usage.memory_gib": [4.0] * 20, "usage.gpu_memory_gib": [9.0] * 20, "usage.cpu_cores": [2.0] * 20})
    assert set(foretell(model, one, np.array([200, 300], dtype=np.int64))) == {"usage.cpu_cores"}


@each_model
def test_pauses_come_back_in_their_period(model: Usages):
    step = np.arange(200)
    busy = np.where(step % 20 < 15, 0.9, 0.1) + 0.01 * np.random.default_rng(2).standard_normal(200)
    grid = np.arange(200, 240, dtype=np.int64)
    path, _ = foretell(model, history({"usage.gpu_util": busy}, step=step), grid)["usage.gpu_util"]
    truth = np.where(grid % 20 < 15, 0.9, 0.1)
    assert np.abs(np.median(path, axis=0) - truth).mean() < 0.12


@each_model
def test_a_share_stays_between_zero_and_one(model: Usages):
    busy = np.clip(0.95 + 0.2 * np.random.default_rng(3).standard_normal(100), 0, 1)
    grid = np.arange(1000, 1300, 10, dtype=np.int64)
    path, _ = foretell(model, history({"usage.gpu_util": busy}), grid)["usage.gpu_util"]
    assert path.min() >= 0
    assert path.max() <= 1


@each_model
def test_what_was_before_the_last_change_is_forgotten(model: Usages):
    step = np.arange(120)
    columns = {
        "hp.batch_size": np.where(step < 80, 16.0, 64.0),
        "usage.cpu_cores": np.where(step < 80, 2.0, 7.0) + 0.01 * np.sin(step),
    }
    path, _ = foretell(model, history(columns, step=step), np.arange(121, 140, dtype=np.int64))["usage.cpu_cores"]
    assert np.median(path) == pytest.approx(7.0, abs=0.2)
    assert np.quantile(path, 0.1) > 6


@each_model
def test_after_a_coming_change_less_is_claimed(model: Usages):
    columns = {"hp.batch_size": [16.0] * 60, "usage.gpu_util": [0.5, 0.52] * 30}
    one = history(columns, declared=(Declared(700, {"batch_size": 64}),), total=1000)
    _, deviation = foretell(model, one, np.array([650, 690, 700, 900], dtype=np.int64))["usage.gpu_util"]
    assert (deviation[:, 2:] > 2 * deviation[:, :2]).all()


def test_weights_of_another_shape_are_refused():
    with pytest.raises(WeightsError, match="do not fit"):
        Usages(Weights({"usage.gru.bias": np.zeros(3, dtype=np.float32)}))
