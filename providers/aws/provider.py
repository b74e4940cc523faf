"""Edge: Amazon Web Services as a ``Provider``: EC2 instances and Auto Scaling groups of one account and region."""

from collections.abc import Mapping, Sequence
from typing import assert_never

from providers import catalog
from providers.aws.client import Client
from providers.aws.facts import Facts
from providers.aws.group import Groups
from providers.aws.handle import read
from providers.aws.prices import PRICING_REGION, Prices
from providers.aws.vm import Vms
from providers.base import Provider
from providers.budget import Budget
from providers.catalog import Catalog
from providers.clock import Clock, SystemClock
from providers.errors import Invalid
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

_OPTIONS = ("region", "endpoint", "profile")


class Aws:
    """A ``Provider`` with ``Inventory`` and ``Priced``. Its methods follow the laws written there."""

    def __init__(self, name: str, client: Client, prices: Client, known: Catalog, clock: Clock) -> None:
        """Take clients of the region and of where prices are served, the shipped catalog, and the clock."""
        self.name = name
        self._shelf = Shelf("aws", known)
        self._prices = Prices(client, prices, clock)
        self._clock = clock
        facts = Facts(client, clock)
        self._vms = Vms(name, client, facts, self._shelf)
        self._groups = Groups(name, client, facts, self._shelf, clock)

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
        """List what carries a tag, terminated instances and members of groups left out."""
        return [*self._vms.labelled(key, value), *self._groups.labelled(key, value)]

    def refresh_prices(self) -> int:
        """Fetch on-demand and spot prices and say how many were accepted."""
        return self._shelf.renew(self._prices.fetch(), self._clock.now())

    def _of(self, target: Target) -> Vms | Groups:
        return self._groups if target.kind == "group" else self._vms


def connect(name: str, options: Mapping[str, object]) -> Provider:
    """Make the provider from its options: ``region``, and if wanted ``profile`` and ``endpoint``.

    Credentials come the ways the AWS SDK knows: environment, shared files, or the role of the machine. ``endpoint`` is
    the address of an emulator. Raises ``Invalid`` for anything else.
    """
    strange = sorted(set(options) - set(_OPTIONS))
    if strange:
        raise Invalid(f"provider {name!r} has no option {', '.join(strange)} - it has {', '.join(_OPTIONS)}")
    told = {key: value for key, value in options.items() if value is not None}
    if not all(isinstance(value, str) and value for value in told.values()) or "region" not in told:
        raise Invalid(f"provider {name!r} needs region, a text such as us-east-1")
    texts = {key: str(value) for key, value in told.items()}
    clock = SystemClock()
    budget = Budget(clock)
    credentials = {"profile_name": texts["profile"]} if "profile" in texts else {}
    endpoint = texts.get("endpoint")
    client = Client(texts["region"], budget, endpoint, credentials)
    prices = Client(PRICING_REGION, budget, endpoint, credentials)
    return Aws(name, client, prices, catalog.load(), clock)
