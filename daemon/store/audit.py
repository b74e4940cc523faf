"""Edge: the append-only, hash-chained audit log.

Each line's hash is over the hash before it and the line itself, so an edited or removed line breaks the chain; a row
apart keeps the chain's end, so that lines cut off its end are missed too. Triggers refuse the plain ways to do either.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select, update
from sqlmodel import col

from daemon.store.base import AuditEntry
from daemon.store.codec import dumps, loads
from daemon.store.database import Database, Found
from daemon.store.tables import AuditRow, ChainRow
from providers.clock import Clock

Line = tuple[int, datetime, str, str, str, Mapping[str, object]]
GENESIS = "0" * 64
PAGE = 1000


def _hash(before: str, entry: str) -> str:
    return hashlib.sha256(f"{before}{entry}".encode("ascii")).hexdigest()


def _line(entry: AuditEntry) -> Line:
    return entry.number, entry.at, entry.who, entry.what, entry.subject, entry.detail


class Audit:
    """Who did what, in the order it was committed."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def note(self, who: str, what: str, subject: str, detail: Mapping[str, object]) -> int:
        """Append an entry; give its number."""
        with self._database.write() as connection:
            return self.add(connection, who, what, subject, detail)

    def add(self, connection: Connection, who: str, what: str, subject: str, detail: Mapping[str, object]) -> int:
        """Append an entry as a part of another unit; give its number."""
        start = {"one": 1, "number": 0, "hash": GENESIS}
        connection.execute(self._database.insert(ChainRow).values(start).on_conflict_do_nothing())
        end = connection.execute(select(col(ChainRow.number), col(ChainRow.hash)).with_for_update()).one()
        number = int(end.number) + 1
        entry = dumps(AuditEntry, AuditEntry(number, self._clock.now(), who, what, subject, detail))
        digest = _hash(end.hash, entry)
        connection.execute(insert(AuditRow).values(number=number, entry=entry, hash=digest))
        connection.execute(update(ChainRow).values(number=number, hash=digest))
        return number

    def since(self, number: int, limit: int = 500) -> Sequence[Line]:
        """List entries after a number: number, time, who, what, subject, detail."""
        statement = select(col(AuditRow.entry)).where(col(AuditRow.number) > number)
        with self._database.read() as connection:
            entries = connection.execute(statement.order_by(col(AuditRow.number)).limit(limit)).scalars().all()
        return [_line(loads(AuditEntry, entry)) for entry in entries]

    def last(self) -> int:
        """Give the number of the newest entry, 0 where there is none."""
        with self._database.read() as connection:
            return int(connection.execute(select(col(ChainRow.number))).scalar_one_or_none() or 0)

    def intact(self) -> bool:
        """Check the chain from its first entry to its end."""
        with self._database.read() as connection:
            return self.intact_in(connection)

    def intact_in(self, connection: Connection) -> bool:
        """Check the chain as a part of another view."""
        number, digest = 0, GENESIS
        while rows := _after(connection, number):
            for row in rows:
                if not row.entry.isascii():
                    return False
                number, digest = number + 1, _hash(digest, row.entry)
                if (row.number, row.hash) != (number, digest):
                    return False
        end = connection.execute(select(col(ChainRow.number), col(ChainRow.hash))).one_or_none()
        return (number, digest) == ((end.number, end.hash) if end else (0, GENESIS))


def _after(connection: Connection, number: int) -> Sequence[Found]:
    statement = select(col(AuditRow.number), col(AuditRow.entry), col(AuditRow.hash))
    ordered = statement.where(col(AuditRow.number) > number).order_by(col(AuditRow.number))
    return connection.execute(ordered.limit(PAGE)).all()
