"""Values: what the daemon keeps, and the laws of keeping it.

Every method is synchronous, opens and closes its own session, and makes no network call but to the database. What a
method has returned from is durable: an acknowledgement to a job or a cloud call may follow at once.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from daemon.types import (
    Action,
    CallRecord,
    Charge,
    Decision,
    DecisionStatus,
    Drift,
    Forecast,
    History,
    Job,
    JobStatus,
    Outcome,
    Report,
)


class StoreError(Exception):
    """Any fault of the store. ``str()`` is one line."""


class Busy(StoreError):
    """The database did not let us write in time; nothing was written; try later."""


class Stale(StoreError):
    """Another writer came between, or the lease is lost: nothing was written; read again or stop."""


class Conflict(StoreError):
    """A job of that name exists, or an action is open on that target; nothing was written."""


class OverBudget(Conflict):
    """What is spent or set aside and this action exceed the job's budget or its fleet's cap; nothing was written."""


class Missing(StoreError):
    """No such job, decision or action."""


class JobStore(Protocol):
    """Registered jobs and what is known of them."""

    def add(self, job: Job, idempotency_key: str | None = None) -> Job:
        """Register a job. The same key again returns the job it made; a taken name raises ``Conflict``."""

    def all(self) -> Sequence[Job]:
        """List the jobs by name."""

    def get(self, name: str) -> tuple[Job, JobStatus]:
        """Read one. Raises ``Missing``."""

    def replace(self, job: Job) -> None:
        """Save changed settings of a job. Raises ``Missing``."""

    def remove(self, name: str) -> None:
        """Delete a job, its telemetry and status; decisions, outcomes and charges stay.

        Raises ``Conflict`` while an action is open.
        """


class StatusStore(Protocol):
    """What the loop learns of a job beside telemetry."""

    def all(self) -> Mapping[str, JobStatus]:
        """Read the status of every job in one query."""

    def save(self, job: str, status: JobStatus) -> None:
        """Replace one status."""


class TelemetryStore(Protocol):
    """Observations and the forecasts made from them."""

    def append(self, report: Report, offer: str | None, status: JobStatus) -> int:
        """Keep a report's observations and the job's new status in one unit; give the number of new rows.

        Idempotent on (job, run, seq). ``offer`` is stamped on each row.
        """

    def histories(self, jobs: Sequence[str], window: int = 256) -> dict[str, History]:
        """Read the newest ``window`` rows of each job as columns, in few queries for many jobs.

        Rows of an earlier run with a step at or above the newest run's first step are cut out (work done again).
        ``at_s`` ascends with ``step``. Jobs without rows give an empty history. ``earlier`` holds up to 8 finished
        jobs of the same owner or group.
        """

    def forecast(self, job: str) -> Forecast | None:
        """Read the newest forecast of a job."""

    def save_forecasts(self, forecasts: Sequence[Forecast], drifts: Mapping[str, Drift]) -> None:
        """Keep the newest forecast of each job, and the drift state; older forecasts are dropped after 20 a job."""

    def drifts(self) -> Mapping[str, Drift]:
        """Read every job's drift state."""


class Retention(Protocol):
    """Keeping the telemetry bounded; a chore calls it."""

    def prune(self, keep_rows_per_job: int) -> int:
        """Delete the oldest observations of each job beyond a count; give how many went."""


@dataclass(frozen=True, slots=True)
class Span:
    """What one run of a job covered; ``first_step`` of the next one tells what had to be done again.

    ``first_at`` is when its oldest kept row was received.
    """

    run: str
    first_step: int
    last_step: int
    first_at: datetime


class Runs(Protocol):
    """The runs of a job, restarts included."""

    def spans(self, job: str) -> Sequence[Span]:
        """List what each run covered, oldest run first; runs without rows are left out."""


class DecisionStore(Protocol):
    """Decisions, for people and for replay."""

    def add(self, decision: Decision) -> Decision:
        """Keep a decision, or count a repetition.

        If the job's newest one has the same status, chosen offer and policy version and is "no_change", "observed" or
        "recommended", that one's ``repeats`` and ``last_at`` rise instead and it is returned.
        """

    def repeat(self, decisions: Sequence[str], at: datetime) -> None:
        """Count a repetition of each of these, in one unit and without reading them."""

    def get(self, decision: str) -> Decision:
        """Read one. Raises ``Missing``."""

    def of(self, job: str, limit: int = 50) -> Sequence[Decision]:
        """List a job's decisions, newest first."""

    def since(self, at: datetime, job: str | None = None) -> Sequence[str]:
        """List the ids of decisions, made or come again after a moment, that have a record, oldest first."""

    def forget(self, before: datetime) -> int:
        """Remove the records, not the decisions, that are older and did not come again since; give how many."""

    def mark(self, decision: str, status: DecisionStatus, by: str, expected: DecisionStatus | None = None) -> Decision:
        """Change a status, and who did. Raises ``Stale`` if it is not ``expected``; writes the audit log."""


