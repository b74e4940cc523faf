"""The command: its JSON, its table, and one line for what is wrong."""

import json
from pathlib import Path

import pytest

from api.cli import run


def history(path: Path, jobs: int = 4, rows: int = 30) -> Path:
    lines = ["job,step,elapsed_s,total_steps,metric.loss,hp.batch_size"]
    for job in range(jobs):
        lines += [f"j{job},{i * 10},{i * 5},{rows * 10},{2 / (1 + i + job):.4f},32" for i in range(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_json_has_the_keys_of_the_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = history(tmp_path / "h.csv")
    out = tmp_path / "p.parquet"
    assert run(["backtest", str(file), "--target", "metric.loss", "--json", "--predictions", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["target"], found["jobs"]) == ("metric.loss", 4)
    wanted = {"seen", "method", "n", "mae", "crps", "coverage80", "coverage95", "mape"}
    assert all(wanted <= row.keys() for row in found["rows"])
    assert found["seconds_per_1000"] > 0
    assert out.stat().st_size > 0


def test_the_table_names_every_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = history(tmp_path / "h.csv")
    assert run(["backtest", str(file), "--target", "elapsed_s", "--at", "0.5", "--declared", "hp.batch_size"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("scaleahead", "last_value", "power_law", "4 jobs"))


def test_parts_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = history(tmp_path / "h.csv")
    found = {}
    for without in ("recurrent,calibration", "online,shockwave-schedules", ""):
        assert run(["backtest", str(file), "--target", "metric.loss", "--learn", "--without", without, "--json"]) == 0
        found[without] = json.loads(capsys.readouterr().out)
    assert [one["without"] for one in found.values()] == [
        ["recurrent", "calibration"], ["online", "shockwave-schedules"], [],
    ]  # fmt: skip
    full, bare = (found[key]["rows"][0]["crps"] for key in ("", "recurrent,calibration"))
    assert full != bare


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--target", "metric.none"], "no file has a value in column metric.none"),
        (["--target", "metric.loss", "--at", "1.5"], "--at"),
        (["--target", "metric.loss", "--horizon", "soon"], "--horizon"),
        (["--target", "metric.loss", "--declared", "hp.none"], "--declared hp.none"),
        (["--target", "metric.loss", "--only", "nobody"], "no run is of group"),
        (["--target", "metric.loss", "--without", "magic"], "--without magic"),
    ],
)
def test_wrong_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str):
    file = history(tmp_path / "h.csv")
    assert run(["backtest", str(file), *more]) == 2
    said = capsys.readouterr().err
    assert said.startswith("scaleahead: ")
    assert words in said
    assert said.count("\n") == 1


def test_a_bad_cell_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "bad.csv"
    file.write_text("job,step,metric.loss\na,1,x\n")
    assert run(["backtest", str(file), "--target", "metric.loss"]) == 2
    assert "bad.csv:2: column metric.loss holds 'x'" in capsys.readouterr().err
