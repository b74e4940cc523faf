"""Values: what a policy sees and what it answers. A policy knows offers and options, no cloud and no store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from policies.availability import Availability
from providers.types import Offer

Mode = Literal["observe", "recommend", "approve", "auto"]
ActionKind = Literal["change_machine", "attach_gpu", "resize_group", "release"]
RouteName = Literal["stay", "in_place", "replace", "grow", "shrink", "release"]

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution in brief: its mean and its nine deciles (10 % to 90 %), ascending."""

    mean: float
    deciles: tuple[float, ...]

    def quantile(self, q: float) -> float:
        """Interpolate a quantile; beyond the outer deciles the outer decile is returned."""
        place = min(max(q * 10 - 1, 0.0), 8.0)
        low = int(place)
        high = min(low + 1, 8)
        return self.deciles[low] + (place - low) * (self.deciles[high] - self.deciles[low])

    @classmethod
    def exactly(cls, value: float) -> "Spread":
        """Make the distribution of a certain value."""
        return cls(value, (value,) * 9)


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that could be done now: move to ``offer`` (or stay), then go on as the plan says, to the finish.

    ``usd``, ``hours`` and ``objective`` (``usd + value_of_time x hours``) reach from now to the finish, the move and
    all later planned moves included. ``saving`` is the objective of staying, or of not moving
    for money at all, whichever this option is the surer to beat, less the objective of this option, paired trajectory
    by trajectory, so it is net of the move; zero for staying itself. ``misfit`` is the chance that some
    resource does not fit before the next move away could be complete, ``misfit_resource`` the one that is likeliest.
    ``due_seconds`` is when the plan wants this move to begin (0: now; ``None``: the plan never goes there).
    ``stretch`` is what interruptions of spot capacity make of one hour on ``offer``; 1 on demand. ``factor`` is the
    step time on ``offer`` over that forecast for the machine the job has, interruptions included; ``None`` where it is
    not one number (a profile along the forecast) or was not recorded.
    """

    offer: Offer
    route: RouteName
    kind: ActionKind | None
    usd: Spread
    hours: Spread
    objective: Spread
    saving: Spread
    usd_per_hour: float
    usd_per_progress: float | None
    misfit: float
    misfit_resource: str | None
    late: float
    over_budget: float
    move_usd: float
    pause_seconds: float
    lead_seconds: float
    due_seconds: float | None
    price_age_hours: float
    stretch: float = 1.0
    factor: float | None = None

    @property
    def stays(self) -> bool:
        """Whether this option changes nothing."""
        return self.route == "stay"


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard limits of a policy. Globs match ``Offer.id``."""

    usd_per_hour: float | None = None
    usd_total: float | None = None
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    gpus_min: int | None = None
    gpus_max: int | None = None


@dataclass(frozen=True, slots=True)
class Safety:
    """How much certainty is asked for. ``memory_quantile`` 0.99 means a chance of not fitting of at most 0.01."""

    memory_quantile: float = 0.99
    memory_margin: float = 0.08
    deadline_risk: float = 0.05
    budget_risk: float = 0.05


@dataclass(frozen=True, slots=True)
class Moves:
    """How often and when moves may be made, and how sure their payback must be."""

    max_per_hour: int = 2
    cooldown_minutes: float = 10.0
    payback_quantile: float = 0.2
    quiet: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capacity:
    """What to buy, and what to do when there is none."""

    spot: Literal["allowed", "never", "only"] = "never"
    on_shortage: Literal["next_best", "wait"] = "next_best"
    shortage_memory_minutes: float = 30.0


