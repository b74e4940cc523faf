"""Values: the kinds of moves that are tried, what may go wrong at a site, and how long things take here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from daemon import act
from providers.types import MachineState, Offer, Price, Resources, Target

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
PATIENCE = act.Patience(
    checkpointing=180, stopping=180, modifying=180, starting=180, launching=180, resizing=180, verifying=180,
    rolling_back=420, look=15, repeat=30,
)  # fmt: skip
READ, CALL, HOOK, COMMIT = ("throttled", "unavailable"), ("throttled", "unavailable", "lost", "delayed"), ("lost",), (
    "crash",
)  # fmt: skip
RESTART, HIDDEN, CHANGE, SAVING = (timedelta(seconds=s) for s in (20, 45, 20, 20))
"""How long a daemon is away after a crash, an effect is not shown, a machine changes its state, a checkpoint takes."""
LONGEST_STOP = timedelta(seconds=180 + 180 + 180 + 420 + 120)
"""The patience of every stage in which a machine may stand stopped, and two restarts."""


class Broken(AssertionError):
    """A law does not hold."""


class Killed(BaseException):
    """The process is gone."""


def offer(kind: str, usd: float, nodes: int = 1) -> Offer:
    return Offer("simulated", "here", kind, Resources(4, 16.0), Price(usd, "a test", NOW), nodes=nodes)


SMALL, LARGE = offer("small", 0.2), offer("large", 0.3)
VM, GROUP = Target("simulated", "vm", "vm-1", "here"), Target("simulated", "group", "group-1", "here")
SIZES = {nodes: offer("small", 0.2 * nodes, nodes) for nodes in range(1, 6)}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of move, and what stands in its way. ``end`` is its end when nothing fails.

    ``lacking`` are machine types without capacity, ``stock`` the nodes a group can have, ``refuses`` whether the cloud
    refuses the change of type when it comes to it, ``deaf`` whether the job never gives a checkpoint.
    """

    name: str
    route: Literal["in_place", "replace", "grow", "shrink", "release"]
    old: Offer
    new: Offer
    end: str
    lacking: tuple[str, ...] = ()
    stock: int = 9
    refuses: bool = False
    deaf: bool = False

    @property
    def target(self) -> Target:
        return GROUP if self.route in ("grow", "shrink") else VM


SCENARIOS = (
    Scenario("in place", "in_place", SMALL, LARGE, "done"),
    Scenario("in place, no capacity", "in_place", SMALL, LARGE, "rolled_back", lacking=("large",)),
    Scenario("in place, change refused", "in_place", SMALL, LARGE, "rolled_back", refuses=True),
    Scenario("in place, no checkpoint", "in_place", SMALL, LARGE, "cancelled", deaf=True),
    Scenario("replace", "replace", SMALL, LARGE, "done"),
    Scenario("replace, no checkpoint", "replace", SMALL, LARGE, "rolled_back", deaf=True),
    Scenario("grow", "grow", SIZES[2], SIZES[4], "done"),
    Scenario("grow, too few", "grow", SIZES[2], SIZES[4], "rolled_back", stock=3),
    Scenario("grow, none", "grow", SIZES[2], SIZES[4], "rolled_back", stock=2),
    Scenario("shrink", "shrink", SIZES[4], SIZES[2], "done"),
    Scenario("release", "release", SMALL, SMALL, "released"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """A VM or a node, and when it passes to the state that follows."""

    state: MachineState
    offer: Offer
    due: datetime | None = None


NEXT: Mapping[MachineState, MachineState] = {"pending": "running", "stopping": "stopped"}


@dataclass(frozen=True, slots=True)
class JobNow:
    """The training process: where it runs ("" nowhere), its run, and what it saved last."""

    on: str
    run: int = 0
    state: Literal["training", "ready"] = "training"
    saved_at: datetime | None = None
    asked_at: datetime | None = None
    until: datetime | None = None
    heard_at: datetime = NOW

    @property
    def safe(self) -> bool:
        """Whether nothing is lost if it dies now."""
        return not self.on or self.state == "ready"
