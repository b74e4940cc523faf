import json
from pathlib import Path

import numpy as np
import pytest

from daemon.backtest import folds
from daemon.backtest.history import read
from daemon.forecast import curve_train
from daemon.forecast.nets import Members
from daemon.forecast.prior import Series


@pytest.fixture
def file(tmp_path: Path) -> Path:
    random = np.random.default_rng(2)
    lines = ["job,group,step,total_steps,hp.lr,metric.val_loss"]
    for group in range(3):
        for job in range(6):
            for step in range(1, 13):
                loss = (1 + group) * step**-0.5 + 0.01 * random.random()
                lines.append(f"g{group}j{job},g{group},{step},12,{job // 2},{loss}")
    path = tmp_path / "small.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def taught(monkeypatch: pytest.MonkeyPatch) -> list[list[Series]]:
    found: list[list[Series]] = []

    def teach(series: list[Series], steps: int, seed: int) -> Members:
        found.append(list(series))
        return curve_train.fresh(seed).eval()

    monkeypatch.setattr(curve_train, "teach", teach)
    return found


def test_no_fold_is_taught_the_groups_that_it_is_asked_about(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lessons = taught(monkeypatch)
    out = tmp_path / "out.json"
    assert (
        folds.main([str(file), "--folds", "3", "--seeds", "1", "--json", str(out), "--keep", str(tmp_path / "kept")])
        == 0
    )
    assert [sorted({one.group for one in each}) for each in lessons] == [
        ["small/g1", "small/g2"], ["small/g0", "small/g2"], ["small/g0", "small/g1"],
    ]  # fmt: skip
    assert folds.main([str(file), "--folds", "3", "--seeds", "1", "--keep", str(tmp_path / "kept")]) == 0
    assert len(lessons) == 3
    found = json.loads(out.read_text())["small"]
    ours = [row for row in found["rows"] if row["method"] == folds.OURS]
    assert [row["n"] for row in ours] == [18] * 4
    assert all(row["paired"]["difference"] == 0 for row in ours)
    assert {row["method"] for row in found["rows"]} >= {
        "last_value",
        "power_law",
        folds.CLOSED,
        folds.UNCALIBRATED,
        folds.LEARNED,
    }


def test_sets_are_left_out_with_their_fold(file: Path, monkeypatch: pytest.MonkeyPatch):
    lessons = taught(monkeypatch)
    runs = [("small", run) for run in read([file])]
    fold, part = folds.dealt(runs, 3, sets_out=True)
    asked = folds.questions(runs, "metric.val_loss", 100, part, fold)
    for number in range(3):
        rates = {question.run.columns["hp.lr"][0] for _, question in asked if fold[question.run.group] == number}
        assert rates == {float(number)}
    folds._taught(runs, asked, fold, part, folds._teacher(1, 0, None))
    assert [len(each) for each in lessons] == [8, 8, 8]


def test_a_missing_file_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert folds.main([str(tmp_path / "none.csv")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
