"""Pure decisions: how long a step takes on an offer, relative to the machine the job runs on now.

Three kinds of knowledge, best first: what this job has shown on that machine type itself, how busy it keeps the
present machine's cores, and public figures of GPUs. A factor of 2 means that a step takes twice as long there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from daemon.types import Floats, History
from providers.types import Offer, Resources

GPU_RELATIVE_SPEED: Mapping[str, float] = {
    "K80": 0.25, "P4": 0.45, "T4": 0.55, "P100": 0.72, "M60": 0.35, "V100": 1.0, "T4G": 0.5, "A10G": 1.05, "A10": 1.05,
    "L4": 1.05, "A100": 2.1, "A100-40GB": 2.1, "A100-80GB": 2.3, "L40S": 2.0, "RTX PRO 6000": 2.6,
    "H100": 4.3, "H100-80GB": 4.3, "H200": 4.7, "B200": 8.5, "GB200": 8.8, "B300": 9.5,
}  # fmt: skip
"""Training speed of one GPU, V100 = 1: the geometric mean of the datasheets' dense half-precision rate and memory
bandwidth. A prior for the first guess only; one observed move replaces it for that job."""

SCALING_EXPONENT_IN_NODE = 0.9
SCALING_EXPONENT_BETWEEN_NODES = 0.8
PRIOR_SPREAD_GPU = 0.30
PRIOR_SPREAD_CPU = 0.15
SATURATED = 0.85


@dataclass(frozen=True, slots=True)
class Speeds:
    """What is known of a job's speed. ``observed`` maps an offer id to its step time over the present offer's."""

    observed: Mapping[str, float] = field(default_factory=dict)
    cpu_cores_used: float | None = None

    def factors(self, current: Offer, offers: Sequence[Offer]) -> tuple[Floats, Floats]:
        """Give step-time factors float[O] and their log standard deviations float[O].

        Infinite where the job cannot run at all: it uses GPUs now and the offer has none.
        """
        pairs = [self._factor(current, offer) for offer in offers]
        return np.array([f for f, _ in pairs]), np.array([s for _, s in pairs])

    def _factor(self, current: Offer, offer: Offer) -> tuple[float, float]:
        if _same_machine(offer, current):
            return 1.0, 0.0
        seen = self.observed.get(offer.id)
        if seen is not None:
            return seen, 0.05
        now, then = current.resources, offer.resources
        if now.gpus == 0:
            return _cpu_factor(now.cpu_cores * current.nodes, then.cpu_cores * offer.nodes, self.cpu_cores_used)
        if then.gpus == 0:
            return math.inf, 0.0
        return _gpu_rate(now, current.nodes) / _gpu_rate(then, offer.nodes), PRIOR_SPREAD_GPU


def learn(history: History, current: Offer) -> Speeds:
    """Read a job's own speeds from its history: medians of step time at equal hyperparameters on each offer."""
    cores = history.columns.get("usage.cpu_cores")
    used = None
    if cores is not None and np.isfinite(cores).any():
        used = float(np.quantile(cores[np.isfinite(cores)][-64:], 0.9))
    seconds = history.columns.get("step_seconds")
    if seconds is None or len(set(history.offers)) < 2:
        return Speeds(cpu_cores_used=used)
    return Speeds(_observed_factors(history, seconds, current.id), used)


def _observed_factors(history: History, seconds: Floats, current: str) -> dict[str, float]:
    names = sorted(name for name in history.columns if name.startswith("hp.") and name != "hp.lr")
    keys = list(zip(*(history.columns[name].tolist() for name in names), strict=True)) or [()] * len(history)
    medians: dict[tuple[float, ...], dict[str, float]] = {}
    for key in set(keys):
        rows = [i for i, other in enumerate(keys) if other == key and math.isfinite(seconds[i])]
        by_offer: dict[str, list[float]] = {}
        for i in rows:
            by_offer.setdefault(history.offers[i], []).append(float(seconds[i]))
        medians[key] = {offer: float(np.median(values)) for offer, values in by_offer.items() if len(values) >= 3}
    ratios: dict[str, list[float]] = {}
    for offers in medians.values():
        here = offers.get(current)
        if here:
            for offer, value in offers.items():
                ratios.setdefault(offer, []).append(value / here)
    return {offer: float(np.median(values)) for offer, values in ratios.items() if offer and offer != current}


def _same_machine(one: Offer, other: Offer) -> bool:
    return (one.machine_type, one.nodes, one.attached_gpus, one.resources) == (
        other.machine_type, other.nodes, other.attached_gpus, other.resources,
    )  # fmt: skip


def _cpu_factor(now: float, then: float, used: float | None) -> tuple[float, float]:
    if used is None:
        # Nothing known of its use: never promise a gain, fear a loss in proportion.
        return max(1.0, now / then), PRIOR_SPREAD_CPU * 2
    if used < SATURATED * now:
        return max(1.0, used / then), PRIOR_SPREAD_CPU if then < now else 0.02
    return (now / then) ** (0.7 if then > now else 1.0), PRIOR_SPREAD_CPU


def _gpu_rate(resources: Resources, nodes: int) -> float:
    model = resources.gpu_model or ""
    one = GPU_RELATIVE_SPEED.get(model) or GPU_RELATIVE_SPEED.get(model.split("-")[0], 1.0)
    return float(one * resources.gpus**SCALING_EXPONENT_IN_NODE * nodes**SCALING_EXPONENT_BETWEEN_NODES)
