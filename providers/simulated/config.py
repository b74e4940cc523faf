"""Values: how a simulated cloud is configured, as JSON or as options, and how it is built from that."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from providers import catalog
from providers.clock import Clock
from providers.errors import Invalid
from providers.simulated import wire
from providers.simulated.cloud import Cloud
from providers.simulated.state import Barrier, Delays, Fault, Quota, Shortage
from providers.types import Offer


@dataclass(frozen=True, slots=True)
class Vm:
    """A machine that is there and runs when the cloud begins. ``place`` is that of its offer."""

    id: str
    offer: str
    labels: Mapping[str, str] = field(default_factory=dict)
    template: str = ""


@dataclass(frozen=True, slots=True)
class Nodes:
    """A group that is there and runs when the cloud begins; ``offer`` is that of one node."""

    id: str
    offer: str
    nodes: int
    min_nodes: int = 1
    max_nodes: int = 16
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setup:
    """A whole cloud. ``offers`` holds ids and globs of the price catalog, and offers of one's own, written out."""

    offers: tuple[str | Offer, ...]
    seed: int = 0
    delays: Delays = field(default_factory=Delays)
    vms: tuple[Vm, ...] = ()
    groups: tuple[Nodes, ...] = ()
    quotas: tuple[Quota, ...] = ()
    barriers: tuple[Barrier, ...] = ()
    shortages: tuple[Shortage, ...] = ()
    faults: tuple[Fault, ...] = ()
    state_path: str | None = None


def resolve(named: Iterable[str | Offer]) -> list[Offer]:
    """Find offers in the price catalog by id or glob; those written out are taken as they are.

    Raises ``Invalid`` for an id or glob that nothing matches.
    """
    known = catalog.load()
    found: dict[str, Offer] = {}
    for one in named:
        if isinstance(one, Offer):
            found[one.id] = one
        elif "*" in one or "?" in one:
            hits = {offer.id: offer for offer in known.by_id.values() if fnmatchcase(offer.id, one)}
            if not hits:
                raise Invalid(f"no offer of the catalog matches {one!r} - `scaleahead prices show` lists what there is")
            found |= hits
        else:
            found[one] = known.find(one)
    return list(found.values())


def read(options: object) -> Setup:
    """Read a configuration. Raises ``Invalid`` that names the field."""
    setup: Setup = wire.decode(Setup, options)
    return setup


def build(name: str, setup: Setup, clock: Clock) -> Cloud:
    """Make a cloud with everything that its configuration sets up. What its state file knows already is kept."""
    path = Path(setup.state_path) if setup.state_path else None
    cloud = Cloud(clock, resolve(setup.offers), setup.seed, setup.delays, path, name)
    for vm in setup.vms:
        cloud.add_machine(vm.id, vm.offer, vm.labels, vm.template)
    for group in setup.groups:
        cloud.add_group(group.id, group.offer, group.nodes, (group.min_nodes, group.max_nodes), group.labels)
    for quota in setup.quotas:
        cloud.quota(quota)
    for barrier in setup.barriers:
        cloud.barrier(barrier)
    _script(cloud, setup.shortages, setup.faults)
    return cloud


def _script(cloud: Cloud, shortages: Sequence[Shortage], faults: Sequence[Fault]) -> None:
    for shortage in shortages:
        cloud.shortage(shortage)
    for fault in faults:
        cloud.fault(fault)
