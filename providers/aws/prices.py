"""Edge: the offers of one region with their prices: those that are shipped, and fresh ones fetched from AWS."""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from providers.aws.client import Client
from providers.catalog import Catalog, region_of
from providers.clock import Clock
from providers.errors import Invalid
from providers.types import Buying, Offer, Price, Resources

PRICING_REGION = "us-east-1"
"""The price list is served in few regions; it holds the prices of all."""
SPOT_SYSTEMS = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")


class Shelf:
    """The offers of one region. ``refresh`` puts fresh prices in the place of old ones; sane ones only."""

    def __init__(self, catalog: Catalog, client: Client, prices: Client, clock: Clock) -> None:
        """Take the shipped catalog, the region's client, and one of the region where prices are served."""
        self._catalog = catalog
        self._client = client
        self._prices = prices
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def catalog(self) -> Catalog:
        """Give the catalog as it is now."""
        with self._lock:
            return self._catalog

    def offer(self, machine_type: str, zone: str, buying: Buying = "on_demand") -> Offer:
        """Find an offer in a zone. A type that is not in the catalog has no price and no known resources."""
        way = "" if buying == "on_demand" else f"@{buying}"
        try:
            return self.catalog.find(f"aws/{zone}/{machine_type}{way}")
        except Invalid:
            return Offer("aws", region_of(zone), machine_type, Resources(0, 0), None, zone, buying=buying)

    def around(self, zone: str, architecture: str) -> list[Offer]:
        """List the region's offers for an architecture: prices of the region stand for this zone."""
        catalog = self.catalog
        found: dict[str, Offer] = {}
        for offer in catalog.offers("aws", region_of(zone), architecture):
            placed = offer if offer.zone else replace(offer, zone=zone)
            if offer.zone or placed.id not in catalog.by_id:
                found[placed.id] = placed
        return list(found.values())

    def refresh(self) -> int:
        """Fetch on-demand and spot prices; count those taken. Raises what the first failing call raised."""
        now = self._clock.now()
        fresh = {**dict(self._on_demand()), **dict(self._spot(now))}
        with self._lock:
            before = self._catalog
            self._catalog = before.updated(fresh, now)
            return len(fresh) - len(self._catalog.refused)

    def _on_demand(self) -> Iterator[tuple[str, Price]]:
        filters = [
            {"Type": "TERM_MATCH", "Field": field, "Value": value}
            for field, value in (
                ("regionCode", self._client.region), ("operatingSystem", "Linux"), ("tenancy", "Shared"),
                ("preInstalledSw", "NA"), ("capacitystatus", "Used"),
            )
        ]  # fmt: skip
        pages = self._prices.pages(
            "pricing", "get_products", "PriceList", ServiceCode="AmazonEC2", FormatVersion="aws_v1", Filters=filters
        )
        for text in pages:
            product = json.loads(text)
            kind = product["product"]["attributes"].get("instanceType")
            for usd in _hourly(product):
                source = f"AWS price list, {product.get('publicationDate', 'no date')}"
                yield f"aws/{self._client.region}/{kind}", Price(usd, source, self._clock.now())

    def _spot(self, now: datetime) -> Iterator[tuple[str, Price]]:
        """Give the newest spot price of every type and zone, the cheapest system of the two names of Linux."""
        newest: dict[str, tuple[datetime, float]] = {}
        pages = self._client.pages(
            "ec2", "describe_spot_price_history", "SpotPriceHistory", StartTime=now - timedelta(hours=1),
            ProductDescriptions=list(SPOT_SYSTEMS),
        )  # fmt: skip
        for one in pages:
            offer = f"aws/{one['AvailabilityZone']}/{one['InstanceType']}@spot"
            at = one["Timestamp"] if one["Timestamp"].tzinfo else one["Timestamp"].replace(tzinfo=UTC)
            if offer not in newest or at > newest[offer][0]:
                newest[offer] = at, float(one["SpotPrice"])
        for offer, (at, usd) in newest.items():
            # A price that has not moved for days is still today's: it is dated by when it was read.
            yield offer, Price(usd, f"EC2 spot price history, set {at.isoformat(timespec='minutes')}", now)


def _hourly(product: Mapping[str, Any]) -> Iterator[float]:
    """Read the dollars an hour on demand of one product of the price list."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            if dimension.get("unit") == "Hrs":
                yield float(dimension["pricePerUnit"]["USD"])
