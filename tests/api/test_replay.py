"""The command ``scaleahead replay`` on traces made here."""

import json
from pathlib import Path

import pytest

from api import cli

NAMES = {"static-peak", "static-best", "threshold", "reactive", "scaleahead", "oracle"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One job that outgrows the cheap machine half-way."""
    offers = [{"offer": f"aws/us-east-1/{n}", "gpus": 1, "gpu_memory_gib": g, "gpu": "T4", "nodes": 1,
               "usd_per_hour": u} for n, g, u in (("small", 16, 1.0), ("large", 80, 9.0))]  # fmt: skip
    body = {
        "format": "scaleahead-trace/1", "job": "made", "total_progress": 14400.0, "restart_seconds": 60,
        "checkpoint_every_seconds": 900, "boot_seconds": 120, "on_misfit": "crash", "offers": offers,
        "segments": [{"to_progress": 7200.0 * (s + 1), "hyperparameters": {"batch_size": b}, "progress_per_step": 1.0}
                     for s, b in enumerate((8, 64))],
        "step_seconds": {"aws/us-east-1/small": [1.0, None], "aws/us-east-1/large": [0.9, 1.0]},
        "gpu_busy_fraction": {"aws/us-east-1/small": [0.95, 0.95], "aws/us-east-1/large": [0.7, 0.7]},
    }  # fmt: skip
    path = tmp_path / "made.json"
    path.write_text(json.dumps(body))
    return path


def test_every_policy_is_set_against_the_oracle(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["replay", str(file), "--value-of-time", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["policy"] for row in found["rows"]} == NAMES == set(found["summary"])
    by_name = {row["policy"]: row for row in found["rows"]}
    assert all(row["regret"] >= 1 - 1e-9 for row in found["rows"])
    assert by_name["scaleahead"]["out_of_memory"] == 0
    assert by_name["scaleahead"]["regret"] < 1.001
    assert by_name["reactive"]["out_of_memory"] == 1
    assert set(by_name["oracle"]) == {
        "trace", "policy", "usd", "hours", "objective", "regret", "out_of_memory", "moves", "lost_progress",
    }  # fmt: skip


def test_without_the_schedule_a_profiled_jump_is_not_waited_for(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["replay", str(file), "--schedule", "inferred", "--compare", "scaleahead", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["out_of_memory"] == 0


def test_the_table_names_what_was_compared(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["replay", str(file), "--compare", "oracle,static-best", "--boot", "30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["policy", "static-best", "oracle"]


def test_a_policy_file_gives_the_value_of_time(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = file.with_name("p.yaml")
    policy.write_text("scaleahead: 1\npolicies:\n  mine:\n    kind: reactive\n    value_of_time_usd_per_hour: 7\n")
    assert cli.run(["replay", str(file), "--policy", str(policy), "--compare", "scaleahead", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["objective"] == pytest.approx(row["usd"] + 7 * row["hours"])
    assert row["out_of_memory"] == 1  # a kind that does not foresee sees only the present


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--compare", "best"], "no policy"), (["--schedule", "guessed"], "--schedule"),
        (["--speeds", "guessed"], "--speeds"), (["--policy", "none.yaml"], "cannot be read"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(file: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str) -> None:
    assert cli.run(["replay", str(file), *more]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert " - " in error


def test_a_bad_trace_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.json").write_text("{}")
    assert cli.run(["replay", str(tmp_path / "bad.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_picture_of_each_trace_is_drawn(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = file.with_name("other.json")
    other.write_bytes(file.read_bytes())
    out = file.with_name("p.png")
    assert cli.run(["replay", str(file), "--plot", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert cli.run(["replay", str(file), str(other), "--compare", "oracle,scaleahead", "--plot", str(out)]) == 0
    assert {path.name for path in file.parent.glob("p-*.png")} == {"p-made.png", "p-other.png"}
    assert cli.run(["replay", str(file), "--plot", str(file.with_name("p.jpeg"))]) == 2
    assert "end it in" in capsys.readouterr().err


def test_each_move_is_told_with_what_it_was_worth(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["replay", str(file), "--compare", "reactive,scaleahead,unwarned,oracle", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(move["policy"], move["needed"]) for move in found["moves"]] == [("reactive", True), ("scaleahead", True)]
    regret = {row["policy"]: row["regret"] for row in found["rows"]}
    assert regret["unwarned"] > 1.05 > regret["scaleahead"] >= 1 - 1e-9
    assert found["summary"]["scaleahead"]["moves_lost"] == 0
    assert found["summary"]["scaleahead"]["reactive_worst"] < 1


def test_noise_and_lengths_drawn_anew_are_the_same_for_a_seed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for seed in ("1", "1", "2"):
        more = ["--noise", "0.3", "--redraw", "--seed", seed, "--compare", "scaleahead", "--json"]
        assert cli.run(["replay", str(file), *more]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
