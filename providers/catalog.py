"""Pure decisions: which offers exist, what they cost, and which prices are to be believed.

One function is an edge: ``load`` reads the dated tables of ``providers/prices``, once, at start.
"""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from providers.errors import Invalid
from providers.types import Offer, Price, Resources

DEAREST_JUMP = 3.0
CHEAPEST_JUMP = 0.33
# AWS holds an illiquid pool at a tenth of on-demand; a hair above it allows for rounding.
SPOT_FLOOR = 0.101
# No cloud sells spot at so small a share of on-demand: such a figure is a mistake.
SPOT_LEAST = 0.02

_SPOT = "@spot"

_ID = re.compile(
    r"(?P<provider>[^/]+)/(?P<place>[^/]+)/(?:(?P<nodes>[1-9][0-9]*)x )?(?P<kind>[^/]+)",
)
_REGION_OF_ZONE = re.compile(r"(?P<region>[a-z]+(?:-[a-z]+)+-?[0-9]+)(?:-[a-z]+-[0-9]+)?-?[a-z]")


@dataclass(frozen=True, slots=True)
class Catalog:
    """The known offers of one node each, by id, in the order of the tables.

    ``architectures`` names the processor of a machine type where it is not x86-64. ``refused`` says, by offer id, why
    prices of the last ``updated`` were not taken.
    """

    by_id: Mapping[str, Offer]
    architectures: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def offers(
        self, provider: str | None = None, region: str | None = None, architecture: str = "x86_64"
    ) -> tuple[Offer, ...]:
        """List the offers of a provider and region, on-demand and spot, those without a sourced price included."""
        return tuple(
            offer
            for offer in self.by_id.values()
            if (provider is None or offer.provider == provider)
            and (region is None or offer.region == region)
            and self.architectures.get(offer.machine_type, "x86_64") == architecture
        )

    def find(self, offer_id: str) -> Offer:
        """Find an offer by id, also for a count of nodes (``2x``, at so many times the price) and in a zone.

        Raises ``Invalid`` when the catalog does not have it.
        """
        known = self.by_id.get(offer_id)
        if known is not None:
            return known
        parts = _ID.fullmatch(offer_id)
        if parts is None:
            raise Invalid(f"{offer_id!r} is not an offer id - write provider/place/[Nx ]type[+KxGPU][@spot]")
        provider, place, kind = parts["provider"], parts["place"], parts["kind"]
        nodes = int(parts["nodes"] or 1)
        for where in (place, region_of(place)):
            known = self.by_id.get(f"{provider}/{where}/{kind}")
            if known is not None:
                return with_nodes(known if where == place else replace(known, zone=place), nodes)
        raise Invalid(f"no offer {offer_id!r} in the catalog - `scaleahead prices show` lists what there is")

    def on_demand(self, offer: Offer) -> float | None:
        """Find what an offer would cost bought on demand, all its nodes together, or ``None`` if that is not known."""
        sibling = self.by_id.get(replace(offer, nodes=1, zone=None, buying="on_demand", price=None).id)
        return None if sibling is None or sibling.price is None else sibling.price.usd_per_hour * offer.nodes

    def fault(self, offer: Offer, now: datetime, max_age_hours: float) -> str | None:
        """Say why this offer's price must not be used, compared with its on-demand price too, or ``None``."""
        return price_fault(offer, now, max_age_hours, on_demand=self.on_demand(offer))

    def updated(self, prices: Mapping[str, Price], now: datetime) -> "Catalog":
        """Take over fetched prices of single nodes that are sane; ``refused`` of the new catalog lists the others.

        A price is refused when it is absurd in itself, beyond a threefold jump from the one known, or, for spot, dearer
        than on-demand. On-demand prices are looked at first, so that spot is compared with the fresh ones. A spot or
        zone price of a type known in the region makes a new offer.
        """
        offers = dict(self.by_id)
        refused: dict[str, str] = {}
        fresh = Catalog(offers, self.architectures, refused)
        for offer_id in sorted(prices, key=lambda name: name.endswith(_SPOT)):
            try:
                known = fresh._single(offer_id)
            except Invalid as error:
                refused[offer_id] = str(error)
                continue
            offer = replace(known, price=prices[offer_id])
            on_demand = fresh.on_demand(offer)
            previous = known.price.usd_per_hour if known.price else None
            fault = price_fault(offer, now, math.inf, previous=previous, on_demand=on_demand)
            if fault:
                refused[offer_id] = fault
            else:
                offers[offer_id] = _marked(offer, on_demand)
        return fresh

    def _single(self, offer_id: str) -> Offer:
        """Find the offer of one node that a fetched price belongs to, made from its on-demand one if it is new."""
        if offer_id in self.by_id:
            return self.by_id[offer_id]
        model = self.find(offer_id.removesuffix(_SPOT))
        if model.nodes > 1:
            raise Invalid(f"{offer_id!r} counts several nodes - give the price of one")
        return replace(model, buying="spot" if offer_id.endswith(_SPOT) else "on_demand", price=None)


