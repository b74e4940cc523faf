"""``scaleahead import``: other tools' records become history files, or earlier runs of their owner in the store."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from api.cli import run
from daemon.backtest import history
from daemon.backtest.history import Run
from daemon.forecast.base import Horizon
from daemon.forecast.ensemble import Parts, Recurrent
from daemon.store.open import open_store
from daemon.types import Job, JobStatus, Observation, Report
from providers.clock import VirtualClock
from tests.api.importing.records import STARTED, csv_file, event_files, mlflow_database, mlruns, prometheus_file


def imported(out: Path, *arguments: object) -> list[Run]:
    assert run(["import", *map(str, arguments), "--out", str(out)]) == 0
    return history.read([out])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_csv_columns_are_guessed_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str):
    rules = "gpu mem (MB)=usage.gpu_memory_gib/1024"
    (one,) = imported(tmp_path / f"h.{ending}", "csv", csv_file(tmp_path / "log.csv"), "--map", rules)
    assert (one.job, one.owner, one.started_at) == ("lm", "ann", "2025-11-24T16:00:00Z")
    assert one.step.tolist() == [10.0 * row for row in range(20)]
    assert one.elapsed_s[[0, 1, 10]].tolist() == [0.0, 4.0, 80.0]
    assert one.columns["hp.bs"].tolist() == [32.0] * 10 + [64.0] * 10
    assert one.columns["usage.gpu_memory_gib"][0] == 3.125
    assert one.columns["metric.train_loss"][1] == 1.0
    told = capsys.readouterr()
    assert "train loss -> metric.train_loss" in told.err
    assert "left out: epoch, note" in told.err
    assert "1 runs, 20 rows written" in told.out


def test_a_file_without_step_or_time_counts_its_rows(tmp_path: Path):
    (tmp_path / "plain.csv").write_text("loss,lr\n3,0.1\n2,0.1\n,0.1\n")
    (one,) = imported(tmp_path / "h.csv", "csv", tmp_path / "plain.csv", "--owner", "ann")
    assert (one.job, one.owner, one.step.tolist()) == ("plain", "ann", [0.0, 1.0, 2.0])
    assert np.isnan(one.columns["metric.loss"][2])
    assert np.isnan(one.elapsed_s).all()


def test_a_history_file_comes_out_as_it_went_in(tmp_path: Path):
    text = "job,group,step,elapsed_s,total_steps,hp.batch_size,metric.loss\n"
    text += "".join(f"{job},g,{row},{row * 2},50,32,{1 / (row + 1)}\n" for job in "ab" for row in range(5))
    (tmp_path / "h.csv").write_text(text)
    before, after = history.read([tmp_path / "h.csv"]), imported(tmp_path / "o.parquet", "csv", tmp_path / "h.csv")
    assert [(one.job, one.group) for one in after] == [(one.job, one.group) for one in before]
    for old, new in zip(before, after, strict=True):
        assert old.columns.keys() == new.columns.keys()
        for name in old.columns:
            np.testing.assert_array_equal(old.columns[name], new.columns[name])
        np.testing.assert_array_equal(old.total_steps, new.total_steps)
        np.testing.assert_array_equal(old.elapsed_s, new.elapsed_s)


def test_mlflow_file_store(tmp_path: Path):
    (one,) = imported(tmp_path / "h.csv", "mlflow", mlruns(tmp_path / "mlruns"))
    assert (one.job, one.group, one.owner) == ("calm-owl-aaaaaaaa", "owls", "ann")
    assert one.step.tolist() == [10.0 * row for row in range(12)]
    assert one.elapsed_s.tolist() == [5.0 * row for row in range(12)]
    assert one.columns["usage.memory_gib"] == pytest.approx(4.0)
    assert one.columns["hp.batch_size"].tolist() == [32.0] * 12
    assert "hp.optimizer" not in one.columns


def test_mlflow_database(tmp_path: Path):
    (one,) = imported(tmp_path / "h.csv", "mlflow", mlflow_database(tmp_path / "mlflow.db"))
    assert (one.job, one.group, one.owner, len(one)) == ("calm-owl-aaaaaaaa", "owls", "ann", 6)
    assert np.isnan(one.columns["metric.loss"][3])
    assert one.columns["hp.batch_size"][0] == 32.0


def test_prometheus(tmp_path: Path):
    file = prometheus_file(tmp_path / "range.json")
    (one,) = imported(tmp_path / "h.csv", "prometheus", file, "--label", "training_job")
    assert (one.job, one.step.tolist()) == ("lm", [20.0 * row for row in range(8)])
    assert one.elapsed_s.tolist() == [15.0 * row for row in range(8)]
    assert one.columns["usage.memory_gib"].tolist() == [1.0 + row for row in range(8)]
    assert np.isnan(one.columns["metric.train_loss"][7])


def test_tensorboard(tmp_path: Path):
    pytest.importorskip("tensorboard")
    (one,) = imported(tmp_path / "h.csv", "tensorboard", event_files(tmp_path / "logs"), "--group", "owls")
    assert (one.job, one.group, one.step.tolist()) == ("lm", "owls", [10.0 * row for row in range(10)])
    assert one.elapsed_s[:9].tolist() == [4.0 * row for row in range(9)]
    assert one.columns["hp.batch_size"].tolist() == [32.0] * 5 + [64.0] * 5
    assert one.columns["hp.learning_rate"].tolist() == [0.25] * 10
    assert one.columns["metric.train_loss"][1] == pytest.approx(0.5)


WRONG = {
    "text.csv": ("csv", "step,loss\n1,2\n2,high\n3,1\n", "text.csv:3: column loss holds 'high', not a number"),
    "short.csv": ("csv", "step,loss\n1,2\n2\n", "short.csv:3 has 1 cells where the head has 2"),
    "nobody.csv": ("csv", "job,loss\na,2\n,1\n", "nobody.csv:3: column job is empty"),
    "when.csv": ("csv", "time,loss\n1764000000,2\nnoon,1\n", "when.csv:3: column time holds 'noon', not a time"),
    "words.csv": ("csv", "note\nx\n", "nothing is left to import"),
    "bad.json": ("prometheus", '{"data":\n {"resultType" "matrix"}}', "bad.json:2: not JSON"),
    "vector.json": ("prometheus", '{"data": {"resultType": "vector", "result": []}}', "is no answer of query_range"),
    "label.json": (
        "prometheus",
        '{"data": {"resultType": "matrix", "result": [{"metric": {"pod": "x"}, "values": []}]}}',
        "series 1 has no label 'job' (there are: pod)",
    ),
    "no.db": ("mlflow", "not a database", "is no database of MLflow"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_one_line_that_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str):
    command, text, words = WRONG[name]
    (tmp_path / name).write_text(text)
    assert run(["import", command, str(tmp_path / name), "--out", str(tmp_path / "h.csv")]) != 0
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("scaleahead: ")
    assert words in line
    assert " - " in line
    assert not (tmp_path / "h.csv").exists()


def test_a_line_of_mlflow_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = mlruns(tmp_path / "mlruns")
    (folder / "7" / ("a" * 32) / "metrics" / "loss").write_text("1 2 3\nnothing\n")
    assert run(["import", "mlflow", str(folder), "--out", str(tmp_path / "h.csv")]) == 1
    assert "loss:2: 'nothing' is not 'milliseconds value step'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "--out FILE.parquet"),
        (["--out", "h.txt"], "ends neither in .csv nor in .parquet"),
        (["--out", "h.csv", "--map", "loss"], "no rule"),
        (["--out", "h.csv", "--map", "loss=los"], "los is no column"),
        (["--out", "h.csv", "--map", "gone=metric.x"], "'gone', which is not there"),
        (["--out", "h.csv", "--map", "bs=metric.x,train loss=metric.x"], "metric.x twice"),
        (["--out", "h.csv", "--map", "bs=hp.bs/0"], "0 is no factor"),
    ],
)
def test_wrong_use_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str):
    assert run(["import", "csv", str(csv_file(tmp_path / "log.csv")), *more]) == 2
    assert words in capsys.readouterr().err


def test_without_its_package_tensorboard_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.backend.event_processing.event_file_loader", None)
    assert run(["import", "tensorboard", str(tmp_path), "--out", str(tmp_path / "h.csv")]) == 1
    assert "pip install 'scaleahead-daemon[import]'" in capsys.readouterr().err


def test_runs_in_the_store_are_their_owners_earlier_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A job that has shown three rows is foretold by the run before it, which was imported."""
    monkeypatch.setenv("SCALEAHEAD_STATE_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("SCALEAHEAD_DATABASE", raising=False)
    log = csv_file(tmp_path / "log.csv", rows=200)
    for _ in range(2):  # the second time changes nothing
        assert run(["import", "csv", str(log), "--into-store"]) == 0
    now = datetime.fromtimestamp(STARTED, UTC) + timedelta(days=1)
    store = open_store(f"sqlite:///{tmp_path / 'scaleahead.sqlite'}", VirtualClock(now))
    store.jobs.add(Job("fresh", now, "default", owner="ann", total_steps=1990))
    rows = tuple(
        Observation("r", seq, seq * 10 + 10, None, now + timedelta(seconds=seq * 4), {"bs": 32.0}, step_seconds=0.4)
        for seq in range(3)
    )
    store.telemetry.append(Report("fresh", "r", 3, rows), None, JobStatus(heard_at=now, run="r"))
    fresh = store.telemetry.histories(["fresh"])["fresh"]
    store.close()
    (before,) = fresh.earlier
    assert (before.job, before.owner, len(before)) == ("lm", "ann", 200)
    assert before.columns["step_seconds"][5] == pytest.approx(0.4)
    assert before.at_s[0] == STARTED

    from daemon.forecast.curve import Curves
    from daemon.forecast.schedule import Schedules
    from daemon.forecast.usage import Usages

    forecaster = Recurrent(Parts(Schedules(None), Curves(None), Usages(None)))
    (known,) = forecaster.predict([fresh], Horizon())
    last = known.paths["hp.bs"][:, -1]
    assert (known.probability * (last == 64.0)).sum() > 0.5


def test_a_name_that_is_taken_is_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SCALEAHEAD_STATE_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("SCALEAHEAD_DATABASE", raising=False)
    store = open_store(f"sqlite:///{tmp_path / 'scaleahead.sqlite'}", VirtualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    store.jobs.add(Job("lm", datetime(2026, 1, 1, tzinfo=UTC), "default"))
    store.close()
    assert run(["import", "csv", str(csv_file(tmp_path / "log.csv")), "--into-store"]) == 1
    assert "a job named lm is registered already" in capsys.readouterr().err
