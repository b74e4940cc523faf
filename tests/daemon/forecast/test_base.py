"""Reading a forecast's quantiles."""

from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import norm

from daemon.forecast.base import quantiles
from daemon.types import Floats, Forecast

LEVELS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99)


def forecast(paths: Floats, deviation: Floats | None = None) -> Forecast:
    count = len(paths)
    deviations = {} if deviation is None else {"x": deviation}
    made = datetime(2026, 1, 1, tzinfo=UTC)
    return Forecast("job", made, 0, np.array([1, 2]), np.full(count, 1 / count), {"x": paths}, deviations)


@pytest.mark.parametrize("count", [1, 2, 64, 100])
def test_paths_that_run_together_are_one_gaussian(count: int):
    found = quantiles(forecast(np.full((count, 2), 7.0), np.full((count, 2), 2.0)), "x", LEVELS)
    np.testing.assert_allclose(found[:, 0], norm.ppf(LEVELS, 7.0, 2.0), atol=0.12)


def test_a_single_path_is_its_own_median():
    assert quantiles(forecast(np.full((1, 2), 7.0), np.ones((1, 2))), "x", (0.5,)).tolist() == [[7.0, 7.0]]


def test_paths_apart_are_a_mixture():
    paths = np.repeat(np.array([[0.0], [10.0]]), 2, axis=1)
    found = quantiles(forecast(paths, np.ones((2, 2))), "x", (0.25, 0.75, 0.95))
    np.testing.assert_allclose(found[:, 1], [0.0, 10.0, norm.ppf(0.9, 10.0)], atol=0.12)


def test_paths_without_deviation_are_weighed_as_they_are():
    found = quantiles(forecast(np.array([[1.0, 3.0], [2.0, 1.0], [3.0, 2.0]])), "x", (0.1, 0.5, 0.9))
    assert found.T.tolist() == [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
