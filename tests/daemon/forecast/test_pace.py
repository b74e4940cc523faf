"""How a run's pace departs from its medians."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.forecast.pace import Pace, pace
from daemon.types import Floats, History
from tests.daemon.forecast.jobs import job


def timed(took: Floats) -> History:
    history = job([16], [128], rows=len(took))
    return replace(history, columns={**history.columns, "step_seconds": took})


def test_a_steady_run_has_the_pace_of_its_medians() -> None:
    found = pace(timed(np.full(60, 0.2)))
    assert found.factor == pytest.approx(1.0)
    assert found.deviation(np.array([1000.0]))[0] < 0.02


def test_slow_steps_count_on_average_and_the_start_does_not() -> None:
    took = np.full(100, 0.2)
    took[0] = 60.0
    took[5::10] = 1.0
    found = pace(timed(took))
    assert found.factor == pytest.approx(1.4, rel=0.03)


def test_settings_are_told_apart() -> None:
    history = job([16, 64], [128, 128], rows=40, noise=0.0)
    assert pace(history).factor == pytest.approx(1.0)


def test_a_pace_that_moves_leaves_more_open_and_little_evens_out() -> None:
    took = np.full(120, 0.2)
    took[70:] *= 1.4
    moved, noisy = pace(timed(took)), pace(timed(0.2 + 0.1 * np.random.default_rng(0).random(120)))
    far = np.array([1e5])
    assert moved.deviation(far)[0] > 0.05 > noisy.deviation(far)[0]
    assert noisy.deviation(np.array([10.0]))[0] > noisy.deviation(far)[0]


def test_few_rows_say_little() -> None:
    wide = [pace(timed(np.full(count, 0.2))).deviation(np.array([1e5]))[0] for count in (1, 2, 4, 16, 64)]
    assert wide == sorted(wide, reverse=True)
    assert wide[0] >= 0.5
    assert pace(History("silent", np.arange(3), np.zeros(3), {})) == Pace(1.0, 0.0, 0.5, 1.0)


@given(st.lists(st.one_of(st.just(float("nan")), st.floats(1e-6, 1e6)), min_size=1, max_size=40))
def test_any_times_give_a_finite_pace(took: list[float]) -> None:
    found = pace(timed(np.array(took)))
    assert np.isfinite([found.factor, found.spread, found.lasting, found.block]).all()
    assert found.factor > 0
    assert (found.deviation(np.array([1.0, 1e9])) >= 0.01).all()
