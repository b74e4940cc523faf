"""Intervals that cover as often as they claim."""

import json
from pathlib import Path

import numpy as np
import pytest

from daemon.forecast.calibrate import EDGES, Calibration, adapt, bucket, fit, load


def test_split_conformal_covers_new_scores() -> None:
    rng = np.random.default_rng(0)
    scores = np.abs(rng.standard_t(3, 4000)) * 2
    buckets = rng.integers(0, 5, 4000)
    calibration = fit({"step_seconds": (scores[:2000], buckets[:2000])})
    factors = np.array(calibration.factors["step_seconds"])[buckets[2000:]]
    assert np.mean(scores[2000:] <= 1.645 * factors) == pytest.approx(0.9, abs=0.03)


def test_too_few_scores_leave_a_factor_alone() -> None:
    assert fit({"x": (np.full(29, 9.0), np.zeros(29, dtype=int))}).factors["x"] == (1.0,) * 5


def test_a_path_takes_its_own_factor_then_that_of_its_kind_then_none() -> None:
    calibration = Calibration({"metric": (2.0,) * 5, "metric.loss": (1.0, 1.0, 3.0, 3.0, 3.0)})
    ahead = np.array([1, 50, 500])
    assert list(calibration.factor("metric.loss", ahead, 100)) == [1.0, 3.0, 3.0]
    assert list(calibration.factor("metric.accuracy", ahead, 100)) == [2.0] * 3
    assert calibration.factor("step_seconds", ahead, 100) == 1.0


def test_buckets_are_relative_to_what_is_behind() -> None:
    assert list(bucket(np.array([5, 20, 50, 200, 900]), 100)) == [0, 1, 2, 3, 4]
    assert len(EDGES) == 4
    assert list(bucket(np.array([1]), 0)) == [2]


def test_adapting_follows_a_job_whose_intervals_are_too_narrow_and_comes_back() -> None:
    rng = np.random.default_rng(1)
    wide = adapt(1.0, np.abs(rng.standard_normal(600)) * 2)
    assert wide == pytest.approx(2.0, rel=0.5)
    assert adapt(wide, np.abs(rng.standard_normal(600))) == pytest.approx(1.0, rel=0.5)
    errors = np.abs(rng.standard_normal(4000)) * 1.7
    factor, hits = 1.0, 0
    for error in errors:
        hits += error <= 1.645 * factor
        factor = adapt(factor, np.array([error]))
    assert hits / len(errors) == pytest.approx(0.9, abs=0.02)


def test_adapting_stays_in_bounds_under_poison() -> None:
    assert adapt(1.0, np.full(1000, 1e9)) == 4.0
    assert adapt(1.0, np.zeros(1000)) == 0.5
    assert adapt(1.3, np.array([np.nan, np.inf])) == 1.3


def test_state_is_plain_numbers_and_comes_back() -> None:
    calibration = Calibration({"metric": (1.0, 1.5, 2.0, 2.0, 2.0)})
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


@pytest.mark.parametrize(
    "state", [{"x": [1.0]}, {"x": [1, 1, 1, 1, 0]}, {"x": [1, 1, 1, 1, float("nan")]}, {"x": "no"}]
)
def test_a_bad_state_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="measure it again"):
        Calibration.from_dict(state)


def test_a_bad_or_missing_file_gives_factors_of_one_and_says_so(tmp_path: Path) -> None:
    assert load(tmp_path / "none.json") == (Calibration(), "")
    (tmp_path / "bad.json").write_text("[1, 2")
    calibration, reason = load(tmp_path / "bad.json")
    assert calibration == Calibration()
    assert reason.startswith("calibration not used")
    (tmp_path / "good.json").write_text('{"metric": [2, 2, 2, 2, 2]}')
    assert load(tmp_path / "good.json")[0].factors["metric"] == (2.0,) * 5