def region_of(place: str) -> str:
    """Find the region of a zone name of either cloud; a region, or a place of unknown form, is returned as it is."""
    zone = _REGION_OF_ZONE.fullmatch(place)
    return zone["region"] if zone else place


def with_nodes(offer: Offer, nodes: int) -> Offer:
    """Make the same offer for another count of nodes, its price in proportion. Raises ``ValueError`` below one."""
    if nodes < 1:
        raise ValueError(f"an offer needs at least 1 node, not {nodes}")
    if nodes == offer.nodes:
        return offer
    price = offer.price
    if price is not None:
        price = replace(price, usd_per_hour=price.usd_per_hour / offer.nodes * nodes)
    return replace(offer, nodes=nodes, price=price)


def glob_match(pattern: str, offer_id: str) -> bool:
    """Say whether a glob of a policy matches an offer, whatever its count of nodes and whether region or zone is named.

    ``*`` also crosses ``/``: ``*/p5*`` matches ``aws/us-east-1/2x p5.48xlarge``, and ``aws/us-east-1/*`` matches
    ``aws/us-east-1a/p5.48xlarge``.
    """
    return any(fnmatchcase(name, pattern) for name in _names(offer_id))


def overlay(offer: Offer, discount: Mapping[str, float], override: Mapping[str, float], now: datetime) -> Offer:
    """Correct an offer's price as a policy says: dollars an hour by offer id, or a share taken off by glob.

    An override is exact: no discount comes off it, and one for a single node holds for each of several. Of several
    discounts that match only that with the longest pattern counts; they do not add up. An offer without a price stays
    without one under a discount. Raises ``ValueError`` for a share outside 0 to 1.
    """
    if not discount and not override:
        return offer
    for name in _names(offer.id):
        if name in override:
            named = _ID.fullmatch(name)
            times = 1 if named is None or named["nodes"] else offer.nodes
            return replace(offer, price=Price(override[name] * times, "override of the policy", now))
    matching = [pattern for pattern in discount if glob_match(pattern, offer.id)]
    if offer.price is None or not matching:
        return offer
    pattern = max(matching, key=lambda pattern: (len(pattern), pattern))
    share = discount[pattern]
    if not 0 <= share < 1:
        raise ValueError(f"the discount of {pattern!r} is {share} - write a share from 0 to below 1, as 0.12 for 12 %")
    source = f"{offer.price.source}, less {share * 100:.4g} % by the policy"
    price = replace(offer.price, usd_per_hour=offer.price.usd_per_hour * (1 - share), source=source)
    return replace(offer, price=price)


def age_hours(price: Price, now: datetime) -> float:
    """Say how old a price is, in hours; one from the future is of age zero."""
    return max((now - price.at).total_seconds() / 3600, 0.0)


def price_fault(
    offer: Offer,
    now: datetime,
    max_age_hours: float,
    previous: float | None = None,
    on_demand: float | None = None,
) -> str | None:
    """Say in one line why an offer's price must not be used, or ``None`` when it may.

    ``previous`` and ``on_demand`` are dollars an hour for as many nodes as the offer has. A spot price exactly at
    on-demand marks an illiquid pool but is a price all the same.
    """
    if offer.price is None:
        return f"{offer.id} has no sourced price - run `scaleahead prices refresh`"
    usd = offer.price.usd_per_hour
    if not math.isfinite(usd):
        return f"{offer.id} costs {usd} $/h, which is no number - refresh the prices or override it"
    if usd <= 0:
        return f"{offer.id} costs {usd:g} $/h, which is not above 0 - refresh the prices or override it"
    age = age_hours(offer.price, now)
    if age > max_age_hours:
        return (
            f"the price of {offer.id} is {age:.0f} h old, more than the {max_age_hours:g} h allowed - "
            "run `scaleahead prices refresh` or raise prices.max_age_hours"
        )
    if previous is not None and previous > 0 and not CHEAPEST_JUMP <= usd / previous <= DEAREST_JUMP:
        return (
            f"the price of {offer.id} went from {previous:g} to {usd:g} $/h, a factor of {usd / previous:.2g} - "
            "override it if that is right"
        )
    if offer.buying == "spot" and on_demand is not None and usd > on_demand * (1 + 1e-9):
        return f"{offer.id} at {usd:g} $/h is dearer than on-demand at {on_demand:g} $/h - buy on demand"
    if offer.buying == "spot" and on_demand is not None and usd < on_demand * SPOT_LEAST:
        return f"{offer.id} at {usd:g} $/h is under {SPOT_LEAST:.0%} of on-demand - override it if that is right"
    return None


def load() -> Catalog:
    """Read the newest shipped table of each kind. Spot and attached GPUs become offers of their own."""
    sources = {row["key"]: row["what"] for row in _rows("sources")}
    offers: dict[str, Offer] = {}
    architectures: dict[str, str] = {}
    for kind in ("aws", "gcp"):
        for row in _rows(kind):
            if row["architecture"] != "x86_64":
                architectures[row["machine_type"]] = row["architecture"]
            for offer in _ways(row, sources):
                offers[offer.id] = offer
    attached = [offer for rule in _rows("attach") for offer in _composed(rule, sources, offers.values())]
    offers.update((offer.id, offer) for offer in attached)
    return Catalog(offers, architectures)


