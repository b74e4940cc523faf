"""The runs on which the spread of metrics was tuned: kinds that no lesson knows are covered."""

from daemon.forecast.ensemble import Recurrent
from tests.benchmarks.alien import found
from tests.tools import curve_tuning


def test_kinds_that_no_lesson_knows_are_covered_and_no_worse_than_the_last_value():
    lines = found("metric.score", curve_tuning.runs(seed=5, each=8), Recurrent())
    assert {one.kind for one in lines} == {"all", *curve_tuning.KINDS}
    for one in lines:
        if one.kind == "all":
            assert 0.6 <= one.coverage80 <= 0.9, one
            assert one.over_last <= 1.05, one


def test_the_same_seed_makes_the_same_runs():
    assert curve_tuning.runs(seed=1, each=1) == curve_tuning.runs(seed=1, each=1)
