"""Prices fetched from AWS."""

from dataclasses import replace

import pytest

from tests.providers.aws.conftest import LARGE, SMALL, Account


def test_fresh_prices_take_the_place_of_old_ones_and_say_where_they_are_from(account: Account):
    account.emulator.price("m7i.2xlarge", 0.42)
    account.emulator.spot_price("m7i.2xlarge", "us-east-1a", 0.15)
    assert account.aws.refresh_prices() == 2
    offers = {offer.id: offer for offer in account.aws.offers(account.vm)}
    price = offers["aws/us-east-1a/m7i.2xlarge"].price
    assert price is not None
    assert (price.usd_per_hour, price.source, price.at) == (
        0.42, "AWS price list, 2026-11-01T00:00:00Z", account.clock.now(),
    )  # fmt: skip
    spot = offers["aws/us-east-1a/m7i.2xlarge@spot"]
    assert spot.price is not None
    assert spot.price.usd_per_hour == 0.15
    assert offers["aws/us-east-1a/m7i.4xlarge"].price == LARGE.price


@pytest.mark.fault("C18")
def test_absurd_prices_are_not_taken(account: Account):
    account.emulator.price("m7i.2xlarge", 4.2)
    account.emulator.price("m7i.4xlarge", 0.0)
    account.emulator.spot_price("m7i.4xlarge", "us-east-1a", 9.0)
    assert account.aws.refresh_prices() == 0
    offers = {offer.id: offer for offer in account.aws.offers(account.vm)}
    assert offers["aws/us-east-1a/m7i.2xlarge"].price == SMALL.price
    assert set(offers) == {replace(one, zone="us-east-1a").id for one in (SMALL, LARGE)}


def test_a_machine_of_a_type_that_no_table_has_is_described_by_what_aws_says(account: Account):
    ec2 = account.emulator.client("ec2")
    answer = ec2.run_instances(
        LaunchTemplate={"LaunchTemplateName": "trainer"}, InstanceType="g5.xlarge", MinCount=1, MaxCount=1,
        Placement={"AvailabilityZone": "us-east-1a"},
    )  # fmt: skip
    found = account.aws.describe(replace(account.vm, id=answer["Instances"][0]["InstanceId"]))
    assert found.offer.price is None
    have = found.offer.resources
    assert (have.cpu_cores, have.memory_gib, have.gpus, have.gpu_model) == (4, 16, 1, "A10G")
    assert 22 < have.gpu_memory_gib < 24
