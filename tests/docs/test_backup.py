"""The documents on backup and upgrade: their commands bring back, from both databases, just what was there."""

import os
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from daemon.store.open import open_store
from providers.clock import VirtualClock
from tests.conftest import Postgres
from tests.daemon.store.values import job
from tests.deploy.words import check
from tests.docs.commands import FOLDER, blocks

SAVE_FILE, BRING_FILE_BACK, SAVE_SERVER, BRING_SERVER_BACK = blocks("how-to/backup.md", "sh")


def run(commands: str, folder: Path, **environment: str) -> None:
    """Run a document's commands with its places in a folder of the test, and a service manager that only notes."""
    (folder / "bin").mkdir(exist_ok=True)
    stub = folder / "bin" / "systemctl"
    stub.write_text('#!/bin/sh\necho "$@" >> "$0.told"\n')
    stub.chmod(0o755)
    (folder / "backups").mkdir(exist_ok=True)
    commands = commands.replace("/var/lib/scaleahead", str(folder)).replace("/var/backups", str(folder / "backups"))
    path = os.pathsep.join([str(folder / "bin"), environment.pop("FIRST", ""), os.environ["PATH"]])
    told = {**os.environ, **environment, "PATH": path}
    ran = subprocess.run(
        ["bash", "-euo", "pipefail"], input=commands, text=True, capture_output=True, env=told, check=False
    )
    assert ran.returncode == 0, ran.stderr


def told(folder: Path) -> list[str]:
    return (folder / "bin" / "systemctl.told").read_text().split("\n")[:-1]


def names(url: str | Path, clock: VirtualClock) -> set[str]:
    store = open_store(url, clock)
    try:
        return {one.name for one in store.jobs.all()}
    finally:
        store.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "scaleahead.sqlite"


def test_a_file_is_copied_whole_while_it_is_written_and_comes_back(place: Path, clock: VirtualClock) -> None:
    store = open_store(place, clock)
    store.jobs.add(job("kept"))
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            store.jobs.add(job(f"job-{number}"))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        run(SAVE_FILE, place.parent)
    finally:
        ended.set()
        writer.join()
    store.jobs.add(job("late"))
    (saved,) = (place.parent / "backups").iterdir()
    assert saved.stat().st_mode & 0o777 == 0o600
    # The log of the old store is left there, as after a crash: with it the copy would be another store.
    log = place.with_name("scaleahead.sqlite-wal")
    written = log.read_bytes()
    assert written
    store.close()
    log.write_bytes(written)
    run(BRING_FILE_BACK, place.parent)
    assert told(place.parent) == ["stop scaleahead", "start scaleahead"]
    found = names(place, clock)
    assert "kept" in found
    assert "late" not in found


def test_a_store_that_is_not_there_is_not_backed_up_as_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unable to open database file"):
        run(SAVE_FILE, tmp_path)
    assert list(tmp_path.rglob("*.sqlite")) == []


@pytest.fixture
def server(postgres: Postgres) -> Iterator[str]:
    """A whole database of its own: the dump is of all that is in it."""
    name = f"backup{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres.address("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} STRATEGY FILE_COPY")  # type: ignore[call-overload]
        yield postgres.address(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


@pytest.mark.postgres
def test_a_server_is_dumped_and_comes_back(
    server: str, postgres: Postgres, tmp_path: Path, clock: VirtualClock
) -> None:
    assert names(server, clock) == set()
    store = open_store(server, clock)
    store.jobs.add(job("kept"))
    programs = {"FIRST": str(postgres.binaries), "DATABASE_URL": server}
    run(SAVE_SERVER, tmp_path, **programs)
    assert (tmp_path / "backups" / "scaleahead.dump").stat().st_mode & 0o777 == 0o600
    store.jobs.add(job("late"))
    store.close()
    run(BRING_SERVER_BACK, tmp_path, **programs)
    assert told(tmp_path) == ["stop scaleahead", "start scaleahead"]
    assert names(server, clock) == {"kept"}


def test_the_daemons_own_advice_is_the_same() -> None:
    from daemon.store.database import restore

    advice = restore(Path("/var/lib/scaleahead/scaleahead.sqlite")).replace("'", "").removeprefix("restore a backup: ")
    for part in advice.replace("BACKUP", "/var/backups/scaleahead.sqlite").split(" && "):
        assert part in BRING_FILE_BACK


def test_the_commands_of_an_upgrade_are_ones_there_are() -> None:
    (steps,) = blocks("how-to/upgrade.md", "sh")
    ours = [line.split() for line in steps.splitlines() if line.startswith("scaleahead ")]
    assert len(ours) == 2
    for words in ours:
        check(words)
    assert (FOLDER.parent / "constraints.txt").is_file()
