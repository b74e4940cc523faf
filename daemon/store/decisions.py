"""Edge: decisions, for people and for replay."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast

from sqlalchemy import Connection, Text, bindparam, func, insert, select, update
from sqlmodel import col

from daemon.store.audit import Audit
from daemon.store.base import Missing, Stale
from daemon.store.codec import dumps, loads
from daemon.store.database import Database, Found, Query, micros, moment
from daemon.store.tables import DecisionRow, JobRow
from daemon.types import Decision, DecisionStatus
from policies.types import Situation

REPEATABLE = frozenset({"no_change", "observed", "recommended"})


class Decisions:
    """Every decision ever made. With hundreds of options one is large, so it is kept compressed and written once."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    def add(self, decision: Decision) -> Decision:
        """Keep a decision, or count a repetition of the job's newest one and return that."""
        # Locks the job: of two turns of a job one finds the other's decision.
        job = select(col(JobRow.name)).where(col(JobRow.name) == decision.job).with_for_update(key_share=True)
        with self._database.write() as connection:
            connection.execute(job)
            newest = connection.execute(_columns(decision.job).limit(1)).first()
            if newest is None or not _repeats(newest, decision):
                connection.execute(insert(DecisionRow).values(**_row(decision)))
                return decision
            last = decision.last_at or decision.at
            connection.execute(
                update(DecisionRow)
                .where(col(DecisionRow.number) == newest.number)
                .values(repeats=col(DecisionRow.repeats) + 1, last_us=micros(last))
            )
            return _read(connection, newest.id)

    def repeat(self, decisions: Sequence[str], at: datetime) -> None:
        """Count a repetition of each of these, in one unit and without reading them."""
        if not decisions:
            return
        again = update(DecisionRow).where(col(DecisionRow.id) == bindparam("of_id", type_=Text))
        counted = again.values(repeats=col(DecisionRow.repeats) + 1, last_us=micros(at))
        with self._database.write() as connection:
            connection.execute(counted, [{"of_id": decision} for decision in sorted(decisions)])

    def get(self, decision: str) -> Decision:
        """Read one. Raises ``Missing``."""
        with self._database.read() as connection:
            return _read(connection, decision)

    def of(self, job: str, limit: int = 50) -> Sequence[Decision]:
        """List a job's decisions, newest first."""
        statement = select(DecisionRow).where(col(DecisionRow.job) == job).order_by(col(DecisionRow.number).desc())
        with self._database.read() as connection:
            rows = connection.execute(statement.limit(limit)).all()
        return [_decision(row) for row in rows]

    def since(self, at: datetime, job: str | None = None) -> Sequence[str]:
        """List the ids of decisions, made or come again after a moment, that have a record, oldest first."""
        newest = func.coalesce(col(DecisionRow.last_us), col(DecisionRow.at_us))
        statement = select(col(DecisionRow.id)).where(col(DecisionRow.record).is_not(None), newest >= micros(at))
        if job is not None:
            statement = statement.where(col(DecisionRow.job) == job)
        with self._database.read() as connection:
            return connection.execute(statement.order_by(col(DecisionRow.number))).scalars().all()

    def forget(self, before: datetime) -> int:
        """Remove the records, not the decisions, that are older and did not come again since; give how many."""
        newest = func.coalesce(col(DecisionRow.last_us), col(DecisionRow.at_us))
        old = update(DecisionRow).where(col(DecisionRow.record).is_not(None), newest < micros(before))
        with self._database.write() as connection:
            return connection.execute(old.values(record=None)).rowcount

    def mark(self, decision: str, status: DecisionStatus, by: str, expected: DecisionStatus | None = None) -> Decision:
        """Change a status, and who did. Raises ``Stale`` if it is not ``expected``; writes the audit log."""
        with self._database.write() as connection:
            before = lock(connection, decision)
            if expected is not None and before.status != expected:
                raise Stale(f"decision {decision} is {before.status}, not {expected} any more - read it again")
            set_status(connection, decision, status, by)
            detail = {"job": before.job, "before": before.status, "after": status}
            self._audit.add(connection, by, "decision marked", decision, detail)
            return _read(connection, decision)


def lock(connection: Connection, decision: str) -> Found:
    """Read job and status of a decision, held until the unit ends. Raises ``Missing``."""
    statement = select(col(DecisionRow.job), col(DecisionRow.status)).where(col(DecisionRow.id) == decision)
    row = connection.execute(statement.with_for_update(key_share=True)).one_or_none()
    if row is None:
        raise _missing(decision)
    return row


def set_status(connection: Connection, decision: str, status: DecisionStatus, by: str | None = None) -> None:
    """Change a decision's status as a part of another unit; ``by`` stays as it is if ``None``."""
    values = {"status": status} if by is None else {"status": status, "by": by}
    connection.execute(update(DecisionRow).where(col(DecisionRow.id) == decision).values(**values))


def _columns(job: str) -> Query:
    chosen = (DecisionRow.number, DecisionRow.id, DecisionRow.status, DecisionRow.offer, DecisionRow.policy_version)
    statement = select(*(col(column) for column in chosen)).where(col(DecisionRow.job) == job)
    return statement.order_by(col(DecisionRow.number).desc())


def _repeats(newest: Found, decision: Decision) -> bool:
    return decision.status in REPEATABLE and (newest.status, newest.offer, newest.policy_version) == (
        decision.status,
        decision.choice.option.offer.id,
        decision.policy_version,
    )


def _row(decision: Decision) -> dict[str, object]:
    return {
        "id": decision.id,
        "job": decision.job,
        "status": decision.status,
        "offer": decision.choice.option.offer.id,
        "policy_version": decision.policy_version,
        "by": decision.by,
        "repeats": decision.repeats,
        "last_us": micros(decision.last_at) if decision.last_at else None,
        "at_us": micros(decision.at),
        **_kept(decision),
    }


def _kept(decision: Decision) -> dict[str, bytes | None]:
    """Put what may go after a while apart from what stays: the options are the record's where there is one."""
    seen = decision.situation
    if seen is None or seen.options != decision.options:
        return {"value": _packed(Decision, replace(decision, situation=None)), "record": None}
    return {
        "value": _packed(Decision, replace(decision, situation=None, options=())),
        "record": _packed(Situation, seen),
    }


def _packed(hint: type, value: object) -> bytes:
    return zlib.compress(dumps(hint, value).encode("ascii"), 1)


def _read(connection: Connection, decision: str) -> Decision:
    row = connection.execute(select(DecisionRow).where(col(DecisionRow.id) == decision)).one_or_none()
    if row is None:
        raise _missing(decision)
    return _decision(row)


def _decision(row: Found) -> Decision:
    kept = loads(Decision, zlib.decompress(row.value))
    if row.record is not None:
        seen = loads(Situation, zlib.decompress(row.record))
        kept = replace(kept, situation=seen, options=seen.options)
    return replace(
        kept,
        status=cast(DecisionStatus, row.status),
        by=row.by,
        repeats=row.repeats,
        last_at=None if row.last_us is None else moment(row.last_us),
    )


def _missing(decision: str) -> Missing:
    return Missing(f"there is no decision {decision} - see the list of decisions of the job")
