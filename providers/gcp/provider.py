"""Edge: Google Cloud as a ``Provider``: Compute Engine instances and zonal managed instance groups of one project."""

from collections.abc import Mapping, Sequence
from typing import assert_never

from providers import catalog
from providers.base import Provider
from providers.budget import Budget
from providers.catalog import Catalog
from providers.clock import SystemClock
from providers.errors import Invalid
from providers.gcp.client import Client
from providers.gcp.group import Groups
from providers.gcp.handle import read
from providers.gcp.vm import Vms
from providers.shelf import Shelf
from providers.types import (
    Allocation,
    Call,
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

MOST_NODES = 32
_OPTIONS = ("project", "endpoint", "most_nodes")


class Gcp:
    """A ``Provider`` with ``Inventory``. Its methods follow the laws written there."""

    def __init__(self, name: str, client: Client, known: Catalog, most_nodes: int = MOST_NODES) -> None:
        """Take the project's client, the shipped catalog, and how many nodes a group may have at most."""
        self.name = name
        shelf = Shelf("gcp", known)
        self._vms = Vms(name, client, shelf)
        self._groups = Groups(name, client, shelf, most_nodes)

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
                return self._groups.resize(call, token)
            case Remove():
                return self._groups.remove(call, token)
            case _:
                assert_never(call)

    def poll(self, operation: Operation) -> Operation:
        """Ask how an operation stands."""
        group = read(operation).call in ("resize", "remove")
        return self._groups.poll(operation) if group else self._vms.poll(operation)

    def labelled(self, key: str, value: str | None = None) -> Sequence[Allocation]:
        """List what carries a label, members of groups left out; a group's labels are its template's."""
        return [*self._vms.labelled(key, value), *self._groups.labelled(key, value)]

    def _of(self, target: Target) -> Vms | Groups:
        return self._groups if target.kind == "group" else self._vms


def connect(name: str, options: Mapping[str, object]) -> Provider:
    """Make the provider from its options: ``project``, and if wanted ``most_nodes`` and ``endpoint``.

    Credentials are the application default ones. ``endpoint`` is the address of an emulator. Raises ``Invalid``.
    """
    strange = sorted(set(options) - set(_OPTIONS))
    if strange:
        raise Invalid(f"provider {name!r} has no option {', '.join(strange)} - it has {', '.join(_OPTIONS)}")
    project, endpoint, most = options.get("project"), options.get("endpoint"), options.get("most_nodes", MOST_NODES)
    if not isinstance(project, str) or not project:
        raise Invalid(f"provider {name!r} needs project, the id of a Google Cloud project")
    if endpoint is not None and not isinstance(endpoint, str):
        raise Invalid(f"the endpoint of provider {name!r} is an address, such as http://127.0.0.1:4590")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise Invalid(f"most_nodes of provider {name!r} is a whole number from 1 on")
    return Gcp(name, Client(project, Budget(SystemClock()), endpoint), catalog.load(), most)
