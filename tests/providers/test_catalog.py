"""The price catalog: what is shipped, how it is corrected, and which prices are refused."""

import csv
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import providers.catalog
from providers.catalog import (
    Catalog,
    age_hours,
    glob_match,
    load,
    overlay,
    price_fault,
    region_of,
    with_nodes,
)
from providers.errors import Invalid
from providers.types import Offer, Price, Resources

TABLES = Path(providers.catalog.__file__).parent / "prices"
NOW = datetime(2026, 8, 10, tzinfo=UTC)
YEAR = 24.0 * 365


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


def rows() -> Iterator[tuple[str, dict[str, str]]]:
    for path in sorted(TABLES.glob("*.csv")):
        if path.name != "sources.csv":
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    yield path.name, row


def offer(usd: float | None = 10.0, **changes: object) -> Offer:
    price = None if usd is None else Price(usd, "a list", NOW - timedelta(hours=1))
    plain = Offer("aws", "us-east-1", "p5.48xlarge", Resources(192, 2048, 8, "H100", 80), price)
    return replace(plain, **changes)  # type: ignore[arg-type]


# What is shipped


def test_as_many_offers_as_promised(catalog: Catalog) -> None:
    on_demand = [item for item in catalog.offers() if item.buying == "on_demand"]
    priced = [item for item in on_demand if item.price]
    assert sum(item.provider == "aws" and item.region == "us-east-1" for item in priced) >= 150
    for region in ("us-west-2", "eu-west-1"):
        assert sum(item.region == region and item.resources.gpus > 0 for item in on_demand) >= 15
        assert sum(item.region == region and item.resources.gpus > 0 for item in priced) >= 7
    gcp = [item for item in priced if item.provider == "gcp"]
    assert len(gcp) >= 150
    assert {item.region for item in gcp} == {"us-central1", "europe-west4", "asia-southeast1"}


@pytest.mark.parametrize("region", ["us-central1", "europe-west4", "asia-southeast1"])
def test_spot_stands_beside_on_demand_on_gcp(catalog: Catalog, region: str) -> None:
    spot = [item for item in catalog.offers("gcp", region) if item.buying == "spot"]
    assert len(spot) >= 100
    assert all(item.price and item.id.endswith("@spot") for item in spot)


def test_every_gpu_from_t4_to_b200_is_listed(catalog: Catalog) -> None:
    models = {item.resources.gpu_model for item in catalog.by_id.values() if item.resources.gpus}
    assert models >= {
        "T4", "T4G", "P100", "V100", "A10G", "L4", "L40S", "A100-40GB", "A100-80GB", "H100", "H200", "B200",
        "RTX-PRO-6000",
    }  # fmt: skip
    families = {item.machine_type.split(".")[0] for item in catalog.by_id.values() if item.provider == "aws"}
    assert families >= set("g4dn g5 g6 g6e p3 p3dn p4d p4de p5 p5e p5en p6-b200".split())  # noqa: SIM905
    series = {item.machine_type.split("-")[0] for item in catalog.by_id.values() if item.provider == "gcp"}
    assert series >= set("n1 n2 e2 c2 c3 m1 m3 g2 g4 a2 a3 a4".split())  # noqa: SIM905


@pytest.mark.parametrize("family", ["c5", "m5", "r5", "x1e", "x2iedn"])
@pytest.mark.parametrize("size", ["xlarge", "2xlarge", "4xlarge"])
def test_the_cpu_families_beside_them_are_priced(catalog: Catalog, family: str, size: str) -> None:
    assert catalog.find(f"aws/us-east-1/{family}.{size}").price is not None


@pytest.mark.parametrize(
    ("offer_id", "usd", "vcpus", "memory_gib"),
    [
        ("aws/us-east-1/m5.xlarge", 0.192, 4, 16),
        ("aws/us-east-1/r5.xlarge", 0.252, 4, 32),
        ("aws/us-east-1/c5.xlarge", 0.17, 4, 8),
        ("aws/us-east-1/g4dn.xlarge", 0.526, 4, 16),
        ("aws/us-east-1/p5.48xlarge", 55.04, 192, 2048),
        ("aws/us-west-2/p4d.24xlarge", 21.95764, 96, 1152),
        ("gcp/us-central1/a2-highgpu-1g", 3.673385, 12, 85),
        ("gcp/us-central1/n1-standard-8@spot", 0.13402, 8, 30),
    ],
)
def test_prices_are_those_of_their_sources(
    catalog: Catalog, offer_id: str, usd: float, vcpus: int, memory_gib: int
) -> None:
    found = catalog.find(offer_id)
    assert found.price is not None
    assert found.price.usd_per_hour == usd
    assert (found.resources.cpu_cores, found.resources.memory_gib) == (vcpus, memory_gib)


