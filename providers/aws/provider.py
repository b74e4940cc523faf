"""Edge: Amazon Web Services as a ``Provider``: EC2 instances and Auto Scaling groups of one account and region."""

from collections.abc import Mapping

from providers import catalog
from providers.aws.client import Client
from providers.aws.facts import Facts
from providers.aws.group import Groups
from providers.aws.prices import PRICING_REGION, Prices
from providers.aws.vm import Vms
from providers.base import Provider
from providers.budget import Budget
from providers.catalog import Catalog
from providers.clock import Clock, SystemClock
from providers.errors import Invalid
from providers.shelf import Shelf
from providers.split import Split

_OPTIONS = ("region", "endpoint", "profile")


class Aws(Split):
    """A ``Provider`` with ``Inventory`` and ``Priced``. Its methods follow the laws written there."""

    def __init__(self, name: str, client: Client, prices: Client, known: Catalog, clock: Clock) -> None:
        """Take clients of the region and of where prices are served, the shipped catalog, and the clock."""
        self._shelf = Shelf("aws", known)
        self._prices = Prices(client, prices, clock)
        self._clock = clock
        facts = Facts(client, clock)
        vms = Vms(name, client, facts, self._shelf)
        super().__init__(name, vms, Groups(name, client, facts, self._shelf, clock))

    def refresh_prices(self) -> int:
        """Fetch on-demand and spot prices and say how many were accepted."""
        return self._shelf.renew(self._prices.fetch(), self._clock.now())


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
