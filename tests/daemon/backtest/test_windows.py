"""Rolling windows: where they lie, what they show, and the loss over deciles."""

import numpy as np
import pytest
from scipy.special import ndtri

from daemon.backtest import windows
from daemon.backtest.baselines import Answer
from daemon.backtest.question import history
from daemon.backtest.score import LEVELS
from daemon.backtest.windows import Windows
from tests.daemon.backtest.runs import run


def test_rows_of_one_time_are_merged_to_their_mean():
    one = run([1.0, 3.0, np.nan, 5.0, 7.0, 9.0], "usage.x", elapsed=np.array([0.0, 5.0, 10.0, 15.0, 40.0, 45.0]))
    made = windows.merged(one, 10.0)
    assert made.column("usage.x").tolist() == [2.0, 5.0, 8.0]
    assert made.step.tolist() == [0.0, 1.0, 4.0]
    assert made.elapsed_s.tolist() == [0.0, 10.0, 40.0]


def test_windows_show_their_context_alone():
    one = run(np.arange(40.0), "usage.x")
    found = windows.windows(one, "usage.x", Windows(12, 5, 6))
    assert [question.actual.tolist() for question in found] == [
        [float(start + 12 + row) for row in range(5)] for start in (0, 6, 12, 18)
    ]
    shown = history(found[1])
    assert shown.columns["usage.x"].tolist() == [float(row) for row in range(6, 18)]
    assert shown.total_steps is None
    assert len(windows.windows(one, "usage.x", Windows(12, 5, 1, most=3))) == 3


def test_windows_without_much_to_see_or_to_score_are_left_out():
    values = np.arange(40.0)
    values[:8] = np.nan
    values[32:] = np.nan
    found = windows.windows(run(values, "usage.x"), "usage.x", Windows(12, 5, 4))
    assert [question.actual[0] for question in found] == [16.0, 20.0, 24.0, 28.0]


def test_deciles_of_a_normal_forecast_are_its_own():
    levels = 5.0 + 2.0 * ndtri(np.array(LEVELS))
    assert windows.deciles(levels[None])[0] == pytest.approx(5.0 + 2.0 * ndtri(windows.DECILES))


def test_the_loss_of_a_point_forecast_is_its_relative_error():
    asked = windows.windows(run(np.full(20, 10.0), "usage.x"), "usage.x", Windows(10, 5, 5))
    answers = [Answer(np.full(5, 9.0), np.full((5, 7), 9.0)) for _ in asked]
    found = windows.losses(asked, answers)
    assert found.wql() == pytest.approx(0.1)
    assert found.coverage() == (0.0, 0.0)
    better = windows.losses(asked, [Answer(one.actual, one.actual[:, None] * np.ones(7)) for one in asked])
    assert better.coverage() == (1.0, 1.0)
    gap = windows.apart(better, found, ["a"] * len(asked), 0)
    assert (gap["difference"], gap["low"], gap["high"]) == pytest.approx((-0.1, -0.1, -0.1))