def test_every_cell_with_a_price_has_its_source_and_day() -> None:
    with (TABLES / "sources.csv").open(newline="") as file:
        sources = {row["key"]: row for row in csv.DictReader(file)}
    assert all(source["what"] and source["address"] and source["licence"] for source in sources.values())
    used = set()
    for name, row in rows():
        assert row["hardware_source"] in sources, (name, row)
        used.add(row["hardware_source"])
        each = "_each" if name.startswith("attach") else ""
        for price, source, day in (
            (f"on_demand_usd_per_hour{each}", "price_source", "price_date"),
            (f"spot_usd_per_hour{each}", "spot_source", "spot_date"),
        ):
            assert bool(row[price]) == bool(row[source]) == bool(row[day]), (name, row)
            if row[price]:
                assert row[source] in sources
                used.add(row[source])
                assert date(2025, 1, 1) <= date.fromisoformat(row[day]) <= date(2026, 8, 3)
    assert used == set(sources)


def test_figures_are_sane(catalog: Catalog) -> None:
    for found in catalog.by_id.values():
        has = found.resources
        assert has.cpu_cores > 0, found.id
        assert has.memory_gib > 0, found.id
        assert (has.gpus > 0) == (has.gpu_model is not None) == (has.gpu_memory_gib > 0), found.id
        assert has.network_gbps is None or 0 < has.network_gbps <= 6400, found.id
        assert has.disk_mb_per_s is None or has.disk_mb_per_s > 0, found.id
        assert all(math.isfinite(value) for value in (has.cpu_cores, has.memory_gib, has.gpu_memory_gib)), found.id
        if found.price:
            assert catalog.fault(found, NOW, 24 * 600) is None
            assert found.price.source
            assert found.price.at.tzinfo is UTC


def test_ids_are_unique_and_find_their_offer(catalog: Catalog) -> None:
    keys = [(row["provider"], row["region"], row["machine_type"]) for name, row in rows() if "attach" not in name]
    assert len(keys) == len(set(keys))
    for offer_id, found in catalog.by_id.items():
        assert found.id == offer_id
        assert found.nodes == 1
        assert catalog.find(offer_id) is found


def test_network_and_gpu_offers_have_their_network(catalog: Catalog) -> None:
    assert all(found.resources.network_gbps for found in catalog.by_id.values() if found.resources.gpus)


def test_what_no_source_prices_is_listed_and_refused(catalog: Catalog) -> None:
    found = catalog.find("gcp/us-central1/a4-highgpu-8g")
    assert found in catalog.offers("gcp", "us-central1")
    assert found.resources.gpu_model == "B200"
    assert found.price is None
    fault = catalog.fault(found, NOW, YEAR)
    assert fault is not None
    assert "no sourced price" in fault


def test_another_architecture_is_shown_only_on_request(catalog: Catalog) -> None:
    assert not any(found.machine_type.startswith("g5g.") for found in catalog.offers("aws"))
    arm = {found.machine_type.split(".")[0] for found in catalog.offers("aws", architecture="arm64")}
    assert arm == {"g5g", "c7g", "m7g", "r7g"}


def test_n1_with_gpus_costs_the_sum_of_its_parts(catalog: Catalog) -> None:
    attached = [found for found in catalog.offers("gcp", "us-central1") if found.attached_gpus]
    assert {(found.resources.gpu_model, found.attached_gpus) for found in attached} == {
        ("T4", 1), ("T4", 2), ("T4", 4), ("P100", 1), ("P100", 2), ("P100", 4),
        ("V100", 1), ("V100", 2), ("V100", 4), ("V100", 8),
    }  # fmt: skip
    usd = {
        ("T4", "on_demand"): 0.35, ("P100", "on_demand"): 1.46, ("V100", "on_demand"): 2.48,
        ("T4", "spot"): 0.11, ("P100", "spot"): 0.43, ("V100", "spot"): 0.74,
    }  # fmt: skip
    for found in attached:
        assert found.price is not None
        assert found.resources.gpu_model is not None
        machine = catalog.find(replace(found, attached_gpus=0).id)
        assert machine.price is not None
        gpus = found.attached_gpus * usd[found.resources.gpu_model, found.buying]
        assert found.price.usd_per_hour == pytest.approx(machine.price.usd_per_hour + gpus, abs=1e-8)
        assert found.price.at == datetime(2026, 6, 22, tzinfo=UTC)
        assert machine.price.source in found.price.source
        assert found.resources.gpus == found.attached_gpus
        assert found.resources.gpu_memory_gib == 16
        if found.buying == "on_demand":
            # The published component prices of one N1 vCPU and GiB in us-central1.
            parts = found.resources.cpu_cores * 0.031611 + found.resources.memory_gib * 0.004237
            assert found.price.usd_per_hour == pytest.approx(parts + gpus, abs=1e-5)


