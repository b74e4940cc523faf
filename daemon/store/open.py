"""Edge: opening a store: find the file or server, check it, upgrade its schema, put the parts together."""

import os
import sqlite3
from pathlib import Path

from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy import exc as database_errors
from sqlalchemy.engine import URL

from daemon.store import schema
from daemon.store.actions import Actions
from daemon.store.audit import Audit
from daemon.store.base import (
    ActionStore,
    AuditStore,
    DecisionStore,
    JobStore,
    Lease,
    LedgerStore,
    Retention,
    Runs,
    StatusStore,
    Store,
    StoreError,
    TelemetryStore,
    TokenStore,
)
from daemon.store.database import Database, File, connect, restore, said_plainly
from daemon.store.decisions import Decisions
from daemon.store.jobs import Jobs, Statuses
from daemon.store.lease import Fence, HeldLease
from daemon.store.ledger import Ledger
from daemon.store.share import SharedLease
from daemon.store.telemetry import Telemetry
from daemon.store.tokens import Tokens
from providers.clock import Clock


class OpenStore:
    """A store on SQLite or PostgreSQL. Safe to use from many threads of one process."""

    def __init__(self, database: Database, clock: Clock) -> None:
        audit = Audit(database, clock)
        telemetry = Telemetry(database)
        self._database = database
        self._clock = clock
        self._fence = Fence(database)
        self.jobs: JobStore = Jobs(database)
        self.status: StatusStore = Statuses(database)
        self.telemetry: TelemetryStore = telemetry
        self.retention: Retention = telemetry
        self.runs: Runs = telemetry
        self.decisions: DecisionStore = Decisions(database, audit)
        self.actions: ActionStore = Actions(database, audit, self._fence)
        self.ledger: LedgerStore = Ledger(database)
        self.audit: AuditStore = audit
        self.tokens: TokenStore = Tokens(database)

    def lease(self, holder: str, seconds: float) -> Lease:
        """Make the lease object of this process, of so many real seconds; once acquired, it guards every action write.

        On PostgreSQL replicas share; no two may have one ``holder``. Beside a SQLite file one process holds all.
        """
        if isinstance(self._database.place, File):
            return HeldLease(self._database, self._fence, holder, seconds, self._clock)
        return SharedLease(self._database, self._fence, holder, seconds)

    def close(self) -> None:
        """Give back what tells others that this process lives, and close every connection."""
        self._fence.forget()
        self._database.close()


def open_store(url: str | Path, clock: Clock, busy_seconds: float = 5.0, connections: int = 8) -> Store:
    """Open a database by URL or path of a file, making it if it is not there, and bring its schema up to date.

    ``postgresql+psycopg://...`` or ``sqlite:///path`` or a bare path. ``busy_seconds`` bounds the wait for another
    writer, ``connections`` the pool. Raises ``StoreError`` for a file that is damaged (it is never made anew), for a
    database written by a newer version, and for one that cannot be reached.
    """
    place = place_of(str(url))
    if place.get_backend_name() == "sqlite":
        path = Path(place.database or "").absolute()
        _ready_file(path)
        place = place.set(database=str(path))
    database = connect(place.render_as_string(hide_password=False), busy_seconds, connections)
    with said_plainly(database.place):
        _upgrade(place, database.place.name)
    return OpenStore(database, clock)


def place_of(text: str) -> URL:
    """Read a store's URL, or the bare path of a file. Raises ``StoreError``."""
    try:
        url = make_url(text) if "://" in text else URL.create("sqlite", database=text)
    except database_errors.ArgumentError:
        raise StoreError("the store's URL cannot be read - give sqlite:///PATH or postgresql+psycopg://...") from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise StoreError(f"{url.drivername} is not a store - give sqlite:///PATH or postgresql+psycopg://...")
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise StoreError("a store in memory would forget what it acknowledged - give the path of a file")
    return url


def _ready_file(path: Path) -> None:
    """Check a file that is there, or make one where nothing ever was."""
    if path.exists():
        _check_file(path)
        return
    if Path(f"{path}-wal").exists():
        raise StoreError(f"{path} is gone, but its log {path}-wal is there - {restore(path)}")
    if not path.parent.is_dir():
        raise StoreError(f"{path.parent} is not a folder - make it, or give another path")
    _make_file(path)


def _check_file(path: Path) -> None:
    if path.stat().st_size == 0:
        raise StoreError(f"{path} is empty, not a database - {restore(path)}, or delete it to begin anew")
    try:
        # Closed by hand: sqlite3's own context manager ends the transaction only.
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=30.0)
        try:
            [(verdict,), *_] = connection.execute("PRAGMA quick_check(1)").fetchall()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise StoreError(f"{path} cannot be opened: {error} - check its owner and mode") from error
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        raise StoreError(f"{path} is damaged ({' '.join(verdict.split())[:200]}) - {restore(path)}")


def _make_file(path: Path) -> None:
    """Make a whole database beside its place and link it there, so that a half-made one never lies at ``path``."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL, 0o600))
        _upgrade(URL.create("sqlite", database=str(draft)), str(path))
        descriptor = os.open(draft, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        os.link(draft, path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except FileExistsError:
        pass  # another process was first; its database is as good
    except OSError as error:
        raise StoreError(f"{path} cannot be made: {error.strerror} - check the folder and the space left") from error
    finally:
        draft.unlink(missing_ok=True)


def _upgrade(place: URL, name: str) -> None:
    """Upgrade by a connection of its own: batch changes of tables need foreign keys to be off, as they are here."""
    engine = create_engine(place, poolclass=NullPool, connect_args=_arguments(place))
    with engine.connect() as connection, connection.begin():
        if place.get_backend_name() == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        schema.upgrade(connection, name)


def _arguments(place: URL) -> dict[str, object]:
    if place.get_backend_name() == "sqlite":
        return {"isolation_level": None, "timeout": 30.0}
    return {"connect_timeout": 5, "prepare_threshold": None, "application_name": "scaleahead"}
