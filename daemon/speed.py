"""Pure decisions: how long a step takes on an offer, relative to the machine the job runs on now.

Best knowledge first: what this job has shown on that machine type itself, then for GPUs the law of
``daemon.throughput`` with all that the job has shown, for CPUs how busy the job keeps the present machine's cores. A
factor of 2 means that a step takes twice as long there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from daemon import throughput
from daemon.gpus import DATA_SHEETS, named
from daemon.throughput import Law, Learned, Point
from daemon.types import Floats, History
from providers.types import Offer

PRIOR_SPREAD_CPU = 0.15
OBSERVED_SPREAD = 0.05
SATURATED = 0.85
LEAST_ROWS = 3
BATCHES = ("hp.batch_size", "hp.batch_tokens", "hp.batch")
"""The columns that hold the batch of one step over all GPUs, best first."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """What is known of a job's speed. ``observed`` maps an offer id to its step time over the present offer's.

    ``steps`` is what was learned of its steps on GPUs, ``batch`` the present batch over all GPUs; only its ratio to
    the batches of other observations counts.
    """

    observed: Mapping[str, float] = field(default_factory=dict)
    cpu_cores_used: float | None = None
    steps: Learned | None = None
    batch: float = 1.0

    def factors(self, current: Offer, offers: Sequence[Offer]) -> tuple[Floats, Floats]:
        """Give step-time factors float[O] and their log standard deviations float[O].

        Infinite where the job cannot run at all: it uses GPUs now and the offer has none.
        """
        if current.resources.gpus:
            factor, spread = self._on_gpus(current, offers)
        else:
            now = current.resources.cpu_cores * current.nodes
            pairs = [_cpu_factor(now, o.resources.cpu_cores * o.nodes, self.cpu_cores_used) for o in offers]
            factor, spread = np.array(pairs).reshape(-1, 2).T.copy()
        for i, offer in enumerate(offers):
            if _same_machine(offer, current):
                factor[i], spread[i] = 1.0, 0.0
            elif offer.id in self.observed:
                factor[i], spread[i] = self.observed[offer.id], OBSERVED_SPREAD
        return factor, spread

    def _on_gpus(self, current: Offer, offers: Sequence[Offer]) -> tuple[Floats, Floats]:
        here = point(current, self.batch)
        able = np.array([offer.resources.gpus > 0 for offer in offers], dtype=np.bool_)
        points = [point(offer, self.batch) for offer in offers if offer.resources.gpus]
        factor, spread = np.full(len(offers), math.inf), np.zeros(len(offers))
        if points:
            steps = self.steps or throughput.learn(Law(), [here], [1.0])
            log, deviation = steps.asked([here.gpu, *(one.gpu for one in points)]).ratios(points, here)
            # Without a data sheet of both nothing is known of their ratio: never promise a gain.
            known = np.array([one.gpu == here.gpu or (one.gpu in DATA_SHEETS and here.gpu in DATA_SHEETS)
                              for one in points])  # fmt: skip
            factor[able], spread[able] = np.exp(np.where(known, log, np.maximum(log, 0.0))), deviation
        return factor, spread


def point(offer: Offer, batch: float) -> Point:
    """Say where a step runs on an offer, for a batch over all GPUs."""
    count = offer.resources.gpus * offer.nodes
    model = offer.resources.gpu_model or ""
    return Point(named(model) or model, batch / count, count, offer.nodes)


def learn(history: History, current: Offer, offers: Sequence[Offer] = ()) -> Speeds:
    """Read a job's own speeds from its history: medians of step time at equal hyperparameters on each offer.

    ``offers`` says what the machines were that it ran on; rows on others teach only their ratio to the present one.
    """
    cores = history.columns.get("usage.cpu_cores")
    used = None
    if cores is not None and np.isfinite(cores).any():
        used = _quantile(cores[np.isfinite(cores)][-64:], 0.9)
    seconds = history.columns.get("step_seconds")
    if seconds is None or not len(history) or not (current.resources.gpus or len(set(history.offers)) > 1):
        return Speeds(cpu_cores_used=used)
    names = sorted(name for name in history.columns if name.startswith("hp.") and name != "hp.lr")
    set_to = {name: np.where(np.isfinite(column := history.columns[name]), column, -math.inf) for name in names}
    keys = list(zip(*(column.tolist() for column in set_to.values()), strict=True)) or [()] * len(history)
    medians = _medians(history, keys, seconds)
    observed = _observed_factors(medians, current.id)
    if not current.resources.gpus:
        return Speeds(observed, used)
    size = next((names.index(name) for name in BATCHES if name in names), None)
    steps = _steps(medians, keys[-1], size, {offer.id: offer for offer in (*offers, current)})
    return Speeds(observed, used, steps, _batch(keys[-1], size))


def _quantile(values: Floats, level: float) -> float:
    """Interpolate a quantile; numpy's own takes ten times as long for so few values."""
    ranked = np.sort(values)
    low = int(place := level * (len(ranked) - 1))
    high = min(low + 1, len(ranked) - 1)
    return float(ranked[low] + (place - low) * (ranked[high] - ranked[low]))


_Setting = tuple[float, ...]
"""Values of all hyperparameters but the learning rate, minus infinity where unknown."""
_Medians = Mapping[_Setting, Mapping[str, float]]
"""Median seconds of a step by hyperparameters and offer id."""


def _medians(history: History, keys: Sequence[_Setting], seconds: Floats) -> _Medians:
    ran: dict[_Setting, dict[str, list[float]]] = {}
    for key, offer, value in zip(keys, history.offers or ("",) * len(keys), seconds.tolist(), strict=True):
        if math.isfinite(value):
            ran.setdefault(key, {}).setdefault(offer, []).append(value)
    return {
        key: {offer: float(np.median(values)) for offer, values in by.items() if len(values) >= LEAST_ROWS}
        for key, by in ran.items()
    }


def _observed_factors(medians: _Medians, current: str) -> dict[str, float]:
    ratios: dict[str, list[float]] = {}
    for offers in medians.values():
        here = offers.get(current)
        if here:
            for offer, value in offers.items():
                ratios.setdefault(offer, []).append(value / here)
    return {offer: float(np.median(values)) for offer, values in ratios.items() if offer and offer != current}


def _steps(medians: _Medians, now: _Setting, size: int | None, offers: Mapping[str, Offer]) -> Learned | None:
    """Learn from every step on a known machine whose setting differs from the present one by its batch at most."""
    points: list[Point] = []
    seconds: list[float] = []
    for key, by in medians.items():
        alike = all(a == b for i, (a, b) in enumerate(zip(key, now, strict=True)) if i != size)
        for name, value in by.items() if alike else ():
            offer = offers.get(name)
            if offer is not None and offer.resources.gpus and value > 0:
                points.append(point(offer, _batch(key, size)))
                seconds.append(value)
    return throughput.learn(Law(), points, seconds) if points else None


def _batch(key: _Setting, size: int | None) -> float:
    return key[size] if size is not None and key[size] > 0 else 1.0


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