def test_n1_takes_no_more_than_its_gpus_allow(catalog: Catalog) -> None:
    most = {("V100", 1): 12, ("V100", 8): 96, ("P100", 1): 16, ("T4", 1): 48, ("T4", 4): 96}
    for found in catalog.offers("gcp"):
        limit = most.get((found.resources.gpu_model or "", found.attached_gpus))
        assert limit is None or found.resources.cpu_cores <= limit, found.id
        assert not found.attached_gpus or found.machine_type.startswith(("n1-standard-", "n1-highmem-"))
        assert found.resources.gpu_model != "P100" or found.resources.memory_gib <= 208, found.id


def test_where_gpus_have_no_price_the_sum_has_none(catalog: Catalog) -> None:
    assert catalog.find("gcp/europe-west4/n1-standard-8+1xT4").price is None


def test_an_illiquid_spot_pool_is_marked_but_not_refused(catalog: Catalog) -> None:
    marked = [found for found in catalog.by_id.values() if found.price and "(illiquid" in found.price.source]
    assert marked
    for found in marked:
        on_demand = catalog.on_demand(found)
        assert on_demand is not None
        assert found.price is not None
        share = found.price.usd_per_hour / on_demand
        assert share == pytest.approx(1) or share <= providers.catalog.SPOT_FLOOR
        assert catalog.fault(found, NOW, 24 * 600) is None


def test_loading_is_quick_and_light() -> None:
    start = time.process_time()
    load()
    assert time.process_time() - start < 0.15
    code = "import sys, providers.catalog; providers.catalog.load(); print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=TABLES.parents[1]
    )
    assert not {"numpy", "pandas", "pydantic", "torch", "boto3", "google.cloud"} & set(ran.stdout.split())


# Finding, counting, matching


def test_find_multiplies_by_nodes(catalog: Catalog) -> None:
    found = catalog.find("aws/us-east-1/2x g4dn.12xlarge")
    assert found.id == "aws/us-east-1/2x g4dn.12xlarge"
    assert found.nodes == 2
    assert found.resources.gpus == 4
    assert found.price is not None
    assert found.price.usd_per_hour == 7.824
    assert catalog.on_demand(found) == 7.824


def test_find_knows_zones_spot_and_attached_gpus_together(catalog: Catalog) -> None:
    found = catalog.find("gcp/us-central1-a/3x n1-standard-16+4xV100@spot")
    assert (found.zone, found.region, found.nodes, found.attached_gpus) == ("us-central1-a", "us-central1", 3, 4)
    assert found.id == "gcp/us-central1-a/3x n1-standard-16+4xV100@spot"
    assert found.price is not None
    assert found.price.usd_per_hour == pytest.approx(3 * (0.26804 + 4 * 0.74))


@pytest.mark.parametrize(
    "offer_id",
    ["", "aws", "aws/us-east-1", "aws/us-east-1/0x m5.xlarge", "aws/us-east-1/m5.huge", "aws/nowhere/m5.xlarge"],
)
def test_an_unknown_offer_is_one_clear_line(catalog: Catalog, offer_id: str) -> None:
    with pytest.raises(Invalid, match=" - ") as fault:
        catalog.find(offer_id)
    assert "\n" not in str(fault.value)


def test_with_nodes_scales_the_price_and_nothing_else() -> None:
    two = with_nodes(offer(10.0), 2)
    assert two.price is not None
    assert two.price.usd_per_hour == 20.0
    assert with_nodes(two, 1) == offer(10.0)
    assert with_nodes(offer(None), 3).price is None
    with pytest.raises(ValueError, match="at least 1 node"):
        with_nodes(offer(), 0)


@pytest.mark.parametrize(
    ("place", "region"),
    [
        ("us-east-1a", "us-east-1"),
        ("us-gov-west-1b", "us-gov-west-1"),
        ("us-west-2-lax-1a", "us-west-2"),
        ("us-central1-a", "us-central1"),
        ("us-east-1", "us-east-1"),
        ("europe-west4", "europe-west4"),
        ("local", "local"),
        ("rack-a", "rack-a"),
    ],
)
def test_region_of(place: str, region: str) -> None:
    assert region_of(place) == region


