import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from daemon.forecast import hindsight, spread
from daemon.forecast.rows import stack
from daemon.forecast.seen import encode
from tests.daemon.forecast.histories import history

NORMAL = spread.normal(np.array([2.0]))


@given(st.floats(-6, 6))
def test_what_came_is_placed_among_normal_quantiles_at_its_score(came: float):
    assert hindsight.place_of(NORMAL, np.array([came])) == pytest.approx([np.clip(came / 2, -4, 4)], abs=1e-6)


def test_a_curve_that_came_as_foretold_is_narrowed_and_one_that_missed_is_shifted_and_widened():
    quantiles = spread.normal(np.ones((3, 2)))
    found = hindsight.corrected(quantiles, [np.array([0.0, -3.0, np.nan]), np.array([0.0, -2.0, np.nan])])
    width = found[:, 0, 7] - found[:, 0, 1]
    assert width[0] < width[2] < width[1]
    assert found[0, 0, 4] == 0
    assert found[1, 0, 4] == pytest.approx(-hindsight.SHIFT * hindsight.SURPRISE, abs=0.01)
    assert found[2] == pytest.approx(quantiles[2])


@given(arrays.arrays(np.float64, (3, 2), elements=st.floats(-4, 4)), st.integers(0, 99))
def test_order_is_kept(places: np.ndarray, seed: int):
    quantiles = np.sort(np.random.default_rng(seed).standard_normal((3, 5, 9)), axis=2)
    assert (np.diff(hindsight.corrected(quantiles, list(places.T)), axis=2) >= -1e-12).all()


def test_rows_stand_as_they_stood_then():
    one = history({"metric.a": np.arange(10.0), "metric.b": np.where(np.arange(10) < 4, np.nan, 1.0)})
    rows = stack([one, history({"metric.a": [5.0, 6.0]})], lambda name: True)
    then, begun = hindsight.before(rows, 0.6)
    assert begun.tolist() == [True, True, False]
    assert then.values[0, -6:].tolist() == [0, 1, 2, 3, 4, 5]
    assert then.seen[0].tolist() == [False] * 4 + [True] * 6
    assert then.steps[0, -1] == 50
    assert then.seen[1].sum() == 2
    assert (then.seen[2] == rows.seen[2]).all()


def test_the_last_value_is_as_far_off_as_it_was_from_earlier_moments():
    step = np.arange(10, 110, 10)
    calm, wild = 2 + 0.001 * step, 2 + 0.01 * step
    jobs = [
        history({"metric.a": calm}, step=step),
        history({"metric.a": wild}, step=step),
        history({"metric.a": [2.0]}),
    ]
    rows = stack(jobs, lambda name: True)
    now = np.where(rows.seen, rows.steps, 0.0).max(axis=1)
    seen = encode(rows, now, np.full(3, 400.0))
    ahead = now[:, None] * np.array([[1.5, 3.0]])
    found = hindsight.lasting(rows, seen, now, ahead) * seen.scale[:, None]
    assert np.isnan(found[2]).all()
    assert (np.diff(found[:2], axis=1) > 0).all()
    assert (found[1] > 3 * found[0]).all()


def test_a_fifth_of_a_forecast_is_that_the_present_lasts():
    quantiles = 10 + spread.normal(np.full((2, 1), 0.1))
    found = hindsight.guarded(quantiles, np.array([[0.1], [np.nan]]))
    assert found[1] == pytest.approx(quantiles[1])
    assert (found[0, 0, :2] < 1).all()
    assert (found[0, 0, 3:] > 9).all()


def test_far_ahead_the_last_value_is_trusted_less_than_the_root_of_the_horizon_says():
    step = np.arange(10, 110, 10)
    rows = stack([history({"metric.a": 2 + 0.01 * step}, step=step)], lambda name: True)
    now = np.array([100.0])
    seen = encode(rows, now, np.full(1, 1000.0))
    ahead = np.array([[110.0, 150.0, 250.0, 500.0]])
    found = hindsight.lasting(rows, seen, now, ahead)[0] / np.sqrt(np.log1p(ahead[0]) - np.log1p(100.0))
    assert found[1] == pytest.approx(found[0])
    assert found[3] > 1.5 * found[2] > 3 * found[1]