@dataclass(frozen=True, slots=True)
class Prices:
    """Corrections of the catalog: share taken off by offer glob, exact dollars an hour by offer id, greatest age.

    ``disk_usd_per_hour`` is what a job's disks cost, which no catalog tells; they are paid while it stands still, too.
    """

    discount: Mapping[str, float] = field(default_factory=dict)
    override: Mapping[str, float] = field(default_factory=dict)
    max_age_hours: float = 24.0 * 365
    disk_usd_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Trust:
    """How far the daemon may act by itself, for each kind of action."""

    default: Mode = "recommend"
    change_machine: Mode | None = None
    attach_gpu: Mode | None = None
    resize_group: Mode | None = None
    release: Mode | None = None

    def of(self, kind: ActionKind) -> Mode:
        """Find the mode for a kind of action."""
        chosen: Mode | None = getattr(self, kind)
        return chosen or self.default


@dataclass(frozen=True, slots=True)
class Settings:
    """One policy of a policy file, checked. ``version`` is a hash of its text, so that a decision can name it."""

    name: str
    kind: str
    version: str
    value_of_time_usd_per_hour: float = 0.0
    limits: Limits = Limits()
    safety: Safety = Safety()
    moves: Moves = Moves()
    capacity: Capacity = Capacity()
    checkpoint: Literal["required", "not_needed"] = "required"
    trust: Trust = Trust()
    prices: Prices = Prices()
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a policy may look at. ``options`` holds staying first, then every other offer, best objective first.

    ``moves`` are the times of this job's moves of the last day, newest last. ``shortages`` maps an offer id to when
    it may be tried again. ``unavailable`` maps an offer id to why its pre-flight refused it. ``memory_floor_gib``
    is never gone under. ``stale`` says that the job has not been heard of lately: nothing may be taken away from it
    then. ``can_checkpoint``: the job answers ``prepare``. ``later`` is filled by ``guards.decide``: the options
    that ran into no limit of place, price or safety and whose move the plan wants only later, soonest first.

    ``observed`` is the newest known value of each column that the job reports, named as in the history file
    (``hp.batch_size``); usage is the middle of its newest five. It also holds ``pace.fixed_s`` and
    ``pace.per_sample_s``, where the job has shown how its step time grows with its batch. ``release`` is the option of
    stopping the machine for good after a checkpoint, ``None`` where there is nothing to stop; only a policy that reads
    it can take it.
    ``share_usd_per_hour`` is this job's part of ``fleet_usd_per_hour``, what its fleet may spend an hour, where its
    policy shares.
    ``began`` is when the job was registered, ``done`` the share of its steps that is behind it, ``availability`` what
    was seen of spot offers, by id. ``reclaimed``: the cloud has said that it takes the present machine back.
    ``missing`` is how many observations are known to be lost from those behind the options.
    """

    job: str
    now: datetime
    settings: Settings
    options: tuple[Option, ...]
    moves: tuple[datetime, ...] = ()
    shortages: Mapping[str, datetime] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    memory_floor_gib: float = 0.0
    gpu_memory_floor_gib: float = 0.0
    spent_usd: float = 0.0
    stale: bool = False
    can_checkpoint: bool = True
    killed: bool = False
    later: tuple[Option, ...] = ()
    observed: Mapping[str, float] = field(default_factory=dict)
    deadline: datetime | None = None
    budget_usd: float | None = None
    release: Option | None = None
    share_usd_per_hour: float | None = None
    fleet_usd_per_hour: float | None = None
    began: datetime | None = None
    done: float | None = None
    availability: Mapping[str, Availability] = field(default_factory=dict)
    reclaimed: bool = False
    missing: int = 0

    @property
    def stay(self) -> Option:
        """The option of changing nothing."""
        return self.options[0]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An option that was not taken, and the first limit it ran into, in a word and in a sentence with figures."""

    offer: str
    limit: str
    detail: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do: the option taken (staying is one), why in one sentence, and what became of all the others.

    ``advice`` names hyperparameters that would serve the job better. It is shown; the job is not made to follow it.
    """

    option: Option
    reason: str
    rejected: tuple[Rejection, ...] = ()
    advice: Mapping[str, float] = field(default_factory=dict)
