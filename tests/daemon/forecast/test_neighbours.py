from dataclasses import replace

import numpy as np
import pytest

from daemon.forecast.curve import Curves
from daemon.forecast.schedule import Schedules
from daemon.types import Floats, History
from tests.daemon.forecast.histories import ahead, history

STEP = np.arange(1, 101)
CURVES = Curves(None)


def dropping(end: float, steps: int = 100) -> Floats:
    """A loss that falls as a power and drops at 60 %, which nothing before 60 % tells."""
    share = STEP[:steps] / 100
    return STEP[:steps] ** -0.3 - (share > 0.6) * end


def middle(job: History) -> float:
    grid = ahead(job, 12)
    return float(
        np.median(CURVES.sample([job], [grid], Schedules(None).sample([job], [grid], 64))[0]["metric.loss"][0][:, -1])
    )


def earlier(values: Floats) -> History:
    return history({"metric.loss": values}, step=STEP[: len(values)], total=len(values))


def test_a_drop_that_earlier_runs_had_is_expected():
    job = history({"metric.loss": dropping(0.1, 50)}, step=STEP[:50], total=100)
    told = replace(job, earlier=(earlier(dropping(0.1)),) * 3)
    assert middle(job) > 0.2
    assert middle(told) == pytest.approx(dropping(0.1)[-1], abs=0.02)


def test_an_earlier_run_of_another_length_is_laid_over_by_its_share():
    job = history({"metric.loss": dropping(0.1, 50)}, step=STEP[:50], total=100)
    longer = history({"metric.loss": dropping(0.1)}, step=STEP * 7, total=700)
    assert middle(replace(job, earlier=(longer,) * 3)) == pytest.approx(dropping(0.1)[-1], abs=0.02)


def test_an_earlier_run_that_was_not_alike_changes_nothing():
    job = history({"metric.loss": dropping(0.1, 50)}, step=STEP[:50], total=100)
    assert middle(replace(job, earlier=(earlier(50 + np.sqrt(STEP)),) * 3)) == middle(job)


@pytest.mark.parametrize("values", [np.full(100, np.nan), np.zeros(100), -STEP / 7.0, np.full(1, 3.0)])
def test_no_earlier_run_makes_a_path_that_is_not_finite(values: Floats):
    job = history({"metric.loss": dropping(0.1, 50)}, step=STEP[:50], total=100)
    assert np.isfinite(middle(replace(job, earlier=(earlier(values),))))
