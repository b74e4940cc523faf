"""Edge: connections, units of work, and what the databases' errors mean.

A write unit is one transaction: on SQLite ``BEGIN IMMEDIATE`` (a deferred one would read first and find at its write
that another came between), on PostgreSQL row locks. Writers of one process queue here, in order, and not in SQLite's
busy handler, which starves some of them. Every commit is synchronous: what a unit has returned from is durable.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from sqlalchemy import Connection, Engine, RootTransaction, Row, Select, create_engine, event, make_url
from sqlalchemy import exc as database_errors
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from daemon.store.base import Busy, Missing, StoreError

Found = Row[*tuple[Any, ...]]
Query = Select[*tuple[Any, ...]]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
POSTGRES_BUSY = {"55P03", "40P01", "40001", "57014"}
"""Lock not available, deadlock, serialization failure, query cancelled (by a time-out)."""


def micros(moment: datetime) -> int:
    """Count the microseconds since the epoch, exactly."""
    return (moment - EPOCH) // MICROSECOND


def moment(micros: int) -> datetime:
    """Turn microseconds since the epoch into a time in UTC."""
    return EPOCH + timedelta(microseconds=micros)


class Place(Protocol):
    """Where a database is."""

    name: str

    def check(self) -> None:
        """Raise ``StoreError`` if it is no longer what was opened."""


class Server:
    """A PostgreSQL server, named without its password."""

    def __init__(self, url: URL) -> None:
        self.name = url.render_as_string(hide_password=True)

    def check(self) -> None:
        """Do nothing: a server that is gone says so itself."""


class File:
    """A SQLite file, known by its inode, so that its deletion or replacement is noticed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._inode = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def check(self) -> None:
        """Raise ``StoreError`` if the file was deleted or replaced since it was opened."""
        if self._look() != self._inode:
            raise StoreError(f"{self.name} was deleted or replaced while in use - stop, and {restore(self.path)}")


def restore(path: Path) -> str:
    """Say how to bring a backup back, as a command."""
    return f"restore a backup: rm -f '{path}-wal' '{path}-shm' && cp BACKUP '{path}'"


class Database:
    """One database behind a pool of connections. Safe to use from many threads."""

    def __init__(self, engine: Engine, place: Place, busy_seconds: float) -> None:
        self.engine = engine
        self.place = place
        self._busy_seconds = busy_seconds
        self._is_file = engine.dialect.name == "sqlite"
        self._turn = threading.Lock()
        options: dict[str, Any] = {} if self._is_file else {"isolation_level": "REPEATABLE READ"}
        self._reader = engine.execution_options(**options)
        self._writer = engine.execution_options(begin="IMMEDIATE")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open one consistent view. Raises ``Busy`` or ``StoreError``."""
        self.place.check()
        with said_plainly(self.place), self._reader.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open one unit of work: all of it is durable on leaving, or nothing of it if anything is raised.

        Raises ``Busy`` if the database did not let us write in time, ``StoreError`` on any other fault.
        """
        self.place.check()
        with self._queued(), said_plainly(self.place), self._writer.connect() as connection:
            transaction = connection.begin()
            try:
                self._prepare(connection)
                yield connection
                self.place.check()
            except BaseException:
                _roll_back(transaction)
                raise
            self._commit(transaction)

    def insert(self, table: Any) -> Any:
        """Begin an insert that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        return sqlite.insert(table) if self._is_file else postgresql.insert(table)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _queued(self) -> Iterator[None]:
        if not self._is_file:
            yield
            return
        if not self._turn.acquire(timeout=self._busy_seconds):
            raise Busy(f"{self.place.name} is busy with other writers - try again later")
        try:
            yield
        finally:
            self._turn.release()

    def _prepare(self, connection: Connection) -> None:
        # By statement, not by connection option: a pooler between us and the server would refuse or mix up options.
        if not self._is_file:
            wait = int(self._busy_seconds * 1000)
            # A process that is stopped inside a unit must not keep its rows from the others for good.
            connection.exec_driver_sql(
                f"SET LOCAL lock_timeout = {wait}; SET LOCAL idle_in_transaction_session_timeout = {wait};"
                " SET LOCAL synchronous_commit = on"
            )

    def _commit(self, transaction: RootTransaction) -> None:
        try:
            transaction.commit()
        except database_errors.DBAPIError as error:
            if self._is_file or not error.connection_invalidated:
                raise
            raise StoreError(
                f"{self.place.name} was lost while committing, which may or may not have held - read before you repeat"
            ) from error


def _roll_back(transaction: RootTransaction) -> None:
    try:
        transaction.rollback()
    except database_errors.DBAPIError:
        transaction.connection.invalidate()  # the connection is gone, and the unit with it


@contextmanager
def said_plainly(place: Place) -> Iterator[None]:
    """Turn a driver's errors into the store's. None of them tells a secret: the URL is shown without its password."""
    try:
        yield
    except database_errors.TimeoutError as error:
        raise Busy(f"every connection to {place.name} is in use - try again later") from error
    except database_errors.DBAPIError as error:
        raise _meaning(error, place) from error


def _meaning(error: database_errors.DBAPIError, place: Place) -> StoreError:
    text = " ".join(str(error.orig).split())[:200]
    state = getattr(error.orig, "sqlstate", None)
    if isinstance(error, database_errors.IntegrityError) and ("FOREIGN KEY" in text or state == "23503"):
        return Missing(f"{place.name}: what this belongs to does not exist ({text})")
    if state in POSTGRES_BUSY or "database is locked" in text or "database table is locked" in text:
        return Busy(f"{place.name} is busy with other writers - try again later ({text})")
    if isinstance(place, Server) and (error.connection_invalidated or _unreached(error, state)):
        return Busy(f"{place.name} cannot be reached, nothing was written - try again later ({text})")
    if isinstance(place, File) and ("malformed" in text or "not a database" in text):
        return StoreError(f"{place.name} is damaged ({text}) - stop, and {restore(place.path)}")
    if "full" in text:
        return StoreError(f"{place.name}: no space is left - free some ({text})")
    return StoreError(f"{place.name}: {text}")


def _unreached(error: database_errors.DBAPIError, state: str | None) -> bool:
    """Tell a server that is away, starting, stopping or out of connections from one that refuses."""
    if state is None:
        return isinstance(error, database_errors.OperationalError)
    return state.startswith(("08", "57P")) or state == "53300"


def connect(url: str, busy_seconds: float, connections: int) -> Database:
    """Make the pool of a database that exists; nothing is opened yet but the look at a file's inode."""
    place = make_url(url)
    if place.get_backend_name() == "sqlite":
        file = File(Path(place.database or ""))
        return Database(_file_engine(file, busy_seconds, connections), file, busy_seconds)
    engine = create_engine(
        place,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=busy_seconds,
        pool_pre_ping=True,
        # No prepared statements: they do not survive a pooler that hands out connections by transaction.
        connect_args={"connect_timeout": 5, "prepare_threshold": None, "application_name": "scaleahead"},
    )
    return Database(engine, Server(place), busy_seconds)


def _file_engine(file: File, busy_seconds: float, connections: int) -> Engine:
    def open_file() -> sqlite3.Connection:
        file.check()
        # mode=rw: never make a new, empty database in place of one that is gone.
        connection = sqlite3.connect(
            f"file:{quote(str(file.path))}?mode=rw",
            uri=True,
            timeout=busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        for pragma in (
            "foreign_keys = ON",
            "synchronous = FULL",
            "journal_mode = WAL",
            "journal_size_limit = 67108864",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = create_engine(
        "sqlite://",
        creator=open_file,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=busy_seconds,
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine
