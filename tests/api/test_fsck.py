"""The command ``scaleahead fsck`` on a real database and a simulated cloud."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from api import cli, fsck
from daemon.fsck import Survey
from daemon.fsck import check as checked
from daemon.store.open import open_store
from providers.clock import SystemClock, VirtualClock
from providers.errors import Throttled
from providers.simulated.cloud import Cloud
from providers.simulated.provider import Simulated
from providers.types import Launch, LaunchRecipe, Offer, Price, Resources
from tests.daemon.store.values import action, decision, job

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCALEAHEAD_STATE_DIRECTORY", str(tmp_path))
    path = tmp_path / "scaleahead.sqlite"
    store = open_store(path, SystemClock())
    store.jobs.add(job())
    store.decisions.add(decision())
    ended = store.actions.open(action(reserved_usd=2.0))
    store.actions.save(replace(ended, stage="cancelled", closed_at=SystemClock().now() + timedelta(minutes=1)))
    store.close()
    return path


def spoil(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE actions SET reserved_usd = 2.0"))
    engine.dispose()


def test_a_sound_database_is_said_to_be_sound(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["fsck"]) == 0
    assert capsys.readouterr().out == "nothing is broken\n"


def test_what_is_broken_is_told_and_mended_only_when_asked_to(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(database)
    before = database.read_bytes()
    assert cli.run(["fsck"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("reservation: a-1: it ended cancelled and still sets 2.00 dollars aside")
    assert said[-1] == "1 broken; --repair would mend 1"
    assert database.read_bytes() == before
    assert cli.run(["fsck", "--repair", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repaired"] == ["a-1"]
    assert cli.run(["fsck"]) == 0


def test_the_help_names_every_repair(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert cli.run(["fsck", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in ("free what closed actions set aside", "close the decisions of closed", "runs and statuses of jobs"):
        assert words in told


def test_where_there_is_no_database_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCALEAHEAD_STATE_DIRECTORY", str(tmp_path))
    assert cli.run(["fsck"]) == 1
    assert capsys.readouterr().err.startswith("scaleahead: there is no database at")
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_nobody_uses_is_found_by_its_label(monkeypatch: pytest.MonkeyPatch) -> None:
    offer = Offer("simulated", "us-east-1", "m5.xlarge", Resources(4, 16), Price(0.2, "a test", NOW))
    cloud = Cloud(VirtualClock(NOW), (offer,), sleep=lambda _: None)
    provider = Simulated(cloud)
    provider.perform(Launch(LaunchRecipe("train", {"scaleahead-action": "a-lost"}), offer, "scaleahead-a-lost"), "t")
    nothing = Survey({}, (), (), {}, (), frozenset(), {}, 1, None, True, ())
    [finding] = checked(nothing, fsck.asked({"simulated": provider}, nothing), NOW)
    assert finding.law == "orphan"
    assert "unknown action a-lost" in finding.text

    def silent(key: str, value: str | None = None) -> list[object]:
        raise Throttled("too many requests")

    monkeypatch.setattr(provider, "labelled", silent)
    [finding] = checked(nothing, fsck.asked({"simulated": provider}, nothing), NOW)
    assert finding.law == "cloud"
