"""Values: a few offers of two families, written out so that no test hangs on the price catalog."""

from datetime import UTC, datetime

from providers.types import Buying, Offer, Price, Resources

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def offer(
    kind: str,
    usd_per_hour: float | None,
    cores: float = 8,
    memory_gib: float = 32,
    gpus: int = 0,
    model: str | None = None,
    buying: Buying = "on_demand",
    attached: int = 0,
    zone: str = "us-east-1a",
) -> Offer:
    """Make an offer of one node."""
    price = None if usd_per_hour is None else Price(usd_per_hour, "a test", NOW)
    resources = Resources(cores, memory_gib, gpus, model, 16.0 if gpus else 0.0)
    return Offer("aws", "us-east-1", kind, resources, price, zone, 1, attached, buying)


SMALL = offer("m7i.2xlarge", 0.4)
LARGE = offer("m7i.4xlarge", 0.8, cores=16, memory_gib=64)
GPU = offer("g5.xlarge", 1.0, cores=4, memory_gib=16, gpus=1, model="A10G")
FAR = offer("p4d.24xlarge", 32.0, cores=96, memory_gib=1152, gpus=8, model="A100")
SPOT = offer("g5.xlarge", 0.3, cores=4, memory_gib=16, gpus=1, model="A10G", buying="spot")
ELSEWHERE = offer("m7i.4xlarge", 0.8, cores=16, memory_gib=64, zone="us-east-1b")
UNPRICED = offer("x9.huge", None)
N1 = offer("n1-standard-8", 0.38, memory_gib=30)
N1_T4 = offer("n1-standard-8", 0.73, memory_gib=30, gpus=1, model="T4", attached=1)
N1_2T4 = offer("n1-standard-8", 1.08, memory_gib=30, gpus=2, model="T4", attached=2)
N1_BIG_T4 = offer("n1-standard-16", 1.11, cores=16, memory_gib=60, gpus=1, model="T4", attached=1)
OFFERS = (SMALL, LARGE, GPU, FAR, SPOT, ELSEWHERE, UNPRICED, N1, N1_T4, N1_2T4, N1_BIG_T4)
