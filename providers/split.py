"""Edge: a provider made of parts: one that serves VMs, one that serves groups, and where there is one, pools."""

from collections.abc import Sequence
from typing import Protocol, assert_never

from providers.errors import Invalid
from providers.types import (
    Allocation,
    Call,
    Keep,
    Launch,
    Modify,
    Offer,
    Operation,
    Remove,
    Resize,
    Route,
    Start,
    Stop,
    Target,
    Terminate,
)


class _Reads(Protocol):
    """What both parts answer, by the laws of ``providers.base``."""

    def describe(self, target: Target) -> Allocation: ...
    def offers(self, target: Target) -> Sequence[Offer]: ...
    def route(self, target: Target, offer: Offer) -> Route: ...
    def labelled(self, key: str, value: str | None) -> Sequence[Allocation]: ...
    def poll(self, operation: Operation) -> Operation: ...


class VmPart(_Reads, Protocol):
    """What serves VMs."""

    def stop(self, target: Target, token: str) -> Operation: ...
    def start(self, target: Target, token: str) -> Operation: ...
    def modify(self, call: Modify, token: str) -> Operation: ...
    def launch(self, call: Launch, token: str) -> Operation: ...
    def terminate(self, target: Target, token: str) -> Operation: ...


class GroupPart(_Reads, Protocol):
    """What serves groups. The id of an operation of its own begins with ``resize`` or ``remove`` and a bar."""

    def resize(self, call: Resize, token: str) -> Operation: ...
    def remove(self, call: Remove, token: str) -> Operation: ...


class PoolPart(GroupPart, Protocol):
    """What serves groups of a cluster's nodes. The id of an operation of its own begins with ``pool-``."""

    def keep(self, call: Keep, token: str) -> Operation: ...


class Split:
    """A ``Provider`` with ``Inventory`` that hands each question to the part that serves it."""

    def __init__(self, name: str, vms: VmPart, groups: GroupPart, pools: PoolPart | None = None) -> None:
        self.name = name
        self._vms = vms
        self._groups = groups
        self._pools = pools

    def describe(self, target: Target) -> Allocation:
        """Say what the target is now."""
        return self._of(target).describe(target)

    def offers(self, target: Target) -> Sequence[Offer]:
        """List what this target could become."""
        return self._of(target).offers(target)

    def route(self, current: Allocation, offer: Offer) -> Route:
        """Find the way to an offer, from what the target truly is now."""
        return self._of(current.target).route(current.target, offer)

    def perform(self, call: Call, token: str) -> Operation:
        """Make one mutation."""
        match call:
            case Stop(target):
                return self._vms.stop(target, token)
            case Start(target):
                return self._vms.start(target, token)
            case Modify():
                return self._vms.modify(call, token)
            case Launch():
                return self._vms.launch(call, token)
            case Terminate(target):
                return self._vms.terminate(target, token)
            case Resize():
                return self._sized(call.target).resize(call, token)
            case Remove():
                return self._sized(call.target).remove(call, token)
            case Keep():
                return self._pools_of(call.target).keep(call, token)
            case _:
                assert_never(call)

    def poll(self, operation: Operation) -> Operation:
        """Ask how an operation stands."""
        if self._pools is not None and operation.id.startswith("pool-"):
            return self._pools.poll(operation)
        part = self._groups if operation.id.startswith(("resize|", "remove|")) else self._vms
        return part.poll(operation)

    def labelled(self, key: str, value: str | None = None) -> Sequence[Allocation]:
        """List what carries a label, members of groups left out."""
        pools = [] if self._pools is None else self._pools.labelled(key, value)
        return [*self._vms.labelled(key, value), *self._groups.labelled(key, value), *pools]

    def _of(self, target: Target) -> VmPart | GroupPart:
        return self._vms if target.kind == "vm" else self._sized(target)

    def _sized(self, target: Target) -> GroupPart:
        return self._groups if target.kind == "group" else self._pools_of(target)

    def _pools_of(self, target: Target) -> PoolPart:
        if self._pools is None or target.kind != "pool":
            raise Invalid(f"provider {self.name} serves no node pool {target.id!r} of kind {target.kind}")
        return self._pools
