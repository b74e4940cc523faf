"""Edge: the offers of one cloud with their prices: those that are shipped, and fresh ones that were fetched."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from providers.catalog import Catalog, region_of
from providers.errors import Invalid
from providers.types import Buying, Offer, Price, Resources


class Shelf:
    """A catalog that many threads read, and that fresh prices may renew."""

    def __init__(self, provider: str, catalog: Catalog) -> None:
        self._provider = provider
        self._catalog = catalog
        self._lock = threading.Lock()

    @property
    def catalog(self) -> Catalog:
        """Give the catalog as it is now."""
        with self._lock:
            return self._catalog

    def offer(self, kind: str, zone: str, buying: Buying = "on_demand") -> Offer:
        """Find an offer in a zone; ``kind`` is a machine type, with ``+1xT4`` and the like for attached GPUs.

        One that is not in the catalog has no price and no known resources.
        """
        way = "" if buying == "on_demand" else f"@{buying}"
        try:
            return self.catalog.find(f"{self._provider}/{zone}/{kind}{way}")
        except Invalid:
            machine_type = kind.partition("+")[0]
            return Offer(self._provider, region_of(zone), machine_type, Resources(0, 0), None, zone, buying=buying)

    def around(self, zone: str, architecture: str = "x86_64") -> list[Offer]:
        """List the offers of a zone's region for an architecture: prices of the region stand for this zone."""
        catalog = self.catalog
        found: dict[str, Offer] = {}
        for offer in catalog.offers(self._provider, region_of(zone), architecture):
            placed = offer if offer.zone else replace(offer, zone=zone)
            if offer.zone or placed.id not in catalog.by_id:
                found[placed.id] = placed
        return list(found.values())

    def add(self, offers: Sequence[Offer]) -> None:
        """Take in offers of one node that are not known yet."""
        with self._lock:
            known = self._catalog
            self._catalog = replace(known, by_id={**{offer.id: offer for offer in offers}, **known.by_id})

    def renew(self, prices: Mapping[str, Price], now: datetime) -> int:
        """Take over fresh prices that are sane, and count them; old ones stay where there is none."""
        with self._lock:
            self._catalog = self._catalog.updated(prices, now)
            return len(prices) - len(self._catalog.refused)
