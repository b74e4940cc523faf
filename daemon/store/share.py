"""Edge: the lease of one of several replicas on PostgreSQL: a part of the shards, of an even size with the others'.

Every beat of every replica is one unit that first locks one row, so that they come one after the other and each sees
what the one before has written. Times are those of the database's clock: hosts whose clocks differ agree all the same.
"""

from collections.abc import Mapping, Set
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select, update
from sqlmodel import col

from daemon import shards
from daemon.store.base import Conflict, Stale
from daemon.store.database import Database, Found, Query, micros, moment
from daemon.store.lease import WHOLE, Fence, Tenure, awake, row_of
from daemon.store.tables import LeaseRow

TOGETHER = "replicas"
"""Holder of the whole while replicas share it: a release that knew no shards is refused, and its writes are fenced."""
CHORES = "chores"
MEMBER = "replica "


class SharedLease(Tenure):
    """One replica's share of the shards. ``acquire`` and ``renew`` are the same beat. No two may have one name.

    A member's row and its shards' run out together, so that who is not a living member owns nothing.
    """

    shared = True

    def __init__(self, database: Database, fence: Fence, holder: str, seconds: float) -> None:
        super().__init__(fence, holder, seconds)
        self._database = database
        self._length = timedelta(seconds=seconds)
        self.leads = False

    @property
    def epoch(self) -> int:
        """The highest epoch held, 0 for none."""
        return max(self.shards.values(), default=0)

    def acquire(self, now: datetime | None = None) -> None:
        """Join the replicas and take what is free of our share, which may be nothing yet.

        Raises ``Conflict`` while a process of a release that knew no shards holds the whole.
        """
        self._fence.epochs, self._fence.holder, self.leads = {}, self._holder, False
        self.renew(now)

    def renew(self, now: datetime | None = None, giving: Set[str] = frozenset()) -> Set[str]:
        """Prolong what is held, give up ``giving``, take what is free of our share; say what is beyond our share.

        Raises ``Stale`` when another has taken what we held: the process must end.
        """
        began = awake()
        with self._database.write() as connection:
            at = self._queue(connection, now)
            rows = {row.shard: row for row in connection.execute(_all()).all()}
            if lost := [shard for shard, epoch in self.shards.items() if not self._is_mine(rows.get(shard), epoch)]:
                # Nothing of this unit is written; the fence refuses the rest.
                self._fence.forget()
                raise Stale(f"{self._holder} has lost {', '.join(sorted(lost))} - this process must end")
            self._keep_member(connection, rows, at)
            leads = self._lead(connection, rows, at)
            held, surplus = self._divide(connection, rows, at, giving)
        self._fence.epochs, self._fence.until, self.leads = held, began + self._seconds, leads
        return surplus

    def release(self) -> None:
        """Leave the replicas: what we held is free at once."""
        with self._database.write() as connection:
            whole = connection.execute(row_of(WHOLE).with_for_update()).one()
            mine = col(LeaseRow.holder) == self._holder
            connection.execute(delete(LeaseRow).where(mine, col(LeaseRow.shard).startswith(MEMBER)))
            connection.execute(update(LeaseRow).where(mine).values(holder="", expires_us=0))
            others = select(col(LeaseRow.shard)).where(col(LeaseRow.shard).startswith(MEMBER)).limit(1)
            if connection.execute(others).first() is None:
                self._write(connection, WHOLE, "", whole.epoch, 0)
        self._fence.forget()
        self.leads = False

    def _queue(self, connection: Connection, now: datetime | None) -> datetime:
        """Lock the whole's row, which makes the replicas queue, and give the time."""
        first = {"shard": WHOLE, "holder": "", "epoch": 0, "expires_us": 0}
        connection.execute(self._database.insert(LeaseRow).values(first).on_conflict_do_nothing())
        row = connection.execute(row_of(WHOLE).with_for_update()).one()
        at: datetime = now or connection.execute(select(func.clock_timestamp())).scalar_one()
        if row.holder not in ("", TOGETHER) and row.expires_us > micros(at):
            until = moment(row.expires_us).isoformat(timespec="seconds")
            raise Conflict(
                f"{row.holder} of an earlier release holds the lease alone until {until} - stop it, or wait until then"
            )
        epoch = row.epoch + (row.holder != TOGETHER)
        self._write(connection, WHOLE, TOGETHER, epoch, micros(at + self._length))
        return at

    def _is_mine(self, row: Found | None, epoch: int) -> bool:
        return row is not None and (row.holder, row.epoch) == (self._holder, epoch)

    def _keep_member(self, connection: Connection, rows: Mapping[str, Found], at: datetime) -> None:
        gone = [name for name, row in rows.items() if name.startswith(MEMBER) and row.expires_us <= micros(at)]
        if gone:
            connection.execute(delete(LeaseRow).where(col(LeaseRow.shard).in_(gone)))
        self._write(connection, MEMBER + self._holder, self._holder, 0, micros(at + self._length))

    def _lead(self, connection: Connection, rows: Mapping[str, Found], at: datetime) -> bool:
        row = rows.get(CHORES)
        if row is not None and row.holder not in ("", self._holder) and row.expires_us > micros(at):
            return False
        self._write(connection, CHORES, self._holder, 0, micros(at + self._length))
        return True

    def _divide(
        self, connection: Connection, rows: Mapping[str, Found], at: datetime, giving: Set[str]
    ) -> tuple[dict[str, int], Set[str]]:
        """Write our part of the shards: what we hold from now on, each with its epoch, and what of it is too much."""
        held = {shard: epoch for shard, epoch in self.shards.items() if shard not in giving}
        for shard in giving & set(self.shards):
            self._write(connection, shard, "", rows[shard].epoch, 0)
        living = {row.holder for name, row in rows.items() if name.startswith(MEMBER) and row.expires_us > micros(at)}
        living.add(self._holder)
        owners = {shard: rows[shard].holder if shard in rows else "" for shard in shards.SHARDS}
        owners |= dict.fromkeys(giving, "") | dict.fromkeys(held, self._holder)
        part = shards.share(self._holder, owners, living)
        for shard in part.take:
            held[shard] = (rows[shard].epoch if shard in rows else 0) + 1
        for shard, epoch in held.items():
            self._write(connection, shard, self._holder, epoch, micros(at + self._length))
        return held, frozenset(part.surplus)

    def _write(self, connection: Connection, shard: str, holder: str, epoch: int, expires_us: int) -> None:
        values = {"holder": holder, "epoch": epoch, "expires_us": expires_us}
        row = self._database.insert(LeaseRow).values(shard=shard, **values)
        connection.execute(row.on_conflict_do_update(index_elements=["shard"], set_=values))


def _all() -> Query:
    return select(col(LeaseRow.shard), col(LeaseRow.holder), col(LeaseRow.epoch), col(LeaseRow.expires_us))
