"""Edge: what can befall a SQLite file, and the daemon that lives on it."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from daemon.store.base import Conflict, Stale, Store, StoreError
from daemon.store.database import Database, connect
from daemon.store.open import open_store
from daemon.types import JobStatus
from providers.clock import VirtualClock
from tests.daemon.store.values import NOW, action, decision, job, later, status


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store with space.sqlite"


@pytest.fixture
def store(path: Path, clock: VirtualClock) -> Iterator[Store]:
    opened = open_store(path, clock)
    opened.jobs.add(job())
    yield opened
    opened.close()


def restoring(path: Path) -> str:
    return f"restore a backup: rm -f '{path}-wal' '{path}-shm' && cp BACKUP '{path}'"


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_a_path_and_a_url_open_the_same_file(path: Path, clock: VirtualClock, store: Store, form: str) -> None:
    again = open_store(form.format(path), clock)
    assert [one.name for one in again.jobs.all()] == ["bert"]
    again.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir() if one.name.endswith(".new")] == []


@pytest.mark.parametrize("url", ["sqlite://", ":memory:", "mysql://x/y", "://"])
def test_what_is_no_store_is_refused(url: str, clock: VirtualClock) -> None:
    with pytest.raises(StoreError, match=" - give "):
        open_store(url, clock)


def test_a_secret_in_a_url_is_not_told(clock: VirtualClock) -> None:
    with pytest.raises(StoreError) as caught:
        open_store("postgresql+psycopg://ann:canary@127.0.0.1:1/none", clock)
    assert "canary" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_every_commit_is_synchronous_and_keys_are_checked(path: Path, store: Store) -> None:
    database = connect(f"sqlite:///{path}", 1.0, 2)
    with database.read() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert settings == ["wal", 2, 1]
    database.close()


def test_a_writer_begins_at_once_and_a_reader_does_not(path: Path, store: Store) -> None:
    database = connect(f"sqlite:///{path}", 1.0, 2)
    begun: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        begun.append(statement)

    with database.write():
        pass
    with database.read():
        pass
    assert begun == ["BEGIN IMMEDIATE", "BEGIN DEFERRED"]
    database.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_deleted_or_replaced_file_stops_every_unit(path: Path, store: Store, replaced: bool) -> None:
    path.rename(path.with_suffix(".away"))
    if replaced:
        path.write_bytes(path.with_suffix(".away").read_bytes())
    for unit in (lambda: store.status.save("bert", status()), store.jobs.all):
        with pytest.raises(StoreError, match="deleted or replaced while in use") as caught:
            unit()
        assert restoring(path) in str(caught.value)
    assert path.exists() is replaced  # and no new one is made


def test_a_file_deleted_in_the_middle_of_a_unit_is_not_acknowledged(path: Path, store: Store) -> None:
    database = connect(f"sqlite:///{path}", 1.0, 2)
    with pytest.raises(StoreError, match="deleted or replaced"), database.write():
        path.unlink()
    database.close()


@pytest.mark.parametrize("damage", ["header", "middle", "text", "empty", "cut"])
def test_a_damaged_file_is_refused_and_left_alone(path: Path, store: Store, clock: VirtualClock, damage: str) -> None:
    for number in range(200):
        store.audit.note("ann", "did", "x" * 500, {"number": number})
    store.close()
    whole = path.read_bytes()
    broken = {
        "header": b"\0" * 100 + whole[100:],
        "middle": whole[:8192] + os.urandom(32768) + whole[8192 + 32768 :],
        "text": b"not a database\n" * 100,
        "empty": b"",
        "cut": whole[: len(whole) // 2],
    }[damage]
    path.write_bytes(broken)
    with pytest.raises(StoreError) as caught:
        open_store(path, clock)
    assert restoring(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == broken


def test_a_log_without_its_file_is_refused(path: Path, clock: VirtualClock) -> None:
    Path(f"{path}-wal").write_bytes(b"left behind")
    with pytest.raises(StoreError, match="is gone, but its log"):
        open_store(path, clock)
    assert not path.exists()


def test_another_programs_database_is_refused(path: Path, clock: VirtualClock) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE jobs (id INTEGER)")
    other.close()
    with pytest.raises(StoreError, match="that is not ours"):
        open_store(path, clock)


def fill(database: Database) -> None:
    with database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        for number in range(1000):
            connection.exec_driver_sql(f"INSERT INTO tokens VALUES ('{number}', '{'x' * 4000}', '')")


def test_a_full_disk_writes_nothing_and_says_so(path: Path, store: Store, clock: VirtualClock) -> None:
    store.close()
    database = connect(f"sqlite:///{path}", 1.0, 1)
    with pytest.raises(StoreError, match="no space is left"):
        fill(database)
    database.close()
    again = open_store(path, clock)
    assert not again.tokens.any()
    again.close()


def test_a_file_without_leave_to_write_is_told_plainly(path: Path, store: Store) -> None:
    database = connect(f"sqlite:///{path}", 1.0, 1)
    with database.read() as connection:  # the pool has one connection: the writer's is this one
        connection.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="readonly"), database.write() as connection:
        connection.exec_driver_sql("DELETE FROM tokens")
    database.close()


HOLDER = """
import sys
from datetime import datetime
from daemon.store.open import open_store
from providers.clock import SystemClock
store = open_store(sys.argv[1], SystemClock())
store.lease("pid 7 on this host", 3600).acquire(datetime.fromisoformat(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.fault("A12")
def test_a_second_live_process_is_refused_and_a_dead_ones_lease_is_free(path: Path, store: Store) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), NOW.isoformat()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    lease = store.lease("pid 8 on this host", 3600)
    with pytest.raises(Conflict, match="pid 7 on this host holds the lease"):
        lease.acquire(later(1))
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    lease.acquire(later(2))  # an hour before it would have run out
    assert lease.shards == {"loop": 2}


def test_closing_shows_that_the_holder_is_gone_without_giving_up_its_fence(
    path: Path, store: Store, clock: VirtualClock
) -> None:
    store.decisions.add(decision())
    first = open_store(path, clock)
    first.lease("one", 3600).acquire(NOW)
    opened = first.actions.open(action())
    first.close()
    with pytest.raises(Stale):
        store.actions.save(opened)
    store.lease("two", 3600).acquire(later(1))
    assert store.actions.save(opened) == replace(opened, version=1, epoch=2)
    assert store.status.all() == {"bert": JobStatus()}
