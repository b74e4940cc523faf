"""Values: what the control loop speaks of. Frozen; times are UTC; ``None`` and NaN in arrays mean unknown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from policies.types import Choice, Mode, Option, Rejection, Situation
from providers.types import Call, LaunchRecipe, Offer, Operation, Target

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

USAGE = ("cpu_cores", "gpu_util", "gpu_memory_gib", "memory_gib", "network_mbps", "disk_mbps")
"""The usage columns a job can report; five resource kinds, GPU counted by its use and by its memory."""

JobState = Literal["active", "paused", "deleting"]
TrainingState = Literal["training", "checkpointing", "ready", "done", "diverged"]


@dataclass(frozen=True, slots=True)
class Declared:
    """A change of hyperparameters that the job says will happen at a step."""

    from_step: int
    hyperparameters: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint the job says it has written."""

    id: str
    step: int
    seconds: float | None = None
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A registered training job. ``hook`` is ``None`` for a job that only pushes; ``hook_token`` is sent to it.

    ``grace_seconds`` is how long it may take to save when it is asked to, ``None``: as long as any.
    """

    name: str
    registered_at: datetime
    policy: str
    hook: str | None = None
    target: Target | None = None
    state: JobState = "active"
    mode: Mode | None = None
    total_steps: int | None = None
    target_metric: tuple[str, float] | None = None
    deadline: datetime | None = None
    budget_usd: float | None = None
    declared: tuple[Declared, ...] = ()
    recipe: LaunchRecipe | None = None
    owner: str | None = None
    group: str | None = None
    hook_token: str | None = field(default=None, repr=False)
    grace_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One row that a job reported, checked. ``at`` is the sender's clock (advisory), ``received_at`` ours (the truth).

    Values that were not finite or out of range are left out of the mappings. ``loss_state`` "diverged" says that the
    loss was NaN or infinite. ``offer`` is the id of the offer it ran on, stamped on receipt.
    """

    run: str
    seq: int
    step: int
    at: datetime | None
    received_at: datetime
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    loss_state: Literal["ok", "diverged"] = "ok"
    step_seconds: float | None = None
    usage: Mapping[str, float] = field(default_factory=dict)
    total_steps: int | None = None
    offer: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One whole answer of a hook (or one push), checked. ``dropped`` counts what was refused, by reason."""

    job: str
    run: str
    next: int
    observations: tuple[Observation, ...]
    declared: tuple[Declared, ...] = ()
    checkpoint: Checkpoint | None = None
    state: TrainingState = "training"
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What is known of a job beside its telemetry. ``heard_at`` is when it last answered.

    ``run`` is the present process's, ``state`` its training state, ``memory_floor_gib`` what it has shown to need
    (raised for good by an out-of-memory kill). Both ``*_seconds`` are the job's own, ``None`` until measured.
    ``stride`` is the least that the numbers of two of its rows ever differed by.
    """

    heard_at: datetime | None = None
    run: str | None = None
    next_seq: int = 0
    state: TrainingState = "training"
    checkpoint: Checkpoint | None = None
    checkpoint_at: datetime | None = None
    declared: tuple[Declared, ...] = ()
    answers_prepare: bool = True
    memory_floor_gib: float = 0.0
    gpu_memory_floor_gib: float = 0.0
    kills: int = 0
    last_notice_at: datetime | None = None
    checkpoint_seconds: float | None = None
    restore_seconds: float | None = None
    error: str | None = None
    stride: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What is known of one job's run so far, as columns of equal length n, ascending by step, restarts cut out.

    ``columns`` is keyed as the history file is: ``hp.<name>``, ``metric.<name>``, ``usage.<name>`` and
    ``step_seconds``; float64[n], NaN where unknown. ``at_s`` are seconds (receipt time, UTC epoch). ``offers`` is the
    offer id each row ran on ("" unknown). ``earlier`` holds the same owner's or group's finished runs, newest first.
    ``missing`` is how many rows are known to be lost from among these: dropped, refused or removed.
    """

    job: str
    step: Ints
    at_s: Floats
    columns: Mapping[str, Floats]
    offers: tuple[str, ...] = ()
    total_steps: int | None = None
    declared: tuple[Declared, ...] = ()
    owner: str | None = None
    group: str | None = None
    diverged: bool = False
    earlier: tuple["History", ...] = ()
    missing: int = 0

    def __len__(self) -> int:
        return len(self.step)

    def last(self, column: str) -> float | None:
        """Give the newest known value of a column, or ``None``."""
        values = self.columns.get(column)
        if values is None:
            return None
        known = values[np.isfinite(values)]
        return float(known[-1]) if len(known) else None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One possible future: a probability, and paths over the grid ``steps`` of its forecast."""

    probability: float
    steps: Ints
    paths: Mapping[str, Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """A distribution over futures: M weighted trajectories on a common grid of K steps after ``at_step``.

    ``probability`` float[M] sums to 1. ``paths[name]`` float[M, K], named as the columns of ``History``;
    ``step_seconds`` is on the machine the job runs on now. ``deviations[name]`` float[M, K] is the standard deviation
    that is left around each path given its hyperparameters (Gaussian), where the model knows one. ``steps`` int[K]
    ascends; with ``finish_step`` known its last entry is that step. ``method`` names what made it ("recurrent",
    "persist", ...), ``reason`` why not the best one, "" if it was. ``unknown`` names what cannot be foretold.
    """

    job: str
    made_at: datetime
    at_step: int
    steps: Ints
    probability: Floats
    paths: Mapping[str, Floats]
    deviations: Mapping[str, Floats] = field(default_factory=dict)
    finish_step: int | None = None
    method: str = "recurrent"
    reason: str = ""
    declared: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def trajectories(self) -> tuple[Trajectory, ...]:
        """Give the M trajectories, likeliest first."""
        order = np.argsort(-self.probability, kind="stable")
        return tuple(
            Trajectory(float(self.probability[m]), self.steps, {name: path[m] for name, path in self.paths.items()})
            for m in order
        )


@dataclass(frozen=True, slots=True)
class Drift:
    """How right the forecasts of a job were lately, against reality and against "the present persists".

    ``margin`` multiplies the policy's memory margin (1: as configured). ``gain`` is the share by which the forecast's
    error was below persistence's (negative: worse), ``None`` before enough pairs. ``trusted`` False switches
    prediction off for the job. ``error`` and ``error_persist`` are the two relative errors that ``gain`` compares.
    """

    pairs: int = 0
    margin: float = 1.0
    gain: float | None = None
    coverage80: float | None = None
    trusted: bool = True
    reason: str = ""
    error: float | None = None
    error_persist: float | None = None


DecisionStatus = Literal[
    "no_change",
    "observed",
    "recommended",
    "waiting",
    "approved",
    "rejected",
    "acting",
    "done",
    "released",
    "rolled_back",
    "cancelled",
    "needs_human",
    "expired",
]


@dataclass(frozen=True, slots=True)
class Decision:
    """One turn's result, with everything that led to it. ``repeats`` counts later turns that came to the same.

    ``situation`` is what the policy was shown; from it alone the choice can be made again, bit for bit. It is the
    decision's record, kept for as long as the retention says, ``None`` once it has gone; ``options`` are its own.
    ``inputs_hash`` is over the record and the forecast behind it.
    ``forecast`` is the digest that a person reads: quantiles of memory and time, method, reason.
    """

    id: str
    job: str
    at: datetime
    policy: str
    policy_version: str
    mode: Mode
    status: DecisionStatus
    current: Offer
    choice: Choice
    options: tuple[Option, ...]
    inputs_hash: str
    forecast: Mapping[str, object]
    shadow: str = ""
    last_at: datetime | None = None
    repeats: int = 0
    by: str = ""
    situation: Situation | None = None

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """Give the options not taken, with the first limit each ran into."""
        return self.choice.rejected


Stage = Literal[
    "intended",
    "checkpointing",
    "stopping",
    "modifying",
    "starting",
    "launching",
    "switching",
    "resizing",
    "retiring",
    "verifying",
    "rolling_back",
    "done",
    "released",
    "rolled_back",
    "cancelled",
    "needs_human",
]
CLOSED: frozenset[Stage] = frozenset({"done", "released", "rolled_back", "cancelled", "needs_human"})


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call to a cloud, committed before it is made (``state`` "sent") and resolved after.

    ``token`` makes a repetition harmless; ``epoch`` is the lease's, so that a later owner can tell whose it was.
    """

    id: str
    action: str
    number: int
    call: Call
    token: str
    epoch: int
    sent_at: datetime
    state: Literal["sent", "accepted", "refused", "lost"] = "sent"
    operation: Operation | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a job of a fleet costs an hour before and after an action, and the fleet's hourly cap that it must fit in.

    ``cap`` is ``None`` where none is set, and for what makes the hours cheaper: that may always be done.
    """

    fleet: str
    cap: float | None
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Action:
    """A change of resources under way, one open at a time for a target.

    ``version`` counts its saves: a save names the version it read and is refused if another came between.
    ``stopped_by_us`` is set before the stop is sent, so that only what we stopped is ever started again.
    ``nodes`` are those of the group when the action began, ``victims`` the ones to be removed.
    ``reserved_usd`` is what it sets aside of ``budget_usd`` while it is open, ``None`` where it is not held to one.
    ``deadline`` bounds the stage, ``asked_at`` is when the checkpoint was asked for, ``next_at`` the next look.
    """

    id: str
    decision: str
    job: str
    target: Target
    old: Offer
    new: Offer
    route: Literal["in_place", "replace", "grow", "shrink", "release"]
    stage: Stage
    opened_at: datetime
    stage_at: datetime
    deadline: datetime
    next_at: datetime
    checkpoint_required: bool = True
    asked_at: datetime | None = None
    old_run: str | None = None
    checkpoint: Checkpoint | None = None
    stopped_by_us: bool = False
    made: Target | None = None
    victims: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    recipe: LaunchRecipe | None = None
    attempts: int = 0
    rollback_reason: str = ""
    note: str = ""
    epoch: int = 0
    version: int = 0
    closed_at: datetime | None = None
    tried: tuple[str, ...] = ()
    reserved_usd: float = 0.0
    budget_usd: float | None = None
    grace_seconds: float | None = None
    claim: Claim | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing more will be done."""
        return self.stage in CLOSED


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a closed action came to, promised against measured."""

    action: str
    decision: str
    job: str
    stage: Stage
    pause_seconds: float | None
    promised_usd_per_hour: float
    lost_steps: int | None
    note: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Charge:
    """Money spent by a job over an interval.

    ``reason``: running, moving (while an action is open), overlap (the new machine of a move, before it is used), disk.
    """

    job: str
    offer: str
    start: datetime
    seconds: float
    usd: float
    reason: str = "running"
