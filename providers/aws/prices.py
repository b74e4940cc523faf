"""Edge: prices fetched from AWS: the price list, and the history of spot prices."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from providers.aws.client import Client
from providers.clock import Clock
from providers.types import Price

PRICING_REGION = "us-east-1"
"""The price list is served in few regions; it holds the prices of all."""
SPOT_SYSTEMS = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")


class Prices:
    """Fetches the prices of one region. ``prices`` is a client of the region in which the price list is served."""

    def __init__(self, client: Client, prices: Client, clock: Clock) -> None:
        self._client = client
        self._prices = prices
        self._clock = clock

    def fetch(self) -> dict[str, Price]:
        """Fetch on-demand and spot prices by offer id. Raises what the first failing call raised."""
        return {**dict(self._on_demand()), **dict(self._spot(self._clock.now()))}

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