def _rows(kind: str) -> list[dict[str, str]]:
    folder = Path(__file__).parent / "prices"
    newest = max(path for path in folder.iterdir() if re.fullmatch(rf"{kind}(-[0-9-]+)?\.csv", path.name))
    with newest.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _ways(row: Mapping[str, str], sources: Mapping[str, str]) -> Iterator[Offer]:
    """Make a row's offer on demand and, where a spot price is known, the one on spot."""
    offer = Offer(
        provider=row["provider"],
        region=row["region"],
        zone=row["zone"] or None,
        machine_type=row["machine_type"],
        resources=Resources(
            cpu_cores=float(row["vcpus"]),
            memory_gib=float(row["memory_gib"]),
            gpus=int(row["gpus"]),
            gpu_model=row["gpu_model"] or None,
            gpu_memory_gib=float(row["gpu_memory_gib"]),
            network_gbps=_maybe(row["network_gbps"]),
            disk_mb_per_s=_maybe(row["disk_mb_per_s"]),
        ),
        price=_price(row["on_demand_usd_per_hour"], row["price_source"], row["price_date"], sources),
    )
    yield offer
    spot = _price(row["spot_usd_per_hour"], row["spot_source"], row["spot_date"], sources)
    if spot is not None:
        on_demand = offer.price.usd_per_hour if offer.price else None
        yield _marked(replace(offer, buying="spot", price=spot), on_demand)


def _composed(rule: Mapping[str, str], sources: Mapping[str, str], machines: Iterable[Offer]) -> Iterator[Offer]:
    """Attach a rule's GPUs to every machine that takes them; the price is the machine's plus the GPUs'."""
    gpus = int(rule["gpus"])
    prefixes = tuple(rule["machine_prefix"].split())
    each = {
        "on_demand": _price(rule["on_demand_usd_per_hour_each"], rule["price_source"], rule["price_date"], sources),
        "spot": _price(rule["spot_usd_per_hour_each"], rule["spot_source"], rule["spot_date"], sources),
    }
    for machine in machines:
        has = machine.resources
        if (
            machine.provider != rule["provider"]
            or machine.region != rule["region"]
            or not machine.machine_type.startswith(prefixes)
            or not float(rule["min_vcpus"]) <= has.cpu_cores <= float(rule["max_vcpus"])
            or has.memory_gib > float(rule["max_memory_gib"])
        ):
            continue
        price = _sum(machine.price, each[machine.buying], gpus, rule["gpu_model"])
        if price is None and machine.buying == "spot":
            continue
        resources_with = replace(
            has, gpus=gpus, gpu_model=rule["gpu_model"], gpu_memory_gib=float(rule["gpu_memory_gib"])
        )
        yield replace(machine, resources=resources_with, attached_gpus=gpus, price=price)


def _sum(machine: Price | None, gpu: Price | None, gpus: int, model: str) -> Price | None:
    """Add a machine's price and its GPUs' to one, as old as the older of the two."""
    if machine is None or gpu is None:
        return None
    usd = machine.usd_per_hour + gpus * gpu.usd_per_hour
    source = f"machine: {machine.source}; {gpus}x {model}: {gpu.source}"
    return Price(round(usd, 9), source, min(machine.at, gpu.at))


def _marked(spot: Offer, on_demand: float | None) -> Offer:
    """Say so in the source of a spot price that stands at on-demand or at the floor: hardly anyone trades there."""
    if spot.buying != "spot" or spot.price is None or not on_demand or "(illiquid" in spot.price.source:
        return spot
    share = spot.price.usd_per_hour / on_demand
    if math.isclose(share, 1) or share <= SPOT_FLOOR:
        where = "at on-demand" if share > SPOT_FLOOR else "at its floor"
        return replace(spot, price=replace(spot.price, source=f"{spot.price.source} (illiquid: {where})"))
    return spot


def _price(usd: str, source: str, day: str, sources: Mapping[str, str]) -> Price | None:
    if not usd:
        return None
    return Price(float(usd), sources[source], datetime.fromisoformat(day).replace(tzinfo=UTC))


def _maybe(cell: str) -> float | None:
    return float(cell) if cell else None


# Policies match the same few ids against their globs at every decision.
@lru_cache(maxsize=8192)
def _names(offer_id: str) -> tuple[str, ...]:
    """List the names an offer answers to: its id, then without the node count, then with the region for the zone."""
    parts = _ID.fullmatch(offer_id)
    if parts is None:
        return (offer_id,)
    provider, place, kind = parts["provider"], parts["place"], parts["kind"]
    count = f"{parts['nodes']}x " if parts["nodes"] else ""
    names = [f"{provider}/{where}/{many}{kind}" for where in (place, region_of(place)) for many in (count, "")]
    return tuple(dict.fromkeys(names))
