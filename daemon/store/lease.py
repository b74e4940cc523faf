"""Edge: the lease rows, and the fence they put before every write of an action.

The epoch decides, not the clock: a process that slept through its lease finds another epoch in the row, in the same
transaction as its write, and writes nothing. Beside a SQLite file one process holds all of it, and keeps a locked file
too, which the system unlocks when the process dies, so that its successor on this host need not wait for the lease to
run out. Replicas on PostgreSQL divide it by shards: ``daemon.store.share``.
"""

import fcntl
import os
import time
from collections.abc import Callable, Mapping, Set
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Update, select, update
from sqlmodel import col

from daemon import shards
from daemon.store.base import Conflict, Stale
from daemon.store.database import Database, File, Found, Query, micros, moment
from daemon.store.tables import LeaseRow
from providers.clock import Clock

WHOLE = "loop"
"""The lease of one process alone. Where replicas share, it is theirs together, and they queue at its row."""


def awake() -> float:
    """Count seconds that pass also while the process is stopped and while the host sleeps, where the host can say."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Fence:
    """What this process may still write: the epoch of each shard that it holds, and until when by its own clock."""

    def __init__(self, database: Database) -> None:
        place = database.place
        self._path = place.path if isinstance(place, File) else None
        self._descriptor: int | None = None
        self.epochs: Mapping[str, int] = {}
        self.holder = ""
        self.until = 0.0
        self.key: Callable[[str], str] = lambda job: job

    def shard_of(self, job: str) -> str:
        """Name the shard that a job belongs to."""
        return WHOLE if self._path is not None else shards.shard_of(self.key(job))

    def check(self, connection: Connection, job: str) -> int:
        """Give the epoch under which a job may be written, 0 if nobody ever took a lease.

        Raises ``Stale`` if its shard is not ours. The row stays as it is until we commit.
        """
        shard = self.shard_of(job)
        epoch = self.epochs.get(shard, 0)
        row = connection.execute(row_of(shard).with_for_update(read=True)).one_or_none()
        if (row.epoch if row else 0) != epoch:
            holder = f"{row.holder or 'nobody'} (epoch {row.epoch})" if row else "nobody"
            raise Stale(f"the lease is not ours but with {holder} - this process must not act")
        return epoch

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
        """Let writes of this epoch of the whole pass; ``descriptor`` is what ``lock`` gave."""
        self._unlock()
        self.epochs, self.holder, self._descriptor = {WHOLE: epoch}, holder, descriptor
        if self._path is not None:
            self._mark(epoch - 1).unlink(missing_ok=True)

    def forget(self) -> None:
        """Give up whatever there is."""
        self.epochs, self.holder = {}, ""
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


class Tenure:
    """What every lease can say of itself, without asking the database."""

    def __init__(self, fence: Fence, holder: str, seconds: float) -> None:
        if not seconds > 0 or not holder:
            raise ValueError("a lease needs a holder and a length above 0 seconds")
        self._fence = fence
        self._holder = holder
        self._seconds = seconds

    @property
    def shards(self) -> Mapping[str, int]:
        """The shards held, each with its epoch."""
        return self._fence.epochs if self._fence.holder == self._holder else {}

    def shard_of(self, job: str) -> str:
        """Name the shard that a job belongs to."""
        return self._fence.shard_of(job)

    def epoch_of(self, job: str) -> int:
        """Give the epoch under which a job is held, 0 if it is not."""
        return self.shards.get(self._fence.shard_of(job), 0)

    def group(self, key: Callable[[str], str]) -> None:
        """Keep jobs of one key in one shard; without this each job is a key of its own."""
        self._fence.key = key

    def valid(self) -> bool:
        """Whether the lease has not run out by this process's own clock, however long the process was stopped."""
        return awake() < self._fence.until

    def check(self, job: str) -> None:
        """Raise ``Stale`` unless the job is ours and the lease has not run out: then nothing may be called for it."""
        if self.epoch_of(job) == 0:
            raise Stale(f"the job {job} is with another process - this one must not act on it")
        if not self.valid():
            raise Stale(f"{self._holder} slept through its lease - it must not act before it has renewed it")


class HeldLease(Tenure):
    """The lease of one process. ``epoch`` is 0 until it is acquired."""

    shared = False

    def __init__(self, database: Database, fence: Fence, holder: str, seconds: float, clock: Clock) -> None:
        super().__init__(fence, holder, seconds)
        self._database = database
        self._clock = clock
        real = clock.real_seconds(1.0)
        self._length = timedelta(seconds=seconds / real if real else seconds)
        self.epoch = 0

    @property
    def leads(self) -> bool:
        """Whether the chores of the store are this process's."""
        return bool(self.shards)

    def acquire(self, now: datetime | None = None) -> None:
        """Take the lease with a new epoch. Raises ``Conflict`` naming the holder while another's has not run out."""
        now, began = now or self._clock.now(), awake()
        descriptor: int | None = None
        try:
            with self._database.write() as connection:
                epoch = self._next_epoch(connection, now)
                descriptor = self._fence.lock(epoch)
                connection.execute(
                    update(LeaseRow)
                    .where(col(LeaseRow.shard) == WHOLE)
                    .values(holder=self._holder, epoch=epoch, expires_us=micros(now + self._length))
                )
        except BaseException:
            if descriptor is not None:
                os.close(descriptor)
            raise
        self.epoch = epoch
        self._fence.raise_to(epoch, self._holder, descriptor)
        self._fence.until = began + self._seconds

    def _next_epoch(self, connection: Connection, now: datetime) -> int:
        # A row to lock even the first time, so that two first holders queue.
        first = {"shard": WHOLE, "holder": "", "epoch": 0, "expires_us": 0}
        connection.execute(self._database.insert(LeaseRow).values(first).on_conflict_do_nothing())
        row = connection.execute(row_of(WHOLE).with_for_update()).one()
        if self._is_kept(row, now):
            until = moment(row.expires_us).isoformat(timespec="seconds")
            raise Conflict(f"{row.holder} holds the lease until {until} - stop it, or wait until then")
        return int(row.epoch) + 1

    def _is_kept(self, row: Found, now: datetime) -> bool:
        if row.holder in ("", self._holder) or row.expires_us <= micros(now):
            return False
        return not self._fence.died(row.epoch)

    def renew(self, now: datetime | None = None, giving: Set[str] = frozenset()) -> Set[str]:
        """Prolong it; nothing is ever to be given up. Raises ``Stale`` when another has it: the process must end."""
        now, began = now or self._clock.now(), awake()
        with self._database.write() as connection:
            found = connection.execute(self._mine().values(expires_us=micros(now + self._length)))
            kept = found.rowcount == 1
        if not kept:
            self._lower()
            raise Stale(f"{self._holder} has lost the lease - this process must end")
        self._fence.until = began + self._seconds
        return frozenset()

    def release(self) -> None:
        """Give it up. Does nothing where another has taken it."""
        with self._database.write() as connection:
            connection.execute(self._mine().values(holder="", expires_us=0))
        self._lower()

    def _mine(self) -> Update:
        mine = update(LeaseRow).where(col(LeaseRow.shard) == WHOLE, col(LeaseRow.epoch) == self.epoch)
        return mine.where(col(LeaseRow.holder) == self._holder)

    def _lower(self) -> None:
        if self._fence.epochs.get(WHOLE) == self.epoch:
            self._fence.forget()


def row_of(shard: str) -> Query:
    """Select one row of the leases."""
    return select(col(LeaseRow.holder), col(LeaseRow.epoch), col(LeaseRow.expires_us)).where(
        col(LeaseRow.shard) == shard
    )
