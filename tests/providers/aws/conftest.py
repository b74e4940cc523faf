"""A strict AWS with one running instance in it, and the provider over it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from providers.aws.client import Client
from providers.aws.provider import Aws
from providers.budget import Budget
from providers.catalog import Catalog
from providers.clock import VirtualClock
from providers.types import LaunchRecipe, Offer, Price, Resources, Target
from tests.emulators.aws import Emulator

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def offer(kind: str, usd: float, cores: float, memory_gib: float) -> Offer:
    return Offer("aws", "us-east-1", kind, Resources(cores, memory_gib), Price(usd, "a test", NOW))


SMALL, LARGE = offer("m7i.2xlarge", 0.4, 8, 32), offer("m7i.4xlarge", 0.8, 16, 64)
ARM = offer("m7g.2xlarge", 0.3, 8, 32)
RECIPE = LaunchRecipe("trainer", {"job": "bert"})


@dataclass
class Account:
    """The provider, what it talks to, and the one instance."""

    aws: Aws
    emulator: Emulator
    clock: VirtualClock
    vm: Target

    def wait(self, seconds: float = 300.0) -> None:
        self.clock.advance(seconds)

    def actions(self) -> list[str]:
        """The mutations that were asked for by the provider, in order."""
        from tests.emulators.aws import MUTATIONS

        return [call.action for call in self.emulator.calls if call.action in MUTATIONS]


@pytest.fixture
def account() -> Iterator[Account]:
    with opened() as made:
        yield made


@contextmanager
def opened() -> Iterator[Account]:
    """Serve an account until the context ends."""
    clock = VirtualClock(NOW)
    emulator = Emulator(clock)
    emulator.start()
    try:
        ec2 = emulator.client("ec2")
        template = {"ImageId": emulator.image(), "InstanceType": SMALL.machine_type}
        ec2.create_launch_template(LaunchTemplateName="trainer", LaunchTemplateData=template)
        answer = ec2.run_instances(
            LaunchTemplate={"LaunchTemplateName": "trainer"}, InstanceType=SMALL.machine_type, MinCount=1, MaxCount=1,
            Placement={"AvailabilityZone": "us-east-1a"},
        )  # fmt: skip
        clock.advance(300)
        known = Catalog({one.id: one for one in (SMALL, LARGE, ARM)}, {ARM.machine_type: "arm64"})
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        client = Client("us-east-1", Budget(clock), emulator.url, keys)
        emulator.calls.clear()
        vm = Target("aws", "vm", answer["Instances"][0]["InstanceId"], "us-east-1a")
        yield Account(Aws("aws", client, client, known, clock), emulator, clock, vm)
    finally:
        emulator.close()
