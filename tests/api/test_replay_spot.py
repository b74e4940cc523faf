"""The command ``scaleahead replay-spot`` on availability made here."""

import json
from pathlib import Path

import numpy as np
import pytest

from api import cli

ASKED = [
    "--work-hours",
    "4",
    "--deadline-hours",
    "6",
    "--changeover-minutes",
    "10",
    "--on-demand",
    "3",
    "--spot",
    "0.6",
]
NAMES = {"on-demand", "greedy", "uniform-progress", "scaleahead", "oracle"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two days of two zones that come and go."""
    draw = np.random.default_rng(3)
    rows = ["trace,zone,instance,start_s,length_s,available"]
    for zone in ("x", "y"):
        at = 0
        for run in range(60):
            length = int(draw.geometric(1 / 5)) * 600
            rows.append(f"made,{zone},v100,{at},{length},{run % 2}")
            at += length
        rows.append(f"made,{zone},v100,{at},{500_000 - at},1")
    path = tmp_path / "made.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_every_policy_is_set_against_the_oracle(file: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["replay-spot", str(file), *ASKED, "--starts", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["policy"] for row in found["rows"]} == NAMES == set(found["summary"])
    assert {row["zone"] for row in found["rows"]} == {"made/x/v100", "made/y/v100"}
    assert all(row["missed"] == 0 and row["regret"] >= 1 - 1e-9 for row in found["rows"])
    first = found["rows"][0]
    assert {"zone", "policy", "usd", "usd_vs_on_demand", "missed", "changeovers"} <= set(first)
    assert first["policy"] == "on-demand"
    assert first["usd"] == pytest.approx(12.5)
    assert first["usd_vs_on_demand"] == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_figures(file: Path, capsys: pytest.CaptureFixture[str]):
    told = []
    for seed in ("1", "1", "2"):
        assert cli.run(["replay-spot", str(file), *ASKED, "--starts", "3", "--seed", seed, "--json"]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] != told[2]


def test_two_zones_to_choose_from_cost_the_oracle_no_more(file: Path, capsys: pytest.CaptureFixture[str]):
    least = {}
    for zones in ("1", "2"):
        more = ["--zones", zones, "--compare", "oracle", "--starts", "5", "--json"]
        assert cli.run(["replay-spot", str(file), *ASKED, *more]) == 0
        least[zones] = [row["usd"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert len(least["2"]) == 1
    assert least["2"][0] <= min(least["1"]) + 1e-9


def test_the_table_names_what_was_compared(file: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["replay-spot", str(file), *ASKED, "--starts", "2", "--compare", "oracle,greedy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:5]] == ["greedy", "oracle"] * 2
    assert lines[5].startswith("mean of all")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--compare", "best"], "no policy"), (["--deadline-hours", "4.1"], "no time"), (["--spot", "0"], "--spot"),
        (["--zones", "3"], "3 zones"), (["--changeover-minutes", "-1"], "--changeover-minutes"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(file: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str):
    assert cli.run(["replay-spot", str(file), *ASKED, *more]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert " - " in error


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["replay-spot", str(tmp_path / "none.csv"), *ASKED]) == 2
    assert capsys.readouterr().err.count("\n") == 1
