"""The backtest as a whole: all methods on one sample, nothing of the future seen, nothing broken by strange runs."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from daemon.backtest import report
from daemon.backtest.ablation import parts
from daemon.backtest.history import HistoryError, Run
from daemon.backtest.question import ask
from daemon.backtest.run import OURS, Asked, backtest
from daemon.forecast.ensemble import Parts, Recurrent
from tests.daemon.backtest.runs import decaying, ramped, run


def closed() -> Recurrent:
    from daemon.forecast.curve import Curves
    from daemon.forecast.schedule import Schedules
    from daemon.forecast.usage import Usages

    return Recurrent(Parts(Schedules(None), Curves(None), Usages(None), reason="closed_form: a test"))


def every(found: dict[str, object], key: str) -> list[float]:
    return [row[key] for row in found["rows"]]  # type: ignore[attr-defined]


def test_all_methods_answer_the_same_sample_and_json_holds():
    runs = [decaying(seed, group=f"g{seed % 3}") for seed in range(12)]
    found = report.plain(backtest(runs, Asked("metric.loss", learn=True), closed()))
    json.dumps(found, allow_nan=False)
    assert {row["seen"] for row in found["rows"]} == {0.2, 0.4, 0.6, 0.8}
    assert {row["method"] for row in found["rows"]} >= {OURS, "last_value", "nearest_neighbours", "power_law"}
    assert set(every(found, "n")) == {12}
    assert found["seconds_per_1000"] > 0


def test_nearest_neighbours_need_learning():
    runs = [decaying(seed) for seed in range(6)]
    assert "nearest_neighbours" not in backtest(runs, Asked("metric.loss"), closed()).answers


def test_nothing_of_the_future_is_seen():
    whole = ramped()
    other = run(
        np.where(np.arange(60) < 30, 1.0, 77.0), elapsed=whole.elapsed_s,
        more={"hp.batch_size": np.where(np.arange(60) < 30, whole.columns["hp.batch_size"], 8.0)},
    )  # fmt: skip
    whole = run(np.ones(60), elapsed=whole.elapsed_s, more={"hp.batch_size": whole.columns["hp.batch_size"]})
    for target in ("metric.loss", "elapsed_s"):
        one, two = (backtest([each], Asked(target, (0.4,)), closed()) for each in (whole, other))
        for method in one.answers.keys() - {"shockwave_told"}:
            np.testing.assert_allclose(
                one.answers[method][0].quantiles, two.answers[method][0].quantiles, err_msg=method
            )


def test_a_declared_schedule_makes_the_total_time_known():
    runs = [ramped()]
    blind = backtest(runs, Asked("elapsed_s", (0.5,)), closed()).answers[OURS][0].mean[0]
    told = backtest(runs, Asked("elapsed_s", (0.5,), declared=("hp.batch_size",)), closed()).answers[OURS][0].mean[0]
    actual = runs[0].elapsed_s[-1]
    assert abs(told / actual - 1) < 0.05 < abs(blind / actual - 1)


def test_runs_are_cut_after_their_first_change():
    runs = [ramped("a"), ramped("b"), decaying(1, job="calm")]
    result = backtest(runs, Asked("elapsed_s", after_change=20), closed())
    assert [question.run.job for question in result.questions] == ["a", "b"]
    assert [question.now for question in result.questions] == [220.0, 220.0]
    assert {row["seen"] for row in report.plain(result)["rows"]} == {round(220 / 590, 4)}
    with pytest.raises(HistoryError, match="before and after a cut"):
        backtest([decaying(1)], Asked("elapsed_s", after_change=20), closed())


def test_an_owner_with_many_runs_counts_no_more_than_another():
    runs = [ramped(f"{owner}{k}", owner=owner) for owner, count in (("ann", 9), ("bob", 1)) for k in range(count)]
    found = report.plain(backtest(runs, Asked("elapsed_s", (0.5,), per_owner=1), closed()))
    assert set(every(found, "n")) == {2}
    assert {(one["by"], one["clusters"]) for one in found["paired"]} == {("owner", 2)}
    assert all(one["mape"]["low"] <= one["mape"]["difference"] <= one["mape"]["high"] for one in found["paired"])


def test_what_is_left_out_is_missed():
    runs = [ramped(f"r{k}") for k in range(4)]
    asked = Asked("elapsed_s", (0.55,), learn=True)
    off = [
        abs(made.mean[0] / question.actual[0] - 1)
        for without in ((), ("shockwave-schedules",))
        for result in [backtest(runs, asked, Recurrent(parts(None, without)))]
        for question, made in [(result.questions[-1], result.answers[OURS][-1])]
    ]
    assert off[0] < 0.1 < off[1]


def test_a_sample_is_drawn_by_its_seed():
    runs = [decaying(seed) for seed in range(20)]

    def jobs(seed: int) -> list[str]:
        asked = Asked("metric.loss", (0.5,), sample=5, seed=seed)
        return [question.run.job for question in backtest(runs, asked, closed()).questions]

    assert jobs(1) == jobs(1)
    assert len(jobs(1)) == 5
    assert jobs(1) != jobs(2)


STRANGE: dict[str, Run] = {
    "constant": run(np.full(40, 3.0)),
    "zeros": run(np.zeros(40)),
    "five rows": run([5.0, 4.0, 3.0, 2.5, 2.4]),
    "two rows": run([5.0, 4.0]),
    "gaps": run(np.where(np.arange(50) % 3 == 0, np.linspace(3, 1, 50), np.nan)),
    "diverged": run(np.concatenate([np.linspace(3, 1, 20), np.geomspace(1, 1e30, 20)])),
    "negative": run(-np.linspace(1, 9, 30)),
    "no clock": run(np.linspace(3, 1, 30), elapsed=np.full(30, np.nan)),
    "past its total": run(np.linspace(3, 1, 30), total=100.0),
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("horizon_s", [None, 100.0])
def test_strange_runs_get_finite_ordered_answers(name: str, horizon_s: float | None):
    runs = [STRANGE[name], decaying(1)]
    for target in ("metric.loss", "elapsed_s"):
        result = backtest(runs, Asked(target, (0.2, 0.5, 0.8), horizon_s, learn=True), closed())
        for method, answers in result.answers.items():
            for made in answers:
                assert np.isfinite(made.mean).all(), method
                assert np.isfinite(made.quantiles).all(), method
                assert (np.diff(made.quantiles, axis=1) >= 0).all(), method
        json.dumps(report.plain(result), allow_nan=False)


def test_a_column_no_forecaster_knows_is_answered_with_a_wide_interval():
    one = run(np.linspace(10, 20, 40), target="throughput")
    result = backtest([one], Asked("throughput", (0.5,)), closed())
    ours, last = result.answers[OURS][0].quantiles[0], result.answers["last_value"][0].quantiles[0]
    assert ours[6] - ours[0] == pytest.approx(2 * (last[6] - last[0]))


def test_a_job_of_one_row_is_not_foretold_with_confidence():
    result = backtest(
        [run([5.0, 4.0, 3.0, 2.5, 2.4], elapsed=np.array([3.0, 6, 9, 12, 15]))], Asked("elapsed_s", (0.2,)), closed()
    )
    low, high = result.answers[OURS][0].quantiles[0][[0, 6]]
    assert high - low > 0.5 * result.answers[OURS][0].mean[0]


def test_what_cannot_be_asked_is_said():
    runs = [decaying(1)]
    with pytest.raises(HistoryError, match=r"no file has a value in column metric\.acc - take one of: metric\.loss"):
        backtest(runs, Asked("metric.acc"), closed())
    with pytest.raises(HistoryError, match="no run is of group"):
        backtest(runs, Asked("metric.loss", groups=("zzz",)), closed())
    late = run([np.nan] * 20 + [1.0, 2.0])
    assert ask(late, "metric.loss", 0.5, None) is None
    with pytest.raises(HistoryError, match="before and after a cut"):
        backtest([late], Asked("metric.loss", (0.5,)), closed())


def test_predictions_hold_every_answer(tmp_path: Path):
    runs = [decaying(seed) for seed in range(3)]
    result = backtest(runs, Asked("metric.loss", (0.5,)), closed())
    assert report.write_predictions(result, tmp_path / "p.parquet") == 3 * len(result.answers)
    table = parquet.read_table(tmp_path / "p.parquet")
    assert table.column_names == [
        "job", "seen", "method", "at_step", "at_s", "actual", "mean", "q025", "q10", "q25", "q50", "q75", "q90", "q975",
    ]  # fmt: skip
    assert table.column("q10").null_count == 0
    with pytest.raises(HistoryError, match="cannot be written"):
        report.write_predictions(result, tmp_path / "no" / "p.parquet")
