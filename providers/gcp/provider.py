"""Edge: Google Cloud as a ``Provider``: instances, managed instance groups and GKE node pools of one project."""

from collections.abc import Mapping, Sequence

from providers import catalog
from providers.base import Provider, Subject
from providers.budget import Budget
from providers.catalog import Catalog
from providers.clock import Clock, SystemClock
from providers.errors import Invalid
from providers.gcp.client import Client
from providers.gcp.facts import Facts
from providers.gcp.group import Groups
from providers.gcp.permissions import Permissions
from providers.gcp.pool import Pools
from providers.gcp.prices import Prices
from providers.gcp.scaling import Scaling
from providers.gcp.vm import Vms
from providers.kubernetes import Clusters
from providers.shelf import Shelf
from providers.split import Split
from providers.types import Offer

MOST_NODES = 32
_TEXTS = ("project", "endpoint", "kubeconfig")
_OPTIONS = (*_TEXTS, "contexts", "most_nodes")


class Gcp(Split):
    """A ``Provider`` with ``Inventory``, ``Permitted``, ``Bounded``, ``Launching`` and ``Priced``."""

    def __init__(
        self,
        name: str,
        client: Client,
        known: Catalog,
        most_nodes: int = MOST_NODES,
        clusters: Clusters | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take the project's client, the shipped catalog, and how many nodes a group or pool may have at most.

        ``clusters`` are those of its node pools that may be asked; nodes of others are deleted without being emptied.
        """
        self._clock = clock or SystemClock()
        self._permissions, self._prices = Permissions(client), Prices(client, self._clock)
        self._shelf = shelf = Shelf("gcp", known)
        self._facts = facts = Facts(client)
        scaling = Scaling(client, shelf)
        clusters = clusters or Clusters(None, {}, Budget(self._clock), self._clock)
        vms, groups = Vms(name, client, facts, shelf), Groups(name, facts, scaling, most_nodes)
        super().__init__(name, vms, groups, Pools(name, client, shelf, facts, scaling, clusters, most_nodes))

    def lacking(self, subjects: Sequence[Subject]) -> list[str]:
        """Name the permissions that the credentials lack, as far as Google tells without doing anything."""
        return self._permissions.lacking(subjects)

    def excess(self) -> list[str]:
        """Name the permissions that the credentials had better not have."""
        return self._permissions.excess()

    def serves(self, offer: Offer) -> bool:
        """Say whether an offer is Google Cloud's."""
        return offer.provider == "gcp"

    def around(self, place: str) -> list[Offer]:
        """List the offers of a zone's region that a machine launched there could be."""
        return self._shelf.around(place)

    def room(self, offer: Offer) -> None:
        """Check that the zone has the machine type, and that the quotas leave room for one more."""
        if offer.zone is None:
            raise Invalid(f"{offer.id} names no zone - an instance is launched in one")
        self._facts.check(offer, offer.zone)

    def refresh_prices(self) -> int:
        """Fetch on-demand and spot prices and say how many were accepted."""
        made, prices = self._prices.fetch(self._shelf.catalog)
        self._shelf.add(made)
        return self._shelf.renew(prices, self._clock.now())


def connect(name: str, options: Mapping[str, object]) -> Provider:
    """Make the provider from its options: ``project``, and if wanted ``most_nodes``, ``endpoint`` and ``kubeconfig``.

    ``contexts`` names the kubeconfig's context of a cluster where that has another name. Credentials are the
    application default ones. ``endpoint`` is the address of an emulator. Raises ``Invalid``.
    """
    strange = sorted(set(options) - set(_OPTIONS))
    if strange:
        raise Invalid(f"provider {name!r} has no option {', '.join(strange)} - it has {', '.join(_OPTIONS)}")
    texts = {key: options[key] for key in _TEXTS if options.get(key) is not None}
    most, contexts = options.get("most_nodes", MOST_NODES), options.get("contexts") or {}
    for key, value in texts.items():
        if not isinstance(value, str) or not value:
            raise Invalid(f"{key} of provider {name!r} is a text, not {value!r}")
    if "project" not in texts:
        raise Invalid(f"provider {name!r} needs project, the id of a Google Cloud project")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise Invalid(f"most_nodes of provider {name!r} is a whole number from 1 on")
    if not isinstance(contexts, dict) or not all(isinstance(one, str) for pair in contexts.items() for one in pair):
        raise Invalid(f"contexts of provider {name!r} gives for a cluster's name the name of its context")
    if contexts and "kubeconfig" not in texts:
        raise Invalid(f"provider {name!r} has contexts and no kubeconfig that holds them - name that file")
    told = {key: str(value) for key, value in texts.items()}
    clock = SystemClock()
    budget = Budget(clock)
    clusters = Clusters(told.get("kubeconfig"), contexts, budget, clock)
    return Gcp(name, Client(told["project"], budget, told.get("endpoint")), catalog.load(), most, clusters, clock)
