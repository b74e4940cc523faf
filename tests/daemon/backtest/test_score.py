"""The figures themselves, against cases worked out by hand."""

import numpy as np
import pytest
from scipy.special import ndtri

from daemon.backtest import score


def test_a_forecast_without_spread_has_its_error_for_crps():
    found = score.crps(np.full((2, 7), 3.0), np.array([5.0, 2.0]))
    np.testing.assert_allclose(found, [2.0, 1.0])


def test_the_crps_of_a_standard_normal_is_near_its_closed_form():
    quantiles = np.tile(ndtri(np.array(score.LEVELS)), (1, 1))
    exact = 2 / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi)
    assert abs(score.crps(quantiles, np.zeros(1))[0] - exact) < 0.03


def test_losses_are_scaled_from_the_best_finals_to_the_median_beginning():
    final = np.linspace(0.0, 1.0, 101)
    one = score.scale(np.full(101, 3.0), final)
    assert (one.low, one.high) == (0.01, 3.0)
    np.testing.assert_allclose(one.of(np.array([0.01, 3.0, 1e30])), [0.0, 1.0, score.MOST])


def test_a_metric_that_rises_and_one_that_stands_still_have_a_scale():
    rising = score.scale(np.full(5, 0.1), np.full(5, 0.9))
    assert abs(rising.low - rising.high) > 0.7
    still = score.scale(np.full(5, 2.0), np.full(5, 2.0))
    assert np.isfinite(still.of(np.array([2.0, 3.0]))).all()
    zero = score.scale(np.zeros(5), np.zeros(5))
    assert np.isfinite(zero.of(np.zeros(3))).all()


def test_coverage_counts_what_lies_between():
    quantiles = np.tile(np.arange(7.0), (4, 1))
    actual = np.array([0.5, 1.0, 5.0, 7.0])
    ninety = np.array([[0.0, 1.0], [0.0, 0.5], [0.0, 9.0], [np.nan, np.nan]])
    found = score.summary(quantiles, actual, quantiles, actual, ninety)
    assert (found["coverage80"], found["coverage95"], found["n"]) == (0.5, 0.75, 4)
    assert found["coverage90"] == pytest.approx(2 / 3)
    assert score.summary(quantiles, actual, quantiles, actual, np.full((4, 2), np.nan))["coverage90"] is None


def test_the_paired_difference_draws_whole_clusters():
    ours, theirs = np.array([1.0, 1.0, 4.0]), np.array([2.0, 2.0, 2.0])
    found = score.paired(ours, theirs, ["a", "a", "b"], seed=0)
    assert found["difference"] == 0.0
    assert (found["low"], found["high"], found["clusters"]) == (-1.0, 2.0, 2)
