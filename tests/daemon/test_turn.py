"""What a turn makes of what is known."""

from datetime import UTC, datetime

import pytest

from daemon import turn
from providers.types import Offer, Price, Resources

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def offer(region: str, zone: str | None, provider: str = "aws") -> Offer:
    return Offer(provider, region, "m5.large", Resources(2, 8), Price(0.1, "a test", NOW), zone=zone)


@pytest.mark.parametrize(
    ("there", "way"),
    [(offer("us-east-1", "us-east-1a"), "in_place"), (offer("us-east-1", None), "in_place"),
     (offer("us-east-1", "us-east-1b"), "replace"), (offer("eu-west-1", None), "replace"),
     (offer("us-east-1", None, "gcp"), "replace")],
)  # fmt: skip
def test_no_machine_is_modified_into_another_place(there: Offer, way: str) -> None:
    assert turn.vm_route(offer("us-east-1", "us-east-1a"), there) == way
