import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.forecast.curve import Curves
from daemon.forecast.rows import stack
from daemon.forecast.schedule import Schedules
from daemon.forecast.seen import encode, partners
from daemon.forecast.weights_file import Weights, WeightsError, load
from daemon.types import History
from tests.daemon.forecast.histories import ahead, history, strange

M = 64
MODELS = [Curves(load()), Curves(None)]
each_model = pytest.mark.parametrize("model", MODELS, ids=["recurrent", "closed form"])


def foretell(model: Curves, one: History, points: int = 32, reach: int | None = None):
    grid = ahead(one, points, reach)
    return model.sample([one], [grid], Schedules(None).sample([one], [grid], M))[0]


@each_model
@settings(max_examples=40, deadline=None)
@given(histories=st.lists(strange(), min_size=1, max_size=5))
def test_any_history_gives_finite_paths(model: Curves, histories: list[History]):
    grids = [np.arange(1, 8, dtype=np.int64) * 50 + (int(one.step[-1]) if len(one) else 0) for one in histories]
    found = model.sample(histories, grids, Schedules(None).sample(histories, grids, 16))
    for one, metrics in zip(histories, found, strict=True):
        known = {n for n, v in one.columns.items() if n.startswith("metric.") and np.isfinite(v).any()}
        assert known == set(metrics)
        for path, deviation in metrics.values():
            assert path.shape == deviation.shape == (16, 7)
            assert np.isfinite(path).all()
            assert np.isfinite(deviation).all()
            assert (deviation >= 0).all()


@each_model
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_power_law_is_continued_and_its_end_lies_in_the_interval(model: Curves, scale: float):
    random = np.random.default_rng(5)
    step = np.arange(1, 301)
    loss = scale * (1 + 3 * step**-0.5 + 0.01 * random.standard_normal(300))
    one = history({"metric.loss": loss}, step=step, total=1000)
    path, _ = foretell(model, one)["metric.loss"]
    end = scale * (1 + 3 * 1000**-0.5)
    low, middle, high = np.quantile(path[:, -1], [0.05, 0.5, 0.95])
    assert low <= end <= high
    assert abs(middle - end) < 0.7 * abs(loss[-20:].mean() - end)


@each_model
def test_the_spread_grows_with_the_horizon(model: Curves):
    random = np.random.default_rng(5)
    step = np.arange(1, 101)
    loss = 1 + 3 * step**-0.5 + 0.02 * random.standard_normal(100)
    path, _ = foretell(model, history({"metric.loss": loss}, step=step, total=2000))["metric.loss"]
    spread = np.quantile(path, 0.9, axis=0) - np.quantile(path, 0.1, axis=0)
    assert spread[-1] > spread[0] > 0


@each_model
@pytest.mark.parametrize(("rows", "moving"), [(3, 16), (15, 4), (31, 2), (500, 1)])
def test_a_constant_keeps_its_value_but_for_the_chance_that_it_moves(model: Curves, rows: int, moving: int):
    path, deviation = foretell(model, history({"metric.loss": [2.5] * rows}))["metric.loss"]
    assert path == pytest.approx(np.full(path.shape, 2.5))
    wide = deviation > 0.05 * 2.5
    assert wide.all(axis=1).sum() == wide.any(axis=1).sum() == moving
    assert (deviation[~wide] == 0).all()


@each_model
@pytest.mark.parametrize("value", [4.0, -4.0])
def test_a_single_point_is_foretold_with_a_wide_interval(model: Curves, value: float):
    single = np.full(30, np.nan)
    single[7] = value
    path, _ = foretell(model, history({"metric.val": single}))["metric.val"]
    low, high = np.quantile(path[:, -1], [0.1, 0.9])
    assert high - low > 0.05 * abs(value)


@each_model
@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_what_was_positive_throughout_stays_positive_and_within_reach(model: Curves, values: list[float]):
    path, _ = foretell(model, history({"metric.loss": values}, total=2000))["metric.loss"]
    assert (path > 0).all()
    assert (path < 11 * max(values)).all()


@each_model
def test_levels_are_balanced_over_any_half_of_the_trajectories(model: Curves):
    step = np.arange(1, 101)
    loss = 1 + 3 * step**-0.5 + 0.05 * np.random.default_rng(1).standard_normal(100)
    path, _ = foretell(model, history({"metric.loss": loss}, step=step, total=500))["metric.loss"]
    ends = path[:, -1]
    assert len(np.unique(ends)) > M // 2
    assert abs(np.median(ends[: M // 2]) - np.median(ends[M // 2 :])) < 0.15 * np.ptp(ends)


@each_model
def test_a_job_in_a_batch_is_foretold_as_it_is_alone(model: Curves):
    step = np.arange(1, 61)
    one = history({"metric.loss": 1 + step**-0.5}, step=step, total=500)
    two = history({"metric.loss": 9 - step**0.3, "metric.acc": step / 100}, step=step, total=700)
    grids = [ahead(one, 8), ahead(two, 8)]
    samples = Schedules(None).sample([one, two], grids, M)
    batch = model.sample([one, two], grids, samples)
    alone = model.sample([two], grids[1:], samples[1:])[0]
    for name in ("metric.loss", "metric.acc"):
        assert batch[1][name][0] == pytest.approx(alone[name][0], rel=1e-4, abs=1e-5)


@each_model
@pytest.mark.parametrize("place", [0, 25])
def test_a_burst_that_is_over_is_not_the_scale_of_what_follows(model: Curves, place: int):
    loss = 0.5 + 2 / np.sqrt(1.0 + np.arange(60))
    burst = loss.copy()
    burst[place] = 1e9
    plain, shaken = (foretell(model, history({"metric.loss": values}, total=1200)) for values in (loss, burst))
    first, second = (found["metric.loss"][0][:, -1] for found in (plain, shaken))
    assert abs(np.median(second) - np.median(first)) < 0.5
    assert np.ptp(second) < 20 * np.ptp(first)


def test_weights_of_another_shape_are_refused():
    with pytest.raises(WeightsError, match="do not fit"):
        Curves(Weights({"curve.gru.bias": np.zeros(3, dtype=np.float32)}))


def test_the_training_loss_stands_beside_the_other_metrics_of_its_job_alone():
    step = np.arange(1, 41)
    one = history({"metric.val_loss": 1 + step**-0.5, "metric.train_loss": step**-0.5}, step=step)
    two = history({"metric.loss": 2 + step**-0.5}, step=step)
    rows = stack([one, two], lambda name: name.startswith("metric."))
    partner = partners(rows)
    told = dict(zip(rows.names, partner.tolist(), strict=True))
    assert told == {
        "metric.val_loss": rows.names.index("metric.train_loss"),
        "metric.train_loss": -1,
        "metric.loss": -1,
    }
    seen = encode(rows, np.full(3, 40.0), np.full(3, 80.0), partner)
    with_partner = np.abs(seen.sequence[:, :, -2:]).sum(axis=(1, 2)) > 0
    assert with_partner.tolist() == [name == "metric.val_loss" for name in rows.names]


def test_a_curve_told_in_scales_is_told_back():
    step = np.arange(1, 41)
    rows = stack([history({"metric.a": step**-0.5, "metric.b": step - 20.0}, step=step)], lambda name: True)
    seen = encode(rows, np.full(2, 40.0), np.full(2, 80.0))
    values = np.stack([step[3:8] ** -0.5, step[3:8] - 20.0])
    assert seen.positive.tolist() == [True, False]
    assert seen.values(seen.scaled(values)) == pytest.approx(values)
