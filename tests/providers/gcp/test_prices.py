"""Prices are summed from the SKUs of Cloud Billing: vCPUs, memory and GPUs, of the right family, region and market."""

import pytest

from providers.budget import Budget
from providers.catalog import Catalog, load
from providers.errors import Unavailable
from providers.gcp.client import Client
from providers.gcp.prices import SOURCE, Prices
from providers.gcp.provider import Gcp
from tests.emulators.gce import Fault
from tests.providers.gcp.conftest import Project

AMERICAS, SPOT = "running in Americas", "Preemptible"


def stocked(project: Project) -> Gcp:
    """Put the SKUs on sale that the test needs, with list prices of us-central1 rounded, and some that mislead."""
    add = project.emulator.billing.add
    add(f"N1 Predefined Instance Core {AMERICAS}", 0.031611)
    add(f"N1 Predefined Instance Ram {AMERICAS}", 0.004237, unit="GiBy.h")
    add(f"Nvidia Tesla T4 GPU {AMERICAS}", 0.35, tiers=(0.0,))
    add(f"A2 Instance Core {AMERICAS}", 0.031611)
    add(f"A2 Instance Ram {AMERICAS}", 0.004237, unit="GiBy.h")
    add(f"Nvidia Tesla A100 GPU {AMERICAS}", 2.933908)
    add("N1 Predefined Instance Core running in Zurich", 0.9, ("europe-west6",))
    add("Commitment v1: N1 Predefined Instance Core in Americas for 1 Year", 0.0199, usage="Commit1Yr")
    add(f"Nvidia Tesla A100 80GB GPU {AMERICAS}", 3.9)
    add(f"Spot Preemptible N1 Predefined Instance Core {AMERICAS}", 0.0067, usage=SPOT)
    add(f"Spot Preemptible N1 Predefined Instance Ram {AMERICAS}", 0.0009, usage=SPOT, unit="GiBy.h")
    add(f"Nvidia Tesla T4 GPU attached to Spot Preemptible VMs {AMERICAS}", 0.11, usage=SPOT)
    add(f"N2 Custom Instance Core {AMERICAS}", 0.033174)
    add(f"N2 Custom Instance Ram {AMERICAS}", 0.004446, unit="GiBy.h")
    add(f"E2 Instance Core {AMERICAS}", 0.0)
    add(f"E2 Instance Ram {AMERICAS}", 0.002923, unit="GiBy.h")
    client = Client(project.emulator.project, Budget(project.clock), project.emulator.url)
    return Gcp("gcp", client, load(), clock=project.clock)


def test_a_whole_machine_costs_what_its_parts_do(project: Project):
    gcp = stocked(project)
    assert gcp.refresh_prices() > 20
    offers = {offer.id: offer.price for offer in gcp.offers(project.vm)}
    expected = {
        "n1-standard-8": 8 * 0.031611 + 30 * 0.004237,
        "n1-standard-8+1xT4": 8 * 0.031611 + 30 * 0.004237 + 0.35,
        "n1-standard-8+4xT4@spot": 8 * 0.0067 + 30 * 0.0009 + 4 * 0.11,
        "a2-highgpu-1g": 12 * 0.031611 + 85 * 0.004237 + 2.933908,
    }
    for kind, usd in expected.items():
        price = offers[f"gcp/us-central1-a/{kind}"]
        assert price is not None
        assert price.usd_per_hour == pytest.approx(usd)
        assert (price.source, price.at) == (SOURCE, project.clock.now())


def test_what_has_a_part_without_a_price_keeps_the_price_it_had(project: Project):
    gcp = stocked(project)
    before = {offer.id: offer.price for offer in gcp.offers(project.vm)}
    gcp.refresh_prices()
    after = {offer.id: offer.price for offer in gcp.offers(project.vm)}
    kept = ("e2-standard-8", "a2-ultragpu-1g", "a2-highgpu-1g@spot", "g2-standard-12")
    for name in (f"gcp/us-central1-a/{kind}" for kind in kept):
        assert before[name] is not None
        assert after[name] == before[name]


def test_custom_machines_are_offered_once_they_have_a_price(project: Project):
    gcp, name = stocked(project), "gcp/us-central1-a/n2-custom-8-49152"
    assert not [offer for offer in gcp.offers(project.vm) if "custom" in offer.id]
    gcp.refresh_prices()
    found = {offer.id: offer for offer in gcp.offers(project.vm) if "custom" in offer.id}
    assert name in found
    assert all(offer.price is not None for offer in found.values())
    price = found[name].price
    assert price is not None
    assert price.usd_per_hour == pytest.approx(8 * 0.033174 + 48 * 0.004446)
    assert len(found) == 8  # of one family only, and none on spot: the rest has no price


def test_a_catalog_that_cannot_be_read_leaves_the_prices_as_they_were(project: Project):
    gcp = stocked(project)
    before = gcp.offers(project.vm)
    project.emulator.fault(Fault("skus/list", "UNAVAILABLE", 503))
    with pytest.raises(Unavailable):
        gcp.refresh_prices()
    assert gcp.offers(project.vm) == before


def test_all_pages_are_read(project: Project):
    stocked(project)
    client = Client(project.emulator.project, Budget(project.clock), project.emulator.url)
    Prices(client, project.clock).fetch(Catalog({}))
    read = [call for call in project.emulator.calls if call.method == "skus/list"]
    assert len(read) == -(-len(project.emulator.billing.skus) // 3)
