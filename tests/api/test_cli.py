"""The commands as a person runs them: a process of their own, against a real server of the fakes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import World

# pydantic is not among them: typer itself reads arguments with it.
HEAVY = {
    "fastapi", "starlette", "torch", "numpy", "sqlmodel", "sqlalchemy", "rich", "uvicorn", "aiohttp",
    "boto3", "google.cloud", "ruamel.yaml", "apscheduler", "joblib", "scipy",
}  # fmt: skip


def scaleahead(*arguments: str, url: str = "http://127.0.0.1:9", token: str = "sa_admin", **more: str) -> Any:
    environment = {**os.environ, "SCALEAHEAD_URL": url, "SCALEAHEAD_TOKEN": token, "COLUMNS": "160", **more}
    command = [sys.executable, "-c", "from api.cli import main; main()"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False
    )


@pytest.fixture
def run(server: Any, world: Any) -> Any:
    world.fill()

    def called(*arguments: str, **more: Any) -> Any:
        return scaleahead(*arguments, url=server.url, **more)

    return called


@pytest.mark.parametrize("arguments", [["--help"], ["job", "--help"], ["serve", "--help"], ["version"]])
def test_help_imports_nothing_heavy(arguments: list[str]):
    script = (
        "import sys\nfrom api.cli import run\n"
        f"status = run({arguments!r})\n"
        f"print('LOADED', sorted(set({sorted(HEAVY)!r}) & set(sys.modules)))\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["bogus"], 2, "No such command 'bogus' - see 'scaleahead --help'"),
        (["forecast"], 2, "Missing argument 'JOB' - see 'scaleahead forecast --help'"),
        (["top", "--watch", "--json"], 2, "--watch draws a table, --json prints once - give one of them"),
        (["job", "add", "x", "--provider", "aws"], 2, "a target is only given in part - give --provider, --target"),
        (["job", "add", "x", "--file", "/none/such"], 2, "/none/such cannot be read"),
        (["policy", "check", "/none/such"], 2, "/none/such cannot be read"),
        (["job", "list"], 1, "no daemon answers at http://127.0.0.1:9"),
        (["prices", "show", "no/such/*"], 1, "no offer matches 'no/such/*' - try a pattern"),
    ],
)
def test_errors_are_one_line_with_the_way_to_mend_it(arguments: list[str], status: int, said: str):
    done = scaleahead(*arguments)
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith(f"scaleahead: {said}")
    assert done.stderr.count("\n") == 1


def test_a_wrong_address_is_told():
    done = scaleahead("job", "list", url="ftp://x")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


READING = [
    ["job", "list"], ["job", "show", "bert-large"], ["top"], ["forecast", "bert-large"], ["plan", "bert-large"],
    ["why", "bert-large"], ["why-not", "bert-large", "large"], ["job", "ledger", "bert-large"],
    ["why", "bert-large", "--replay"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", READING, ids=[" ".join(a) for a in READING])
def test_reading_commands_draw_and_give_json(run: Any, arguments: list[str]):
    drawn = run(*arguments)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert drawn.stdout.strip()
    as_json = run(*arguments, "--json")
    assert as_json.returncode == 0
    assert json.loads(as_json.stdout)


def test_what_is_drawn_tells_the_story(run: Any):
    top = run("top").stdout
    assert "$0.80/h" in top
    assert "waits: scaleahead approve d-2" in top
    why = run("why", "bert-large").stdout
    assert "medium holds the predicted 13.8 GiB" in why
    assert "usd_per_hour: $7.50 an hour is above the policy's $4.00" in why
    assert "no change, because" in why
    not_huge = run("why-not", "bert-large", "huge").stdout
    assert "above the policy's $4.00" in not_huge
    picture = run("forecast", "bert-large").stdout
    for mark in "•░─━":
        assert mark in picture
    assert "medium from step 2900, then small from step 5600" in picture
    assert "move to medium" in run("plan", "bert-large").stdout


def test_a_job_is_added_paused_resumed_and_removed(run: Any, world: World, tmp_path: Path):
    file = tmp_path / "job.json"
    file.write_text(json.dumps({"owner": "vision", "total_steps": 5}))
    target = ["--provider", "gcp", "--target", "vm-1", "--place", "europe-west4-a"]
    added = run("job", "add", "new", "--file", str(file), "--total-steps", "900", "--key", "k", *target, "--json")
    assert added.returncode == 0
    kept = world.store.jobs.kept["new"]
    assert (kept.owner, kept.total_steps, kept.target.place) == ("vision", 900, "europe-west4-a")
    assert run("job", "pause", "new").returncode == 0
    assert world.store.jobs.kept["new"].state == "paused"
    assert run("job", "resume", "new").returncode == 0
    assert run("job", "rm", "new").stdout == "new: removed\n"
    assert "new" not in world.store.jobs.kept


def test_a_decision_is_approved_and_rejected(run: Any, world: World):
    assert run("approve", "d-2").stdout.startswith("d-2: approved")
    again = run("reject", "d-2")
    assert again.returncode == 1
    assert "does not wait any more" in again.stderr


def test_the_daemons_words_reach_the_person(run: Any):
    assert run("forecast", "none-such").stderr == "scaleahead: there is no job 'none-such'\n"
    refused = run("approve", "d-2", token="sa_read")
    assert "needs a token with the scope operate" in refused.stderr
    assert run("forecast", "bert-large", "--column", "nope").returncode == 2


def test_the_token_file_is_read(server: Any, world: World, tmp_path: Path):
    world.fill()
    (tmp_path / "token").write_text("sa_read\n")
    done = scaleahead("job", "list", url=server.url, token="", SCALEAHEAD_STATE_DIRECTORY=str(tmp_path))
    assert "bert-large" in done.stdout


def test_a_token_is_made(run: Any, world: World):
    made = json.loads(run("token", "add", "ci", "--scope", "read", "--scope", "observe:bert-large", "--json").stdout)
    assert run("job", "list", token=made["token"]).returncode == 0


def test_hostile_texts_cannot_drive_the_terminal(run: Any, world: World):
    from dataclasses import replace

    evil = "evil\x1b]0;title\x07\r\n[red]x[/red]"
    job = world.store.jobs.kept["bert-large"]
    world.store.jobs.kept["bert-large"] = replace(job, owner=evil)
    decision = world.store.decisions.kept["d-2"]
    world.store.decisions.kept["d-2"] = replace(decision, choice=replace(decision.choice, reason=evil))
    for arguments in (["job", "show", "bert-large"], ["why", "bert-large"], ["job", "list"]):
        text = run(*arguments).stdout
        assert "\x1b]" not in text
        assert "\x07" not in text
        assert "\r" not in text
    assert "[red]x[/red]" in run("why", "bert-large").stdout


def test_policy_files_are_checked_without_a_daemon(tmp_path: Path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("scaleahead: 1\npolicies:\n  p:\n    kind: cost_per_progress\n")
    bad.write_text("scaleahead: 1\npolicies:\n  p:\n    kind: cost_per_progress\n    limits: {usd_per_hou: 3}\n")
    assert scaleahead("policy", "check", str(good)).stdout == f"{good}: good (p)\n"
    done = scaleahead("policy", "check", str(good), str(bad))
    assert done.returncode == 1
    assert f"{bad}:5:" in done.stdout.replace("\n", "")
    told = json.loads(scaleahead("policy", "check", str(bad), "--json").stdout)
    assert told[0]["problems"]


def test_an_edit_of_a_policy_is_held_against_what_was_decided(run: Any, world: World, tmp_path: Path):
    world.record()
    edited = tmp_path / "policies.yaml"
    edited.write_text('scaleahead: 1\npolicies:\n  default:\n    limits: {offers: {deny: ["*/medium"]}}\n')
    drawn = run("policy", "diff", str(edited)).stdout
    assert "1 of 1 decisions since" in drawn
    assert "An estimate." in drawn
    told = json.loads(run("policy", "diff", str(edited), "--days", "3", "--json").stdout)
    assert told["differences"][0]["before"].endswith("medium")
    assert told["jobs"][0]["spent_usd"] == told["spent_usd"] == 0.4
    assert told["usd"] == told["jobs"][0]["usd"]
    assert told["usd"]["low"] <= told["usd"]["mean"] <= told["usd"]["high"]
    assert "altogether $0.40 spent, and " in " ".join(drawn.split())
    edited.write_text("scaleahead: 1\npolicies:\n  default: {kynd: x}\n")
    bad = run("policy", "diff", str(edited))
    assert bad.returncode == 1
    assert f"{edited}:3:13: unknown key 'kynd'" in bad.stderr
    assert run("policy", "diff", "/none/such").returncode == 2


def test_a_decision_that_replays_to_another_choice_is_a_failure(run: Any, world: World):
    from dataclasses import replace

    world.record()
    same = run("why", "bert-large", "--replay", "--last", "1")
    assert same.returncode == 0
    assert "the same  moving to" in same.stdout
    kept = world.store.decisions.kept["d-9"]
    world.store.decisions.kept["d-9"] = replace(kept, choice=replace(kept.choice, reason="for no reason"))
    other = run("why", "bert-large", "--replay", "--last", "1")
    assert other.returncode == 1
    assert "DIFFERENT" in other.stdout


def test_prices_are_shown_with_source_and_age_without_a_daemon():
    shown = scaleahead("prices", "show", "aws/us-east-1/p4d*")
    assert "p4d.24xlarge" in shown.stdout
    found = json.loads(scaleahead("prices", "show", "aws/us-east-1/p4d*", "--json").stdout)
    assert all(one["source"] for one in found if one["usd_per_hour"] is not None)


def test_the_database_is_brought_up_to_date(tmp_path: Path):
    where = {"SCALEAHEAD_STATE_DIRECTORY": str(tmp_path / "state"), "SCALEAHEAD_DATABASE": ""}
    done = scaleahead("db", "upgrade", **where)
    assert (done.returncode, done.stdout) == (0, "the database is up to date\n")
    assert list(Path(tmp_path / "state").glob("*.sqlite"))