@pytest.mark.parametrize(
    ("pattern", "offer_id", "matches"),
    [
        ("*", "aws/us-east-1/m5.xlarge", True),
        ("*/p5*", "aws/us-east-1/p5.48xlarge", True),
        ("*/p5*", "aws/us-east-1/2x p5.48xlarge", True),
        ("*/p5*", "aws/us-east-1/p4d.24xlarge", False),
        ("gcp/*", "gcp/us-central1/n1-standard-8+1xT4@spot", True),
        ("gcp/*", "aws/us-east-1/m5.xlarge", False),
        ("aws/us-east-1/*", "aws/us-east-1a/2x m5.xlarge", True),
        ("aws/us-east-1a/*", "aws/us-east-1/m5.xlarge", False),
        ("aws/us-east-1/2x *", "aws/us-east-1/m5.xlarge", False),
        ("*@spot", "aws/us-east-1/m5.xlarge@spot", True),
        ("*@spot", "aws/us-east-1/m5.xlarge", False),
        ("*+*xT4", "gcp/us-central1/n1-standard-8+1xT4", True),
    ],
)
def test_globs(pattern: str, offer_id: str, matches: bool) -> None:
    assert glob_match(pattern, offer_id) is matches


# Overlay


def test_a_discount_comes_off_and_says_so() -> None:
    cheaper = overlay(offer(10.0), {"aws/*": 0.12}, {}, NOW).price
    assert cheaper is not None
    assert cheaper.usd_per_hour == pytest.approx(8.8)
    assert cheaper.source == "a list, less 12 % by the policy"
    assert cheaper.at == NOW - timedelta(hours=1)


def test_the_longest_matching_discount_counts_alone() -> None:
    price = overlay(offer(10.0), {"aws/*": 0.12, "*/p5*": 0.5, "aws/*/p5.*": 0.2, "gcp/*": 0.9}, {}, NOW).price
    assert price is not None
    assert price.usd_per_hour == pytest.approx(8.0)


def test_an_override_is_exact_and_fresh() -> None:
    price = overlay(offer(None), {"aws/*": 0.5}, {"aws/us-east-1/p5.48xlarge": 31.0}, NOW).price
    assert price == Price(31.0, "override of the policy", NOW)


def test_an_override_of_one_node_holds_for_each_of_several() -> None:
    two = with_nodes(offer(10.0), 2)
    assert overlay(two, {}, {"aws/us-east-1/p5.48xlarge": 31.0}, NOW).price == Price(
        62.0, "override of the policy", NOW
    )
    both = {"aws/us-east-1/p5.48xlarge": 31.0, "aws/us-east-1/2x p5.48xlarge": 50.0}
    assert overlay(two, {}, both, NOW).price == Price(50.0, "override of the policy", NOW)


def test_no_overlay_changes_nothing_and_invents_no_price() -> None:
    assert overlay(offer(), {"gcp/*": 0.5}, {"gcp/us-central1/a2-highgpu-1g": 1.0}, NOW) == offer()
    assert overlay(offer(None), {"*": 0.5}, {}, NOW).price is None


@pytest.mark.parametrize("share", [-0.1, 1.0, 12.0, math.nan])
def test_a_discount_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="write a share"):
        overlay(offer(), {"*": share}, {}, NOW)


def test_an_absurd_override_does_not_get_past_the_check() -> None:
    assert price_fault(overlay(offer(), {}, {offer().id: 0.0}, NOW), NOW, YEAR) is not None


# Faults


@pytest.mark.parametrize(
    ("usd", "word"),
    [
        (None, "no sourced price"),
        (0.0, "not above 0"),
        (-1.0, "not above 0"),
        (math.nan, "no number"),
        (math.inf, "no number"),
    ],
)
@pytest.mark.fault("C18")
def test_absurd_prices_refuse_the_offer(usd: float | None, word: str) -> None:
    fault = price_fault(offer(usd), NOW, YEAR)
    assert fault is not None
    assert word in fault
    assert offer().id in fault
    assert " - " in fault


def test_a_price_grows_too_old() -> None:
    assert price_fault(offer(), NOW, 1.0) is None
    fault = price_fault(offer(), NOW + timedelta(hours=2), 2.5)
    assert fault is not None
    assert "3 h old" in fault
    assert price_fault(offer(), NOW - timedelta(days=900), 1.0) is None
    assert age_hours(Price(1.0, "a list", NOW), NOW - timedelta(days=1)) == 0.0


