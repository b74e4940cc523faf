"""Edge: actions under way and their calls. Every write passes the lease's fence in its own transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from sqlalchemy import Connection, func, select, update
from sqlmodel import col

from daemon.store import decisions, fleets
from daemon.store.audit import Audit
from daemon.store.base import Conflict, Missing, OverBudget, Stale
from daemon.store.codec import dumps, loads
from daemon.store.database import Database, Found, Query, micros
from daemon.store.lease import Fence
from daemon.store.tables import ActionRow, CallRow, ChargeRow, JobRow, OutcomeRow
from daemon.types import Action, CallRecord, DecisionStatus
from providers.types import Target

OVER = frozenset({"rejected", "done", "released", "rolled_back", "cancelled", "needs_human", "expired"})
"""What a decision may be no longer when an action is opened on it."""


class Actions:
    """Intents, their steps, and the calls made for them."""

    def __init__(self, database: Database, audit: Audit, fence: Fence) -> None:
        self._database = database
        self._audit = audit
        self._fence = fence

    def open(self, action: Action) -> Action:
        """Commit an intent and mark its decision "acting" in one unit.

        At most one open action a target: a second raises ``Conflict``. A budget or a fleet's cap that would be
        exceeded raises ``OverBudget``. The very same action again is returned as it was kept, so that an
        unknown commit may be repeated. Raises ``Stale`` if the lease is lost or the decision is over, ``Missing`` if
        there is no such decision or job.
        """
        with self._database.write() as connection:
            kept = _stamped(action, self._fence.check(connection, action.job))
            if earlier := connection.execute(_find(action.id)).one_or_none():
                return _same(earlier, kept)
            _hold_job(connection, action.job, alone=action.budget_usd is not None)
            before = decisions.lock(connection, action.decision)
            if before.status in OVER:
                raise Stale(f"decision {action.decision} is {before.status} - decide again")
            _reserve(connection, kept)
            self._insert(connection, kept)
            fleets.claim(self._database, connection, kept)
            decisions.set_status(connection, action.decision, "acting")
            self._note(connection, "action opened", kept, before="")
        return kept

    def save(self, action: Action) -> Action:
        """Save a step. Guarded by ``action.version`` and the lease's epoch: raises ``Stale``. Returns version + 1.

        A closed stage also marks the decision. A closed action is never opened again.
        """
        with self._database.write() as connection:
            epoch = self._fence.check(connection, action.job)
            kept = _stamped(replace(action, version=action.version + 1), epoch)
            before = connection.execute(_find(action.id).with_for_update()).one_or_none()
            if before is None:
                raise Missing(f"there is no action {action.id} - open it first")
            if before.version != action.version:
                raise Stale(f"action {action.id} is at version {before.version}, not {action.version} - read it again")
            if not before.is_open and not action.closed:
                raise Stale(f"action {action.id} is closed as {before.stage} - decide again")
            changed = update(ActionRow).where(col(ActionRow.id) == action.id)
            connection.execute(changed.where(col(ActionRow.version) == action.version).values(**_columns(kept)))
            if action.closed:
                fleets.settle(self._database, connection, kept)
                decisions.set_status(connection, action.decision, cast(DecisionStatus, action.stage))
            if before.stage != action.stage:
                self._note(connection, "action moved on", kept, before=before.stage)
        return kept

    def costs(self, fleet: str, usd_per_hour: Mapping[str, float]) -> None:
        """Keep what jobs of a fleet cost an hour now, by name; what an open action has claimed stays."""
        with self._database.write() as connection:
            fleets.note(self._database, connection, fleet, usd_per_hour)

    def unfinished(self) -> Sequence[Action]:
        """List open actions, oldest first."""
        statement = select(col(ActionRow.value)).where(col(ActionRow.is_open) == 1)
        with self._database.read() as connection:
            ordered = statement.order_by(col(ActionRow.opened_us), col(ActionRow.number))
            values = connection.execute(ordered).scalars().all()
        return [loads(Action, value) for value in values]

    def unsettled(self) -> Sequence[Action]:
        """List closed actions that have no outcome yet, oldest first: the process died between the two."""
        settled = select(col(OutcomeRow.action))
        statement = select(col(ActionRow.value)).where(col(ActionRow.is_open) == 0, col(ActionRow.id).not_in(settled))
        with self._database.read() as connection:
            ordered = statement.order_by(col(ActionRow.opened_us), col(ActionRow.number))
            values = connection.execute(ordered).scalars().all()
        return [loads(Action, value) for value in values]

    def record(self, call: CallRecord) -> None:
        """Insert or update a call by its id; "sent" before it is made, resolved after.

        Raises ``Stale`` if the lease is lost, ``Missing`` if there is no such action.
        """
        values = {
            "action": call.action,
            "number": call.number,
            "state": call.state,
            "epoch": call.epoch,
            "value": dumps(CallRecord, call),
        }
        statement = self._database.insert(CallRow).values(id=call.id, **values)
        of = select(col(ActionRow.job)).where(col(ActionRow.id) == call.action)
        with self._database.write() as connection:
            job = connection.execute(of).scalar_one_or_none()
            if job is None:
                raise Missing(f"there is no action {call.action} - open it first")
            self._fence.check(connection, job)
            connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))

    def calls(self, action: str) -> Sequence[CallRecord]:
        """List the calls of an action in order."""
        statement = select(col(CallRow.value)).where(col(CallRow.action) == action)
        with self._database.read() as connection:
            values = connection.execute(statement.order_by(col(CallRow.number), col(CallRow.id))).scalars().all()
        return [loads(CallRecord, value) for value in values]

    def _insert(self, connection: Connection, action: Action) -> None:
        row = {"id": action.id, "opened_us": micros(action.opened_at), **_columns(action)}
        made = self._database.insert(ActionRow).values(row).on_conflict_do_nothing().returning(col(ActionRow.id))
        if connection.execute(made).first() is None:
            raise Conflict(f"an action is open on {_name(action.target)} - let it end or cancel it first")

    def _note(self, connection: Connection, what: str, action: Action, before: str) -> None:
        detail = {
            "job": action.job,
            "decision": action.decision,
            "target": _name(action.target),
            "old": action.old.id,
            "new": action.new.id,
            "before": before,
            "after": action.stage,
            "reason": action.rollback_reason or action.note,
        }
        self._audit.add(connection, self._fence.holder or "daemon", what, action.id, detail)


def _stamped(action: Action, epoch: int) -> Action:
    """Let the action carry the epoch under which it is written."""
    return replace(action, epoch=epoch) if epoch else action


def _find(action: str) -> Query:
    chosen = (ActionRow.version, ActionRow.stage, ActionRow.is_open, ActionRow.value)
    return select(*(col(column) for column in chosen)).where(col(ActionRow.id) == action)


def _same(earlier: Found, action: Action) -> Action:
    found = loads(Action, earlier.value)
    if (found.decision, found.target) != (action.decision, action.target):
        raise Conflict(f"another action has the id {action.id} - give every action an id of its own")
    return found


def _hold_job(connection: Connection, job: str, alone: bool) -> None:
    """Keep the job from being removed while its action is opened; ``alone`` also keeps out its other intents."""
    statement = select(col(JobRow.name)).where(col(JobRow.name) == job).with_for_update(read=not alone)
    if connection.execute(statement).one_or_none() is None:
        raise Missing(f"there is no job named {job} - register it first")


def _reserve(connection: Connection, action: Action) -> None:
    """Check an intent against its budget. The job is held alone, so that of two intents one sees the other."""
    if action.budget_usd is None:
        return
    spent = select(func.coalesce(func.sum(col(ChargeRow.usd)), 0.0)).where(col(ChargeRow.job) == action.job)
    aside = select(func.coalesce(func.sum(col(ActionRow.reserved_usd)), 0.0))
    aside = aside.where(col(ActionRow.job) == action.job, col(ActionRow.is_open) == 1)
    gone = sum(float(connection.execute(part).scalar_one() or 0.0) for part in (spent, aside))
    if gone + action.reserved_usd > action.budget_usd:
        raise OverBudget(
            f"job {action.job} has spent or set aside {gone:.2f} of {action.budget_usd:.2f} dollars, and this move"
            f" takes {action.reserved_usd:.2f} - raise its budget, or let it go on"
        )


def _columns(action: Action) -> dict[str, object]:
    return {
        "decision": action.decision,
        "job": action.job,
        "target": _name(action.target),
        "stage": action.stage,
        "is_open": 0 if action.closed else 1,
        "epoch": action.epoch,
        "version": action.version,
        "reserved_usd": 0.0 if action.closed else action.reserved_usd,
        "value": dumps(Action, action),
    }


def _name(target: Target) -> str:
    return f"{target.provider}/{target.place}/{target.kind}/{target.id}"
