"""The runs of kinds that no network was taught: the file is whole, and a backtest of it holds together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daemon.backtest import baselines, history, ours, score
from daemon.backtest.question import ask
from daemon.backtest.run import Asked, backtest
from daemon.forecast.ensemble import Recurrent
from tests.benchmarks import alien


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[history.Run]:
    path = tmp_path_factory.mktemp("alien") / "alien.csv"
    alien.write(path, alien.runs(seed=3, each=6))
    return history.read([path])


def test_the_file_holds_every_kind_with_its_faults(recorded: list[history.Run], tmp_path: Path):
    assert {one.group for one in recorded} == set(alien.KINDS)
    assert all(len(one) <= 5 for one in recorded if one.group == "five rows")
    assert any(one.diverged_row >= 0 for one in recorded)
    assert any(np.isnan(one.column("metric.score")).any() for one in recorded)
    assert alien.runs(seed=3, each=2) == alien.runs(seed=3, each=2)


@pytest.mark.parametrize("target", ["metric.score", "elapsed_s", "usage.accelerator"])
def test_every_answer_is_finite_and_ordered(recorded: list[history.Run], target: str):
    result = backtest(recorded[::7], Asked(target, (0.2, 0.7), learn=True), Recurrent())
    for method, answers in result.answers.items():
        for made in answers:
            assert np.isfinite(made.mean).all(), method
            assert (np.diff(made.quantiles, axis=1) >= 0).all(), method


def test_total_times_are_covered_and_no_worse_than_persistence(recorded: list[history.Run]):
    kept = ("hp.", "step_seconds")
    bare = [
        replace(one, columns={name: values for name, values in one.columns.items() if name.startswith(kept)})
        for one in recorded
    ]
    for seen in (0.2, 0.6):
        questions = [one for each in bare if (one := ask(each, "elapsed_s", seen, None)) is not None]
        made, _ = ours.forecasts(Recurrent(), questions, (), False, lambda _: None)
        last = [baselines.answer(baselines.last_value, one) or ours.silent(one) for one in questions]
        actual = np.array([one.actual[0] for one in questions])
        quantiles, theirs = (np.concatenate([one.quantiles for one in each]) for each in (made, last))
        assert 0.65 <= score.inside(quantiles, actual, 1, 5) <= 0.95
        assert (score.crps(quantiles, actual) / actual).mean() <= (score.crps(theirs, actual) / actual).mean()