class ActionStore(Protocol):
    """Actions under way, their calls and what came of them. All writes here are durable against power loss."""

    def open(self, action: Action) -> Action:
        """Commit an intent and mark its decision "acting" in one unit.

        At most one open action a target: a second raises ``Conflict`` (a partial unique index holds it). With a
        ``budget_usd``, raises ``OverBudget`` where the job's charges, what its open actions have reserved and this
        one's ``reserved_usd`` exceed it. A closed action sets nothing aside. With a ``claim``, the same where
        the jobs of its fleet, each at what it costs or has claimed, come to more than the cap.
        """

    def save(self, action: Action) -> Action:
        """Save a step. Guarded by ``action.version`` and the lease's epoch: raises ``Stale``. Returns version + 1.

        A closed stage also marks the decision (done, rolled_back, cancelled, needs_human).
        """

    def costs(self, fleet: str, usd_per_hour: Mapping[str, float]) -> None:
        """Keep what jobs of a fleet cost an hour now, by name; what an open action has claimed stays."""

    def unfinished(self) -> Sequence[Action]:
        """List open actions, oldest first."""

    def unsettled(self) -> Sequence[Action]:
        """List closed actions that have no outcome yet, oldest first: the process died between the two."""

    def record(self, call: CallRecord) -> None:
        """Insert or update a call by its id; "sent" before it is made, resolved after."""

    def calls(self, action: str) -> Sequence[CallRecord]:
        """List the calls of an action in order."""


class LedgerStore(Protocol):
    """Money and results."""

    def charge(self, charges: Sequence[Charge]) -> None:
        """Add charges. Idempotent on (job, start, reason): the longest one stays, so that a charge may grow."""

    def spent(self, job: str) -> float:
        """Sum a job's dollars."""

    def charges(self, job: str) -> Sequence[Charge]:
        """List a job's charges, oldest first."""

    def settle(self, outcome: Outcome) -> None:
        """Keep the measured result of an action. Idempotent on the action."""

    def outcomes(self, job: str) -> Sequence[Outcome]:
        """List a job's outcomes, oldest first."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit log."""

    number: int
    at: datetime
    who: str
    what: str
    subject: str
    detail: Mapping[str, object]


class AuditStore(Protocol):
    """The append-only, hash-chained log of who did what, and the named events of the stream."""

    def note(self, who: str, what: str, subject: str, detail: Mapping[str, object]) -> int:
        """Append an entry; give its number."""

    def since(
        self, number: int, limit: int = 500
    ) -> Sequence[tuple[int, datetime, str, str, str, Mapping[str, object]]]:
        """List entries after a number: number, time, who, what, subject, detail."""

    def last(self) -> int:
        """Give the number of the newest entry, 0 where there is none."""

    def intact(self) -> bool:
        """Check the chain from its first entry."""


class TokenStore(Protocol):
    """Hashes of bearer tokens; never a token itself."""

    def add(self, name: str, digest: str, scopes: Sequence[str]) -> None:
        """Keep a token's SHA-256 digest with its scopes."""

    def scopes(self, digest: str) -> tuple[str, Sequence[str]] | None:
        """Find name and scopes of a digest."""

    def any(self) -> bool:
        """Whether there is a token at all."""


class Lease(Protocol):
    """The right to act: for all jobs, or for the shards of one of several replicas.

    A moment left out is the present: by the store's clock for a file, by the database's own where replicas share.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes may act beside this one, on other shards."""

    @property
    def shards(self) -> Mapping[str, int]:
        """The shards held, each with its epoch; an epoch rises whenever the shard is taken."""

    @property
    def leads(self) -> bool:
        """Whether the chores of the store are this process's."""

    def shard_of(self, job: str) -> str:
        """Name the shard that a job belongs to."""

    def epoch_of(self, job: str) -> int:
        """Give the epoch under which a job is held, 0 if it is not."""

    def group(self, key: Callable[[str], str]) -> None:
        """Keep jobs of one key in one shard; without this each job is a key of its own."""

    def valid(self) -> bool:
        """Whether the lease has not run out by this process's own clock, however long the process was stopped."""

    def check(self, job: str) -> None:
        """Raise ``Stale`` unless the job is ours and the lease has not run out: then nothing may be called for it."""

    def acquire(self, now: datetime | None = None) -> None:
        """Take what is free of our share, with new epochs.

        Raises ``Conflict`` naming the holder where another process holds all and its lease has not run out.
        """

    def renew(self, now: datetime | None = None, giving: Set[str] = frozenset()) -> Set[str]:
        """Prolong it, without the shards of ``giving``, which are free then. Give the shards beyond our share.

        Raises ``Stale`` when another has taken what was ours: the process must end.
        """

    def release(self) -> None:
        """Give it up."""


class Store(Protocol):
    """All of it, behind one URL."""

    jobs: JobStore
    status: StatusStore
    telemetry: TelemetryStore
    retention: Retention
    runs: Runs
    decisions: DecisionStore
    actions: ActionStore
    ledger: LedgerStore
    audit: AuditStore
    tokens: TokenStore

    def lease(self, holder: str, seconds: float) -> Lease:
        """Make the lease object of this process, of so many real seconds; once acquired, it guards every action write.

        On PostgreSQL replicas share; no two may have one ``holder``. Beside a SQLite file one process holds all.
        """

    def close(self) -> None:
        """Close every connection."""
