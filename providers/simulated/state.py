"""Values: everything a simulated cloud remembers. Frozen; a change is a new value put in the old one's place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from providers.types import Call, MachineState, Notice, Offer, Operation

Scheduling = Literal["migrate", "terminate"]
Unit = Literal["cpu_cores", "gpus", "machines"]

BILLED: frozenset[MachineState] = frozenset({"pending", "running", "stopping"})
"""The states that are paid for; they also count against quotas."""


@dataclass(frozen=True, slots=True)
class Delays:
    """How long things take, in seconds of the cloud's clock.

    ``jitter`` 0.2 draws each boot, stop and node delay uniformly within 20 % of its figure. ``notice_seconds`` is how
    long before a spot reclaim it is announced, ``forget_seconds`` how long a terminated machine is still shown,
    ``retry_seconds`` when a group tries again to start the nodes it lacks. ``reclaims_per_hour`` is the rate at which
    each running spot machine is reclaimed by chance.
    """

    boot_seconds: float = 45.0
    stop_seconds: float = 30.0
    modify_seconds: float = 2.0
    node_seconds: float = 60.0
    remove_seconds: float = 20.0
    retry_seconds: float = 60.0
    notice_seconds: float = 120.0
    forget_seconds: float = 3600.0
    jitter: float = 0.0
    reclaims_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of paid time on one offer at one price; ``end`` is ``None`` while it lasts."""

    offer: str
    usd_per_hour: float
    start: datetime
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a bill: an offer, since when, for how many seconds, and the dollars of that."""

    offer: str
    start: datetime
    seconds: float
    usd: float


@dataclass(frozen=True, slots=True)
class Change:
    """A modification under way: what the machine will be at ``at``."""

    offer: Offer
    scheduling: Scheduling
    at: datetime


@dataclass(frozen=True, slots=True)
class Machine:
    """A VM, or a node of the group it names.

    ``then`` at ``due`` is the transition under way. ``failing`` says why the boot under way will come to nothing.
    ``notice_at`` and ``reclaim_at`` are when a spot reclaim will be announced and carried out.
    """

    id: str
    name: str
    offer: Offer
    state: MachineState
    since: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    group: str = ""
    then: MachineState | None = None
    due: datetime | None = None
    scheduling: Scheduling = "migrate"
    change: Change | None = None
    failing: str = ""
    notices: tuple[Notice, ...] = ()
    notice_at: datetime | None = None
    reclaim_at: datetime | None = None
    spans: tuple[Span, ...] = ()

    @property
    def place(self) -> str:
        """The zone it is in, or its region where no zone is named."""
        return self.offer.zone or self.offer.region


@dataclass(frozen=True, slots=True)
class Activity:
    """One attempt of a group to start or end a node. Real groups tell of a launch that failed only here."""

    at: datetime
    node: str
    what: Literal["start", "end"]
    failed: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of equal nodes. ``offer`` is that of one node; ``retry_at`` when missing nodes are tried again."""

    id: str
    offer: Offer
    wanted: int
    min_nodes: int
    max_nodes: int
    labels: Mapping[str, str] = field(default_factory=dict)
    activities: tuple[Activity, ...] = ()
    retry_at: datetime | None = None

    @property
    def place(self) -> str:
        """The zone it is in, or its region where no zone is named."""
        return self.offer.zone or self.offer.region


@dataclass(frozen=True, slots=True)
class Ordered:
    """A call that was accepted, under its token. ``fails_at`` is set on one that was doomed when it was accepted."""

    token: str
    call: Call
    subject: str
    at: datetime
    operation: Operation
    fails_at: datetime | None = None
    doom: str = ""


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on what may be paid for at once: the sum of ``unit`` over offers whose id matches the glob."""

    name: str
    unit: Unit
    limit: float
    offers: str = "*"


@dataclass(frozen=True, slots=True)
class Shortage:
    """No capacity for offers whose id matches the glob, until a time or for so many attempts (``None``: no end).

    An ``announced`` one is seen by the pre-flight, which real clouds seldom grant. A ``late`` one accepts the call and
    lets the boot come to nothing, as EC2 does: pending, then terminated (a launch) or stopped (a start).
    """

    offers: str
    until: datetime | None = None
    times: int | None = None
    announced: bool = False
    late: bool = False


@dataclass(frozen=True, slots=True)
class Barrier:
    """Machine types (globs) between which a machine cannot be changed in place, and why."""

    old: str
    new: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A scripted fault of the next ``times`` calls of a kind (glob) on a target id or launch name (glob).

    ``before`` raises and does nothing; ``after_applied`` does it and raises; ``latency`` waits ``seconds`` and goes on;
    ``operation`` accepts the call, and the operation fails later. ``error`` names a class of ``providers.errors``.
    """

    call: str
    error: str = "Unavailable"
    when: Literal["before", "after_applied", "latency", "operation"] = "before"
    target: str = "*"
    times: int = 1
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Lag:
    """Reads of matching ids show the state of ``seconds`` ago, until a time (``None``: no end)."""

    seconds: float
    target: str = "*"
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One call that was made: when, what, on what, with which token, and "ok" or the name of the error."""

    at: datetime
    call: str
    target: str
    token: str
    outcome: str


@dataclass(frozen=True, slots=True)
class State:
    """All of it at one moment, as it is written to disk and shown to an operator."""

    at: datetime
    number: int = 0
    machines: tuple[Machine, ...] = ()
    groups: tuple[Group, ...] = ()
    orders: tuple[Ordered, ...] = ()
    quotas: tuple[Quota, ...] = ()
    barriers: tuple[Barrier, ...] = ()
    shortages: tuple[Shortage, ...] = ()
    faults: tuple[Fault, ...] = ()
    lags: tuple[Lag, ...] = ()