@given(st.floats(0.01, 1000), st.floats(0.001, 1000))
@settings(max_examples=60)
def test_a_jump_is_refused_beyond_threefold_only(previous: float, factor: float) -> None:
    fault = price_fault(offer(previous * factor), NOW, YEAR, previous=previous)
    if factor > 3.001 or factor < 0.329:
        assert fault is not None
        assert "factor" in fault
    elif 0.331 < factor < 2.999:
        assert fault is None


def test_spot_dearer_than_on_demand_is_refused_but_at_it_is_not() -> None:
    spot = offer(10.0, buying="spot")
    assert price_fault(spot, NOW, YEAR, on_demand=9.99) is not None
    assert price_fault(spot, NOW, YEAR, on_demand=10.0) is None
    assert price_fault(spot, NOW, YEAR, on_demand=None) is None
    assert price_fault(spot, NOW, YEAR, on_demand=10_000.0) is not None
    assert price_fault(offer(10.0), NOW, YEAR, on_demand=9.0) is None


@given(
    st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    st.integers(1, 64),
    st.floats(0, 1e5),
    st.sampled_from(["on_demand", "spot"]),
)
@settings(max_examples=100)
def test_what_passes_is_always_a_price_to_reckon_with(
    usd: float | None, nodes: int, max_age: float, buying: str
) -> None:
    fault = price_fault(with_nodes(offer(usd, buying=buying), nodes), NOW, max_age)
    assert fault is None or ("\n" not in fault and " - " in fault)
    if fault is None:
        assert usd is not None
        assert math.isfinite(usd)
        assert usd > 0
        assert max_age >= 1


# Refresh


def test_sane_prices_are_taken_over_and_others_listed(catalog: Catalog) -> None:
    fetched = {
        "aws/us-east-1/m5.xlarge": Price(0.2, "refresh", NOW),
        "aws/us-east-1/c5.xlarge": Price(1.7, "refresh", NOW),
        "aws/us-east-1/r5.xlarge": Price(math.nan, "refresh", NOW),
        "gcp/us-central1/a4-highgpu-8g": Price(90.0, "refresh", NOW),
        "aws/us-east-1/z9.xlarge": Price(1.0, "refresh", NOW),
        "aws/us-east-1/2x m5.2xlarge@spot": Price(0.3, "refresh", NOW),
    }
    fresh = catalog.updated(fetched, NOW)
    assert set(fresh.refused) == {
        "aws/us-east-1/c5.xlarge", "aws/us-east-1/r5.xlarge", "aws/us-east-1/z9.xlarge",
        "aws/us-east-1/2x m5.2xlarge@spot",
    }  # fmt: skip
    assert fresh.find("aws/us-east-1/m5.xlarge").price == fetched["aws/us-east-1/m5.xlarge"]
    assert fresh.find("gcp/us-central1/a4-highgpu-8g").price == fetched["gcp/us-central1/a4-highgpu-8g"]
    assert fresh.find("aws/us-east-1/c5.xlarge") == catalog.find("aws/us-east-1/c5.xlarge")
    assert catalog.find("aws/us-east-1/m5.xlarge").price != fetched["aws/us-east-1/m5.xlarge"]


def test_a_fetched_spot_price_makes_a_new_offer_also_in_a_zone(catalog: Catalog) -> None:
    region, zone = "aws/us-east-1/g5.xlarge@spot", "aws/us-east-1b/g5.xlarge@spot"
    with pytest.raises(Invalid):
        catalog.find(region)
    fresh = catalog.updated({region: Price(0.4, "refresh", NOW), zone: Price(1.006, "refresh", NOW)}, NOW)
    assert not fresh.refused
    assert fresh.find(region).buying == "spot"
    found = fresh.find(zone)
    assert (found.zone, found.region, found.buying) == ("us-east-1b", "us-east-1", "spot")
    assert found.price is not None
    assert found.price.source == "refresh (illiquid: at on-demand)"
    assert found in fresh.offers("aws", "us-east-1")


def test_spot_is_held_against_the_on_demand_price_fetched_with_it(catalog: Catalog) -> None:
    spot, on_demand = "gcp/us-central1/n1-standard-8@spot", "gcp/us-central1/n1-standard-8"
    fetched = {spot: Price(0.3, "refresh", NOW), on_demand: Price(0.29, "refresh", NOW)}
    fresh = catalog.updated(fetched, NOW)
    assert set(fresh.refused) == {spot}
    assert "dearer than on-demand" in fresh.refused[spot]
