"""A strict Compute Engine with one running instance in it, and the provider over it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from providers.budget import Budget
from providers.catalog import Catalog
from providers.clock import VirtualClock
from providers.gcp.client import Client
from providers.gcp.provider import Gcp
from providers.types import Offer, Price, Resources, Target
from tests.emulators.gce import MUTATIONS, Emulator

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
ZONE = "us-central1-a"


def offer(kind: str, cores: float, gpus: int = 0, model: str | None = None, attached: int = 0) -> Offer:
    resources = Resources(cores, 3.75 * cores, gpus, model, 16.0 if gpus else 0.0)
    return Offer("gcp", "us-central1", kind, resources, Price(1.0, "a test", NOW), ZONE, 1, attached)


N1, N1_BIG = offer("n1-standard-8", 8), offer("n1-standard-16", 16)
N1_T4 = offer("n1-standard-8", 8, 1, "T4", 1)
N1_BIG_T4 = offer("n1-standard-16", 16, 1, "T4", 1)
A2 = offer("a2-highgpu-1g", 12, 1, "A100-40GB")
KNOWN = (N1, N1_BIG, N1_T4, N1_BIG_T4, A2)


@dataclass
class Project:
    """The provider, what it talks to, and the one instance."""

    gcp: Gcp
    emulator: Emulator
    clock: VirtualClock
    vm: Target

    def wait(self, seconds: float = 300.0) -> None:
        self.clock.advance(seconds)

    def methods(self) -> list[str]:
        """The mutations that were asked for, in order."""
        return [call.method for call in self.emulator.calls if call.method in MUTATIONS]


@pytest.fixture
def project() -> Iterator[Project]:
    clock = VirtualClock(NOW)
    emulator = Emulator(clock)
    emulator.start()
    try:
        emulator.template("trainer", "n1-standard-8")
        emulator.instance("vm-1", ZONE, "n1-standard-8")
        known = Catalog({one.id: one for one in KNOWN})
        client = Client(emulator.project, Budget(clock), emulator.url)
        yield Project(Gcp("gcp", client, known, 4), emulator, clock, Target("gcp", "vm", "vm-1", ZONE))
    finally:
        emulator.close()
