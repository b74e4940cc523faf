"""Edge: Amazon Web Services as a ``Provider``: EC2 instances, Auto Scaling groups and EKS node groups of a region."""

from collections.abc import Mapping, Sequence

from providers import catalog
from providers.aws.client import Client
from providers.aws.facts import Facts
from providers.aws.group import Groups
from providers.aws.permissions import Permissions
from providers.aws.pool import Pools
from providers.aws.prices import PRICING_REGION, Prices
from providers.aws.scaling import Scaling
from providers.aws.vm import Vms
from providers.base import Provider, Subject
from providers.budget import Budget
from providers.catalog import Catalog
from providers.clock import Clock, SystemClock
from providers.errors import Incompatible, Invalid
from providers.kubernetes import Clusters
from providers.shelf import Shelf
from providers.split import Split
from providers.types import Offer

_TEXTS = ("region", "endpoint", "profile", "kubeconfig")
_OPTIONS = (*_TEXTS, "contexts")


class Aws(Split):
    """A ``Provider`` with ``Inventory``, ``Priced``, ``Permitted`` and ``Launching``, by the laws written there."""

    def __init__(
        self, name: str, client: Client, prices: Client, known: Catalog, clock: Clock, clusters: Clusters | None = None
    ) -> None:
        """Take clients of the region and of where prices are served, the shipped catalog, and the clock.

        ``clusters`` are those of its node groups that may be asked; nodes of others are ended without being emptied.
        """
        self._shelf = Shelf("aws", known)
        self._prices = Prices(client, prices, clock)
        self._permissions = Permissions(client, prices)
        self._clock = clock
        self._region = client.region
        self._facts = facts = Facts(client, clock)
        scaling = Scaling(client, self._shelf)
        pools = Pools(name, client, facts, scaling, clusters or Clusters(None, {}, Budget(clock), clock), clock)
        vms, groups = Vms(name, client, facts, self._shelf), Groups(name, client, facts, scaling, clock)
        super().__init__(name, vms, groups, pools)

    def lacking(self, subjects: Sequence[Subject]) -> list[str]:
        """Name the permissions that the credentials lack, as far as AWS tells without doing anything."""
        return self._permissions.lacking(subjects)

    def serves(self, offer: Offer) -> bool:
        """Say whether an offer is AWS's, of this region."""
        return (offer.provider, offer.region) == ("aws", self._region)

    def around(self, place: str) -> list[Offer]:
        """List the offers of a zone's region that an instance launched there could be."""
        return self._shelf.around(place)

    def room(self, offer: Offer) -> None:
        """Check that the type is on sale in the offer's zone, and that the quota leaves room for one more."""
        if offer.zone and not self._facts.offered(offer.machine_type, offer.zone):
            raise Incompatible(f"{offer.machine_type} is not on sale in {offer.zone}")
        self._facts.check_quota(offer.machine_type, offer.buying, 1)

    def refresh_prices(self) -> int:
        """Fetch on-demand and spot prices and say how many were accepted."""
        return self._shelf.renew(self._prices.fetch(), self._clock.now())


def connect(name: str, options: Mapping[str, object]) -> Provider:
    """Make the provider from its options: ``region``, and if wanted ``profile``, ``endpoint`` and ``kubeconfig``.

    ``contexts`` names the kubeconfig's context of a cluster where that has neither its name nor its ARN. Credentials
    come the ways the AWS SDK knows: environment, shared files, or the role of the machine. ``endpoint`` is the address
    of an emulator. Raises ``Invalid`` for anything else.
    """
    strange = sorted(set(options) - set(_OPTIONS))
    if strange:
        raise Invalid(f"provider {name!r} has no option {', '.join(strange)} - it has {', '.join(_OPTIONS)}")
    told = {key: options[key] for key in _TEXTS if options.get(key) is not None}
    contexts = options.get("contexts") or {}
    if not isinstance(contexts, dict) or not all(isinstance(one, str) for pair in contexts.items() for one in pair):
        raise Invalid(f"contexts of provider {name!r} gives for a cluster's name the name of its context")
    if contexts and "kubeconfig" not in told:
        raise Invalid(f"provider {name!r} has contexts and no kubeconfig that holds them - name that file")
    if not all(isinstance(value, str) and value for value in told.values()) or "region" not in told:
        raise Invalid(f"provider {name!r} needs region, a text such as us-east-1")
    texts = {key: str(value) for key, value in told.items()}
    clock = SystemClock()
    budget = Budget(clock)
    credentials = {"profile_name": texts["profile"]} if "profile" in texts else {}
    endpoint = texts.get("endpoint")
    client = Client(texts["region"], budget, endpoint, credentials)
    prices = Client(PRICING_REGION, budget, endpoint, credentials)
    clusters = Clusters(texts.get("kubeconfig"), contexts, budget, clock)
    return Aws(name, client, prices, catalog.load(), clock, clusters)
