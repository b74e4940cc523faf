"""Edge: read a whole database in one transaction for ``daemon.fsck``, and make the repairs that need no judgement.

Reading goes around the stores on purpose: they refuse the very rows that are looked for. Nothing is upgraded or made.
"""

import zlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, select, update
from sqlmodel import col

from daemon.fsck import Finding, KeptAction, Survey
from daemon.store import schema
from daemon.store.audit import Audit
from daemon.store.base import Conflict, StoreError
from daemon.store.codec import CodecError, loads
from daemon.store.database import Database, connect, micros, moment
from daemon.store.open import place_of
from daemon.store.share import TOGETHER
from daemon.store.tables import (
    ActionRow,
    CallRow,
    ChargeRow,
    DecisionRow,
    DriftRow,
    ForecastRow,
    JobRow,
    LeaseRow,
    ObservationRow,
    OutcomeRow,
    RunRow,
    StatusRow,
)
from daemon.types import Action, CallRecord, Charge, Decision, Drift, Forecast, Job, JobStatus, Outcome
from policies.types import Situation
from providers.clock import Clock

T = TypeVar("T")


class Surveyor:
    """Reads one database as it is. Safe beside a running daemon."""

    def __init__(self, url: str, clock: Clock, busy_seconds: float = 5.0) -> None:
        """Open a database that is there. Raises ``StoreError`` where there is none, or one of another version."""
        place = place_of(url)
        if place.get_backend_name() == "sqlite":
            path = Path(place.database or "").absolute()
            if not path.exists():
                raise StoreError(f"there is no database at {path} - name it in the configuration, or start the daemon")
            place = place.set(database=str(path))
        self._database: Database = connect(place.render_as_string(hide_password=False), busy_seconds, 1)
        self._audit = Audit(self._database, clock)
        try:
            with self._database.read() as connection:
                schema.must_be_current(connection, self._database.place.name)
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def read(self) -> Survey:
        """Read everything in one transaction. Raises ``StoreError``."""
        broken: list[tuple[str, str]] = []
        with self._database.read() as connection:
            jobs = {row.name: _one(broken, f"jobs/{row.name}", Job, row.value) for row in _all(connection, JobRow)}
            actions = [_action(row, broken) for row in _all(connection, ActionRow)]
            calls = [
                (row.id, row.action, int(row.epoch), _one(broken, f"calls/{row.id}", CallRecord, row.value))
                for row in _all(connection, CallRow)
            ]
            decisions = {row.id: _decision(row, broken) for row in _all(connection, DecisionRow)}
            charges = [
                Charge(row.job, row.offer, moment(row.start_us), row.seconds, row.usd, row.reason)
                for row in _all(connection, ChargeRow)
            ]
            settled = frozenset(_outcome(row, broken) for row in _all(connection, OutcomeRow))
            telemetry = _telemetry(connection, broken)
            leases = _all(connection, LeaseRow)
            intact = self._audit.intact_in(connection)
        return Survey(
            jobs=jobs, actions=actions, calls=calls, decisions=decisions, charges=charges, settled=settled,
            telemetry=telemetry, epoch=max((int(row.epoch) for row in leases), default=0),
            lease_until=max((moment(row.expires_us) for row in leases if row.holder), default=None),
            audit_intact=intact, undecodable=broken,
        )  # fmt: skip

    def repair(self, findings: Sequence[Finding], now: datetime) -> list[Finding]:
        """Make the repairs that these findings carry, in one unit, and note each in the audit log; give those made.

        Raises ``Conflict`` while a daemon holds the lease: it may be mending the same thing.
        """
        made = [finding for finding in findings if finding.repair is not None]
        with self._database.write() as connection:
            held = connection.execute(
                select(col(LeaseRow.holder)).where(
                    col(LeaseRow.holder).not_in(("", TOGETHER)), col(LeaseRow.expires_us) > micros(now)
                )
            ).scalar()
            if held:
                raise Conflict(f"{held} holds the lease - stop the daemon before you repair, nothing was changed")
            for finding in made:
                _mend(connection, finding)
                self._audit.add(connection, "fsck", f"repaired {finding.law}", finding.subject, {"was": finding.text})
        return made


def _mend(connection: Connection, finding: Finding) -> None:
    match finding.repair:
        case "reservation":
            chosen = update(ActionRow).where(col(ActionRow.id) == finding.subject, col(ActionRow.is_open) == 0)
            connection.execute(chosen.values(reserved_usd=0.0))
        case "decision":
            row = connection.execute(
                select(col(ActionRow.decision), col(ActionRow.stage)).where(col(ActionRow.id) == finding.subject)
            ).one()
            connection.execute(
                update(DecisionRow)
                .where(col(DecisionRow.id) == row.decision, col(DecisionRow.status) == "acting")
                .values(status=row.stage)
            )
        case "telemetry":
            table, _, key = finding.subject.partition("/")
            if table == "runs":
                connection.execute(delete(ObservationRow).where(col(ObservationRow.run) == int(key)))
                connection.execute(delete(RunRow).where(col(RunRow.number) == int(key)))
            elif table == "statuses":
                connection.execute(delete(StatusRow).where(col(StatusRow.job) == key))
        case None:
            pass


def _all(connection: Connection, table: Any) -> Sequence[Any]:
    return connection.execute(select(table)).all()


def _one(broken: list[tuple[str, str]], where: str, hint: type[T], value: str | bytes) -> T | None:
    try:
        return loads(hint, zlib.decompress(value) if isinstance(value, bytes) else value)
    except (CodecError, zlib.error, ValueError) as error:
        broken.append((where, " ".join(str(error).split())[:200]))
        return None


def _action(row: Any, broken: list[tuple[str, str]]) -> KeptAction:
    return KeptAction(
        id=row.id, job=row.job, target=row.target, decision=row.decision, stage=row.stage, is_open=row.is_open == 1,
        epoch=int(row.epoch), reserved_usd=float(row.reserved_usd or 0.0),
        action=_one(broken, f"actions/{row.id}", Action, row.value),
    )  # fmt: skip


def _decision(row: Any, broken: list[tuple[str, str]]) -> str:
    _one(broken, f"decisions/{row.id}", Decision, row.value)
    if row.record is not None:
        _one(broken, f"decisions/{row.id} (record)", Situation, row.record)
    return str(row.status)


def _outcome(row: Any, broken: list[tuple[str, str]]) -> str:
    _one(broken, f"outcomes/{row.action}", Outcome, row.value)
    return str(row.action)


def _telemetry(connection: Connection, broken: list[tuple[str, str]]) -> dict[str, str]:
    found = {f"runs/{row.number}": row.job for row in _all(connection, RunRow)}
    for row in _all(connection, StatusRow):
        _one(broken, f"statuses/{row.job}", JobStatus, row.value)
        found[f"statuses/{row.job}"] = row.job
    for row in _all(connection, DriftRow):
        _one(broken, f"drifts/{row.job}", Drift, row.value)
    for row in _all(connection, ForecastRow):
        _one(broken, f"forecasts/{row.number}", Forecast, row.value)
    return found
