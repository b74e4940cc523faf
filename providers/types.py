"""Values: the vocabulary of the cloud that every other package speaks.

Nothing here knows of jobs, forecasts or policies. Units stand in the names. ``None`` means unknown, never zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Buying = Literal["on_demand", "spot", "reserved"]
MachineState = Literal["pending", "running", "stopping", "stopped", "terminated", "unknown"]
TargetKind = Literal["vm", "group", "pool"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What one node has: the five resource kinds CPU, GPU memory, memory, network and disk.

    ``gpu_memory_gib`` is the memory of ONE GPU; ``gpus`` counts those of one node.
    """

    cpu_cores: float
    memory_gib: float
    gpus: int = 0
    gpu_model: str | None = None
    gpu_memory_gib: float = 0.0
    network_gbps: float | None = None
    disk_mb_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars an hour for a whole offer (all its nodes), with where and when the figure was read."""

    usd_per_hour: float
    source: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that can be had: ``nodes`` machines of a type in a place, bought in one way.

    ``resources`` are those of one node, attached GPUs included; ``price`` is for all nodes together and is ``None``
    while no sourced price is known (such an offer is listed, and refused by every policy). ``attached_gpus`` is not
    zero only where the cloud attaches GPUs to a machine type that has none of its own (GCE N1).
    """

    provider: str
    region: str
    machine_type: str
    resources: Resources
    price: Price | None
    zone: str | None = None
    nodes: int = 1
    attached_gpus: int = 0
    buying: Buying = "on_demand"

    @property
    def id(self) -> str:
        """Name the offer: ``provider/place/[Nx ]type[+KxGPU][@spot]``, the form that allow lists match."""
        count = f"{self.nodes}x " if self.nodes > 1 else ""
        attached = f"+{self.attached_gpus}x{self.resources.gpu_model}" if self.attached_gpus else ""
        way = "" if self.buying == "on_demand" else f"@{self.buying}"
        return f"{self.provider}/{self.zone or self.region}/{count}{self.machine_type}{attached}{way}"


@dataclass(frozen=True, slots=True)
class Target:
    """The cloud resource under a job: a VM or a group of nodes, by its cloud id and place (zone or region).

    A ``pool`` is a group of nodes of a Kubernetes cluster; its id is ``cluster/pool``.
    """

    provider: str
    kind: TargetKind
    id: str
    place: str


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of an allocation. ``leaving``: we let nothing new onto it, for it is to be removed."""

    id: str
    state: MachineState
    since: datetime | None = None
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the platform says about a machine: a coming reclaim, or a process it killed for memory."""

    kind: Literal["spot_reclaim", "out_of_memory", "maintenance"]
    at: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a target is at this moment, as its cloud says.

    ``offer.nodes`` counts the nodes wanted of a group; ``nodes`` lists those that exist. ``offer.price`` is the price
    paid now.
    """

    target: Target
    state: MachineState
    offer: Offer
    nodes: tuple[Node, ...] = ()
    notices: tuple[Notice, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LaunchPlace:
    """Where a provider launches a machine for a job, and from which template of its own."""

    template: str
    place: str


@dataclass(frozen=True, slots=True)
class LaunchRecipe:
    """How to start a new machine for a job: a launch template, its image and labels.

    ``places`` gives by a provider's name what takes the place of ``template`` there: a job may then be moved to it.
    """

    template: str
    labels: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, LaunchPlace] = field(default_factory=dict)


# Routes: the ways from what is to what is wanted, found by a provider's pre-flight without changing anything.


@dataclass(frozen=True, slots=True)
class Same:
    """Nothing needs to change."""


@dataclass(frozen=True, slots=True)
class InPlace:
    """Stop, make these modifications in this order, start. ``aspects`` names those still missing."""

    aspects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """Launch the new machine first, move the job, then stop the old one. ``reason``: why not in place."""

    reason: str


@dataclass(frozen=True, slots=True)
class Grow:
    """Raise a group to this many nodes."""

    nodes: int


@dataclass(frozen=True, slots=True)
class Shrink:
    """Take this many nodes away from a group; the caller names the victims."""

    nodes: int


Route = Same | InPlace | Replace | Grow | Shrink

# Calls: each is one mutation of the cloud. They are data; only ``daemon.operate`` hands them to a provider.


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a VM, keeping its disk."""

    target: Target


@dataclass(frozen=True, slots=True)
class Start:
    """Start a stopped VM."""

    target: Target


@dataclass(frozen=True, slots=True)
class Modify:
    """Change one aspect (``machine_type``, ``scheduling``, ``accelerators``) of a stopped VM towards an offer."""

    target: Target
    offer: Offer
    aspect: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a new VM of an offer from a recipe. ``name`` makes it findable before its id is known."""

    recipe: LaunchRecipe
    offer: Offer
    name: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """Delete a VM for good."""

    target: Target


@dataclass(frozen=True, slots=True)
class Resize:
    """Set a group's size. Absolute, so that saying it twice does no harm; never below the nodes that exist."""

    target: Target
    nodes: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Take named nodes out of a group, lowering its size by as many; those of a cluster are emptied before."""

    target: Target
    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """Take back the removal of nodes that are still there: let them take work again."""

    target: Target
    nodes: tuple[str, ...]


Call = Stop | Start | Modify | Launch | Terminate | Resize | Remove | Keep


@dataclass(frozen=True, slots=True)
class Operation:
    """The cloud's own handle on a call under way. ``made`` is the new target of a ``Launch``."""

    id: str
    provider: str
    state: Literal["running", "done", "failed"]
    error: str | None = None
    made: Target | None = None
