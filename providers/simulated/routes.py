"""Pure decisions: what a machine or group of a simulated cloud could become, and by which way."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from providers.catalog import with_nodes
from providers.errors import Incompatible, NoCapacity, QuotaExceeded
from providers.simulated import rules
from providers.simulated.state import Group, Machine
from providers.simulated.world import World
from providers.types import Grow, InPlace, Offer, Replace, Route, Same, Shrink, Target


def choices(world: World, target: Target) -> list[Offer]:
    """List what a target could become: every offer for a VM, every allowed size for a group."""
    if target.kind == "vm":
        world.machine(target)
        return list(world.offers.values())
    group = world.group(target)
    return [with_nodes(group.offer, n) for n in range(group.min_nodes, group.max_nodes + 1)]


def route(world: World, target: Target, offer: Offer) -> Route:
    """Find the way from what a target is to an offer, as ``Provider.route`` says."""
    if target.kind == "group":
        return _route_group(world, world.group(target), offer)
    machine = world.machine(target)
    if offer.id not in world.offers:
        raise Incompatible(f"machine {machine.id} cannot become {offer.id}: this cloud has no such offer")
    reason = rules.fixed(machine, offer, world.barriers)
    aspects = rules.missing(machine, offer)
    if not reason and not aspects:
        return Same()
    others = [m for m in world.machines.values() if reason or m.id != machine.id]
    _preflight(world, offer, others, 1)
    return Replace(reason) if reason else InPlace(aspects)


def _route_group(world: World, group: Group, offer: Offer) -> Route:
    if not group.min_nodes <= offer.nodes <= group.max_nodes:
        raise Incompatible(f"group {group.id} is bounded to {group.min_nodes}..{group.max_nodes} nodes")
    if with_nodes(group.offer, offer.nodes).id != offer.id:
        raise Incompatible(f"the nodes of group {group.id} are {group.offer.id} and stay so - take another count")
    if offer.nodes == group.wanted:
        return Same()
    if offer.nodes < group.wanted:
        return Shrink(group.wanted - offer.nodes)
    _preflight(world, group.offer, list(world.machines.values()), offer.nodes - group.wanted)
    return Grow(offer.nodes)


def _preflight(world: World, offer: Offer, machines: Sequence[Machine], nodes: int) -> None:
    if over := rules.over_quota(world.quotas.values(), machines, world.own(offer), nodes):
        raise QuotaExceeded(f"{over} - ask the cloud for more or take a smaller offer")
    if any(s.announced and fnmatchcase(offer.id, s.offers) for s in world.shortages):
        raise NoCapacity(f"no capacity for {offer.id} now - try another offer or later")
