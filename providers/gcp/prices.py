"""Edge: prices fetched from the public catalog of Cloud Billing, composed to whole machines.

The catalog has no price of a machine type: it has one of a vCPU, of a GiB of memory and of a GPU, each of a family, in
a region, on demand and on spot ("SKUs", known by their descriptions). What is missing there has no fresh price and
keeps the one it had. So do machines that come with local SSDs, which are priced apart.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from providers.catalog import Catalog
from providers.clock import Clock
from providers.gcp import rules
from providers.gcp.client import Client
from providers.gcp.rules import Answer
from providers.types import Offer, Price, Resources

COMPUTE_ENGINE = "services/6F81-5844-456A"
SOURCE = "Cloud Billing catalog, summed from SKUs"
FAMILIES: Mapping[str, str] = {
    "n1": "N1 Predefined Instance", "n2": "N2 Instance", "n2d": "N2D AMD Instance", "n4": "N4 Instance",
    "e2": "E2 Instance", "c2": "Compute optimized", "c2d": "C2D AMD Instance", "c3": "C3 Instance",
    "c3d": "C3D Instance", "c4": "C4 Instance", "t2d": "T2D AMD Instance", "t2a": "T2A Arm Instance",
    "a2": "A2 Instance", "g2": "G2 Instance",
}  # fmt: skip
CUSTOM: Mapping[str, str] = {
    "n1": "Custom Instance", "n2": "N2 Custom Instance", "n2d": "N2D AMD Custom Instance", "e2": "E2 Custom Instance",
}  # fmt: skip
GPUS: Mapping[str, str] = {
    "T4": "Nvidia Tesla T4 GPU", "P4": "Nvidia Tesla P4 GPU", "P100": "Nvidia Tesla P100 GPU",
    "V100": "Nvidia Tesla V100 GPU", "A100-40GB": "Nvidia Tesla A100 GPU", "L4": "Nvidia L4 GPU",
}  # fmt: skip
WHOLE: Mapping[str, str] = {"a4": "A4 Nvidia B200 (1 gpu slice)"}
"""Families whose price of a GPU covers its share of the whole machine."""
SHAPES = tuple((cpus, gib) for cpus in (4, 8, 16, 32) for gib in (2, 6))
"""Custom machines that are offered where they have a price: vCPUs, and GiB a vCPU between those of the predefined."""
_LOCAL_SSD = re.compile(r"a2-ultragpu-.*|a3-.*|.*-lssd|z3-.*")
_SPOT, _ATTACHED_SPOT = "Spot Preemptible ", " attached to Spot Preemptible VMs"

Parts = Mapping[tuple[str, str, bool], float]
"""Dollars an hour of a vCPU, a GiB or a GPU: by region, what the SKU is of, and whether on spot."""


class Prices:
    """Fetches the prices of all regions that the catalog of offers knows."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def fetch(self, known: Catalog) -> tuple[list[Offer], dict[str, Price]]:
        """Fetch on-demand and spot prices by offer id, and the custom machines among them. Raises what the read did."""
        pages = self._client.pages("billing", "list_skus", parent=COMPUTE_ENGINE, currency_code="USD", page_size=5000)
        parts = dict(one for sku in pages for one in _read(sku))
        ours = [one for one in known.by_id.values() if one.provider == "gcp" and one.buying == "on_demand"]
        customs = list(_customs({one.region for one in ours}))
        now = self._clock.now()
        found = {one.id: price for offer in (*ours, *customs) for one, price in _composed(offer, parts, now)}
        return [one for one in customs if one.id in found], found


def _composed(offer: Offer, parts: Parts, now: datetime) -> Iterator[tuple[Offer, Price]]:
    """Give the offer on demand and on spot, each with its price where all its parts have one."""
    for spot in (False, True):
        usd = total(offer, parts, spot)
        if usd is not None:
            yield replace(offer, buying="spot" if spot else "on_demand", price=None), Price(usd, SOURCE, now)


def total(offer: Offer, parts: Parts, spot: bool) -> float | None:
    """Sum up dollars an hour of one machine; ``None`` where the price of a part is not known."""
    has, family = offer.resources, rules.family(offer.machine_type)
    if _LOCAL_SSD.fullmatch(offer.machine_type):
        return None
    if family in WHOLE:
        needs = {WHOLE[family]: float(has.gpus)}
    else:
        prefix = (CUSTOM if rules.custom(offer.machine_type) else FAMILIES).get(family, "")
        needs = {f"{prefix} Core": has.cpu_cores, f"{prefix} Ram": has.memory_gib}
        if has.gpus:
            needs[GPUS.get(has.gpu_model or "", "")] = float(has.gpus)
    prices = [(parts.get((offer.region, what, spot)), amount) for what, amount in needs.items()]
    known = [(each, amount) for each, amount in prices if each is not None]
    return round(sum(each * amount for each, amount in known), 9) if len(known) == len(prices) else None


def _customs(regions: set[str]) -> Iterator[Offer]:
    for region in sorted(regions):
        for family in CUSTOM:
            for cpus, gib in SHAPES:
                kind = f"{'' if family == 'n1' else family + '-'}custom-{cpus}-{cpus * gib * 1024}"
                yield Offer("gcp", region, kind, Resources(float(cpus), float(cpus * gib)), None)


def _read(sku: Answer) -> Iterator[tuple[tuple[str, str, bool], float]]:
    """Read what a SKU is of and its price, in each of its regions. Commitments and what is not by the hour are none."""
    spot = str(sku.category.usage_type) == "Preemptible"
    if not spot and str(sku.category.usage_type) != "OnDemand":
        return
    what, running, _ = str(sku.description).partition(" running in ")
    what = what.removeprefix(_SPOT).removesuffix(_ATTACHED_SPOT) if spot else what
    usd = _usd(sku)
    if running and usd is not None:
        yield from (((str(region), what, spot), usd) for region in sku.service_regions)


def _usd(sku: Answer) -> float | None:
    """Read the dollars an hour: of the last tier that is not free. A price of 0 is none."""
    if not sku.pricing_info:
        return None
    expression = sku.pricing_info[-1].pricing_expression
    if str(expression.usage_unit) not in ("h", "GiBy.h"):
        return None
    rates = [rate.unit_price.units + rate.unit_price.nanos / 1e9 for rate in expression.tiered_rates]
    return next((rate for rate in reversed(rates) if rate > 0), None)
