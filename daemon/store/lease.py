"""Edge: the lease row, and the fence it puts before every write of an action.

The epoch decides, not the clock: a process that slept through its lease finds another epoch in the row, in the same
transaction as its write, and writes nothing. Beside a SQLite file the holder also keeps a locked file, which the
system unlocks when the process dies, so that its successor on this host need not wait for the lease to run out.
"""

import fcntl
import os
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, select, update
from sqlmodel import col

from daemon.store.base import Conflict, Stale
from daemon.store.database import Database, File, Found, Query, micros, moment
from daemon.store.tables import LeaseRow

SHARD = "loop"


class Fence:
    """What this process may still write: the epoch of the lease it last took, 0 if it holds none."""

    def __init__(self, database: Database) -> None:
        place = database.place
        self._path = place.path if isinstance(place, File) else None
        self._descriptor: int | None = None
        self.epoch = 0
        self.holder = ""

    def check(self, connection: Connection) -> None:
        """Raise ``Stale`` unless the lease is ours, or nobody ever took one. The row stays as it is until we commit."""
        row = connection.execute(_row().with_for_update(read=True)).one_or_none()
        if (row.epoch if row else 0) != self.epoch:
            holder = f"{row.holder or 'nobody'} (epoch {row.epoch})" if row else "nobody"
            raise Stale(f"the lease is not ours but with {holder} - this process must not act")

    def lock(self, epoch: int) -> int | None:
        """Show that the holder of a coming epoch lives; give what keeps it shown, ``None`` without a file.

        To be called before the epoch is committed: seen without its lock, the epoch would look like a dead process's.
        """
        if self._path is None:
            return None
        descriptor = os.open(self._mark(epoch), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor

    def raise_to(self, epoch: int, holder: str, descriptor: int | None) -> None:
        """Let writes of this epoch pass; ``descriptor`` is what ``lock`` gave."""
        self._unlock()
        self.epoch, self.holder, self._descriptor = epoch, holder, descriptor
        if self._path is not None:
            self._mark(epoch - 1).unlink(missing_ok=True)

    def lower(self, epoch: int) -> None:
        """Let no more writes pass, if this is still the epoch."""
        if self.epoch == epoch:
            self.forget()

    def forget(self) -> None:
        """Give up whatever epoch there is."""
        self.epoch, self.holder = 0, ""
        self._unlock()

    def died(self, epoch: int) -> bool:
        """Whether the holder of an epoch is surely dead. False where that cannot be known."""
        if self._path is None:
            return False
        try:
            descriptor = os.open(self._mark(epoch), os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _mark(self, epoch: int) -> Path:
        return Path(f"{self._path}-lease-{epoch}")

    def _unlock(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class HeldLease:
    """The lease of one process. ``epoch`` is 0 until it is acquired."""

    def __init__(self, database: Database, fence: Fence, holder: str, seconds: float) -> None:
        if not seconds > 0 or not holder:
            raise ValueError("a lease needs a holder and a length above 0 seconds")
        self._database = database
        self._fence = fence
        self._holder = holder
        self._length = timedelta(seconds=seconds)
        self.epoch = 0

    def acquire(self, now: datetime) -> None:
        """Take the lease with a new epoch. Raises ``Conflict`` naming the holder while another's has not run out."""
        descriptor: int | None = None
        try:
            with self._database.write() as connection:
                epoch = self._next_epoch(connection, now)
                descriptor = self._fence.lock(epoch)
                connection.execute(
                    update(LeaseRow)
                    .where(col(LeaseRow.shard) == SHARD)
                    .values(holder=self._holder, epoch=epoch, expires_us=micros(now + self._length))
                )
        except BaseException:
            if descriptor is not None:
                os.close(descriptor)
            raise
        self.epoch = epoch
        self._fence.raise_to(epoch, self._holder, descriptor)

    def _next_epoch(self, connection: Connection, now: datetime) -> int:
        # A row to lock even the first time, so that two first holders queue.
        first = {"shard": SHARD, "holder": "", "epoch": 0, "expires_us": 0}
        connection.execute(self._database.insert(LeaseRow).values(first).on_conflict_do_nothing())
        row = connection.execute(_row().with_for_update()).one()
        if self._is_kept(row, now):
            until = moment(row.expires_us).isoformat(timespec="seconds")
            raise Conflict(f"{row.holder} holds the lease until {until} - stop it, or wait until then")
        return int(row.epoch) + 1

    def _is_kept(self, row: Found, now: datetime) -> bool:
        if row.holder in ("", self._holder) or row.expires_us <= micros(now):
            return False
        return not self._fence.died(row.epoch)

    def renew(self, now: datetime) -> None:
        """Prolong it. Raises ``Stale`` when another has it: the process must end."""
        with self._database.write() as connection:
            found = connection.execute(
                update(LeaseRow)
                .where(col(LeaseRow.shard) == SHARD, col(LeaseRow.epoch) == self.epoch)
                .where(col(LeaseRow.holder) == self._holder)
                .values(expires_us=micros(now + self._length))
            )
            kept = found.rowcount == 1
        if not kept:
            self._fence.lower(self.epoch)
            raise Stale(f"{self._holder} has lost the lease - this process must end")

    def release(self) -> None:
        """Give it up. Does nothing where another has taken it."""
        with self._database.write() as connection:
            connection.execute(
                update(LeaseRow)
                .where(col(LeaseRow.shard) == SHARD, col(LeaseRow.epoch) == self.epoch)
                .where(col(LeaseRow.holder) == self._holder)
                .values(holder="", expires_us=0)
            )
        self._fence.lower(self.epoch)


def _row() -> Query:
    return select(col(LeaseRow.holder), col(LeaseRow.epoch), col(LeaseRow.expires_us)).where(
        col(LeaseRow.shard) == SHARD
    )
