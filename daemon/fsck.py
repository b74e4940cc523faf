"""Pure decisions: what is broken in a database, and between it and the clouds. Rows in, findings out.

Each finding names one broken law. Few can be repaired without a person's judgement, and only these carry a ``repair``.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from daemon.types import Action, CallRecord, Charge, Job
from providers.types import Allocation, Target

LATE = timedelta(minutes=10)
"""A daemon that lives looks at each open action far more often than this."""
LONGEST_LEASE = timedelta(hours=1)
FORGOTTEN = frozenset({"needs_human", "cancelled"})
"""Ends after which a machine that we stopped may stand forgotten; after the others a person stopped it, or was told."""
Repair = Literal["reservation", "telemetry", "decision"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken law: its name, what it is about, what is wrong and how to mend it."""

    law: str
    subject: str
    text: str
    repair: Repair | None = None


@dataclass(frozen=True, slots=True)
class KeptAction:
    """An action's row: its columns beside the value; ``action`` is ``None`` where that cannot be read."""

    id: str
    job: str
    target: str
    decision: str
    stage: str
    is_open: bool
    epoch: int
    reserved_usd: float
    action: Action | None

    @property
    def agrees(self) -> bool:
        """Whether columns and value tell the same: else nobody knows which is right, and nothing follows from it."""
        return self.action is not None and (self.stage, self.is_open) == (self.action.stage, not self.action.closed)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a database holds, read in one transaction.

    ``undecodable`` names rows that cannot be read, with why. ``decisions`` gives the status of each, ``telemetry`` the
    job of each row of telemetry. ``lease_until`` is ``None`` where nobody holds the lease.
    """

    jobs: Mapping[str, Job | None]
    actions: Sequence[KeptAction]
    calls: Sequence[tuple[str, str, int, CallRecord | None]]
    decisions: Mapping[str, str]
    charges: Sequence[Charge]
    settled: frozenset[str]
    telemetry: Mapping[str, str]
    epoch: int
    lease_until: datetime | None
    audit_intact: bool
    undecodable: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Truth:
    """What the clouds say: of targets (``None``: unknown), of what carries our label, and who was silent."""

    targets: Mapping[Target, Allocation | None]
    labelled: Sequence[Allocation]
    silent: Sequence[tuple[str, str]] = ()


def check(kept: Survey, truth: Truth, now: datetime) -> list[Finding]:
    """Find every broken law, in a fixed order."""
    found = [*_rows(kept), *_one_each(kept), *_stages(kept, now), *_money(kept), *_calls(kept), *_lease(kept, now)]
    return [*found, *_orphans(kept, truth), *_forgotten(kept, truth)]


def _rows(kept: Survey) -> Iterator[Finding]:
    for where, why in kept.undecodable:
        yield Finding("readable", where, f"the row cannot be read ({why}) - restore it from a backup")
    if not kept.audit_intact:
        yield Finding("audit", "audit", "the audit log's chain is broken: a line was changed, added or cut off")
    for place, job in sorted(kept.telemetry.items()):
        if job not in kept.jobs:
            yield Finding("telemetry", place, f"telemetry of a job {job!r} that is not registered", "telemetry")


def _one_each(kept: Survey) -> Iterator[Finding]:
    opened = [one for one in kept.actions if one.is_open]
    for target, number in sorted(Counter(one.target for one in opened).items()):
        if number > 1:
            ids = ", ".join(sorted(one.id for one in opened if one.target == target))
            yield Finding(
                "one action", target, f"{number} actions are open on it ({ids}) - stop the daemon, look at it"
            )
    for job, targets in sorted(_targets(opened).items()):
        if len(targets) > 1:
            yield Finding("one action", job, f"actions are open on {len(targets)} targets of the job - look at them")
    for one in opened:
        if one.job not in kept.jobs:
            yield Finding("job", one.id, f"the action is open and its job {one.job!r} is not registered")


def _targets(opened: Sequence[KeptAction]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for one in opened:
        found[one.job].add(one.target)
    return found


def _stages(kept: Survey, now: datetime) -> Iterator[Finding]:
    for one in kept.actions:
        action = one.action
        if action is None:
            continue
        if not one.agrees:
            state = "open" if one.is_open else "closed"
            yield Finding("columns", one.id, f"the row says {one.stage} and {state}, its value {action.stage}")
        if one.is_open and now > action.deadline + LATE:
            late = now - action.deadline
            yield Finding(
                "deadline", one.id, f"{one.stage} is past its deadline by {_long(late)} - is a daemon running?"
            )
        if one.epoch > kept.epoch:
            yield Finding("epoch", one.id, f"it carries epoch {one.epoch}, and the lease has come to {kept.epoch} only")
        status = kept.decisions.get(one.decision)
        if status is None:
            yield Finding("decision", one.id, f"its decision {one.decision} is not there")
        elif not one.is_open and status == "acting":
            text = f"decision {one.decision} counts as acting, and its action ended {one.stage}"
            yield Finding("decision", one.id, text, "decision" if one.agrees else None)
        settled = action.id in kept.settled or action.closed_at is None or now - action.closed_at < LATE
        if action.closed and not settled:
            yield Finding(
                "outcome", one.id, f"it ended {one.stage} and its outcome was never written - start the daemon"
            )


def _money(kept: Survey) -> Iterator[Finding]:
    for one in kept.actions:
        if not one.is_open and one.reserved_usd:
            text = f"it ended {one.stage} and still sets {one.reserved_usd:.2f} dollars aside"
            yield Finding("reservation", one.id, text, "reservation" if one.agrees else None)
        elif one.action is not None and one.is_open and not math.isclose(one.reserved_usd, one.action.reserved_usd):
            text = f"the row sets {one.reserved_usd:.2f} dollars aside, its value {one.action.reserved_usd:.2f}"
            yield Finding("reservation", one.id, text)
    by_job: dict[str, list[Charge]] = defaultdict(list)
    for charge in kept.charges:
        if not (math.isfinite(charge.usd) and charge.usd >= 0 and charge.seconds >= 0):
            text = (
                f"a charge of {charge.usd} dollars for {charge.seconds} s from {charge.start.isoformat()} is no amount"
            )
            yield Finding("ledger", charge.job, text)
        elif charge.reason in ("running", "moving"):
            by_job[charge.job].append(charge)
    for job, charges in sorted(by_job.items()):
        ordered = sorted(charges, key=lambda charge: charge.start)
        for before, after in pairwise(ordered):
            twice = (before.start - after.start).total_seconds() + before.seconds
            if twice > 1.0:
                text = f"{min(twice, after.seconds):.0f} s from {after.start.isoformat()} are charged twice"
                yield Finding("ledger", job, text)


def _calls(kept: Survey) -> Iterator[Finding]:
    known = {one.id for one in kept.actions}
    tokens: dict[str, str] = {}
    for name, action, epoch, call in kept.calls:
        if action not in known:
            yield Finding("call", name, f"it was made for an action {action} that is not there")
        if epoch > kept.epoch:
            yield Finding(
                "epoch", name, f"it was made under epoch {epoch}, and the lease has come to {kept.epoch} only"
            )
        if call is None:
            continue
        if call.token in tokens:
            yield Finding("token", name, f"its token was used by call {tokens[call.token]} before")
        tokens.setdefault(call.token, name)


def _lease(kept: Survey, now: datetime) -> Iterator[Finding]:
    if kept.lease_until is not None and kept.lease_until > now + LONGEST_LEASE:
        far = _long(kept.lease_until - now)
        yield Finding(
            "lease", "lease", f"the lease runs for another {far} - set the clocks right; nobody can take over"
        )


def _orphans(kept: Survey, truth: Truth) -> Iterator[Finding]:
    actions = {one.id: one.action for one in kept.actions}
    used = {job.target for job in kept.jobs.values() if job is not None}
    for name, why in truth.silent:
        yield Finding("cloud", name, f"the cloud did not tell all: {why} - run this again")
    for machine in truth.labelled:
        owner = machine.labels.get("scaleahead-action", "")
        action = actions.get(owner)
        if machine.state == "terminated" or machine.target in used or (action is not None and not action.closed):
            continue
        name = f"{machine.target.provider}/{machine.target.place}/{machine.target.id}"
        whose = (
            f"of action {owner}, which ended {action.stage}," if action is not None else f"of unknown action {owner}"
        )
        yield Finding(
            "orphan", name, f"a {machine.state} machine {whose} belongs to no job and costs money - delete it"
        )


def _forgotten(kept: Survey, truth: Truth) -> Iterator[Finding]:
    last: dict[Target, Action] = {}
    for one in kept.actions:
        if one.action is not None:
            before = last.get(one.action.target)
            if before is None or before.opened_at <= one.action.opened_at:
                last[one.action.target] = one.action
    for target, action in last.items():
        seen = truth.targets.get(target)
        if seen is not None and seen.state == "stopped" and action.stopped_by_us and action.stage in FORGOTTEN:
            text = f"action {action.id} stopped it and ended {action.stage} ({action.note}); it stands still - start it"
            yield Finding("forgotten", f"{target.provider}/{target.place}/{target.id}", text)


def _long(time: timedelta) -> str:
    seconds = int(time.total_seconds())
    return f"{seconds // 3600} h {seconds % 3600 // 60} min" if seconds >= 3600 else f"{seconds // 60} min"
