"""A sweep over 10,000 jobs with a few offers each: look, engine, reactive twin, guards, policy, the written decision.

Histories, forecasts and the cloud's answers are at hand already: the store, the forecaster and the poller have
benchmarks of their own.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from types import SimpleNamespace
from typing import cast

import numpy as np

from daemon import turn
from daemon.config import Timing
from daemon.forecast.base import Horizon
from daemon.forecast.persist import Persist
from daemon.store.base import Store
from daemon.types import Forecast, History, Job, JobStatus
from daemon.watch import Known, Watch
from policies.base import Policy
from policies.cost_per_progress import CostPerProgress
from policies.types import Settings
from providers import catalog
from providers.base import Provider
from providers.clock import SystemClock
from providers.types import Allocation, InPlace, Offer, Route, Target

REPLICAS = 2
TIMES = ("sweep_seconds", "sweep_cpu_seconds")
JOBS, BATCH, OFFERS, SETTINGS = 10_000, 500, 12, 20
TRAJECTORIES, POINTS, ROWS = 64, 32, 64


def measure(jobs: int = JOBS) -> dict[str, float]:
    """Time the whole sweep: in one process, and divided between two, as two replicas on two cores divide it."""
    alone = sweep(jobs)
    with ProcessPoolExecutor(REPLICAS, get_context("spawn")) as pool:
        parts = list(pool.map(sweep, [jobs // REPLICAS] * REPLICAS))
    return alone | {f"{REPLICAS}_processes_{name}": max(part[name] for part in parts) for name in TIMES}


def sweep(jobs: int) -> dict[str, float]:
    """Sweep over some jobs in this process: seconds by the wall and of the processor, and how many would move."""
    now = datetime.now(UTC)
    offers = [offer for offer in catalog.load().offers() if offer.price is not None and not offer.resources.gpus]
    chance = np.random.default_rng(0)
    made = [_forecast(chance, now, shift) for shift in range(SETTINGS)]
    histories = [_history(chance, offers[i], shift) for i, shift in enumerate(range(SETTINGS))]
    watch = Watch(
        _store(histories), _Policies(), {"here": cast(Provider, _Cloud(offers[: OFFERS + 1]))}, _Forecasts(made),
        Persist(), SystemClock(), Timing(), ThreadPoolExecutor(2),
    )  # fmt: skip
    gc.collect()
    gc.freeze()
    wall, spent = time.perf_counter(), time.process_time()
    moves = asyncio.run(_sweep(watch, jobs, now))
    wall, spent = time.perf_counter() - wall, time.process_time() - spent
    return {"sweep_seconds": wall, "sweep_cpu_seconds": spent, "jobs": float(jobs), "moves": float(moves)}


async def _sweep(watch: Watch, jobs: int, now: datetime) -> int:
    status = JobStatus(heard_at=now, run="r")
    moves = 0
    for first in range(0, jobs, BATCH):
        known = [
            Known(Job(f"job-{i}", now, "default", target=Target("here", "vm", f"i-{i}", "zone")), status)
            for i in range(first, min(first + BATCH, jobs))
        ]
        for look in await watch.look(known):
            if look.choice is None or look.settings is None:
                raise AssertionError(f"a job was not weighed: {look.reason}")
            decision = turn.decide("d", look, look.settings, "recommend", now)
            moves += decision.status != "no_change"
    return moves


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _store(histories: Sequence[History]) -> Store:
    def read(names: Sequence[str]) -> Mapping[str, History]:
        return {name: replace(histories[_number(name) % len(histories)], job=name) for name in names}

    telemetry = SimpleNamespace(histories=read, drifts=dict, save_forecasts=lambda forecasts, drifts: None)
    spent: Callable[[str], float] = lambda name: 0.0  # noqa: E731 - a stand-in of one line
    return cast(Store, SimpleNamespace(telemetry=telemetry, ledger=SimpleNamespace(spent=spent)))


@dataclass(frozen=True, slots=True)
class _Forecasts:
    made: Sequence[Forecast]

    async def forecast(
        self, histories: Sequence[History], horizon: Horizon, timeout: float
    ) -> tuple[list[Forecast], str]:
        return [replace(self.made[_number(h.job) % len(self.made)], job=h.job) for h in histories], ""


class _Policies:
    def get(self, name: str) -> tuple[Settings, Policy]:
        return Settings("default", "cost_per_progress", "v1", value_of_time_usd_per_hour=5.0), CostPerProgress()

    def make(self, settings: Settings) -> Policy:
        return CostPerProgress()


class _Cloud:
    """A cloud that answers at once, and always with a way."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        self._offers = offers

    def describe(self, target: Target) -> Allocation:
        return Allocation(target, "running", self._offers[_number(target.id) % len(self._offers)])

    def offers(self, target: Target) -> Sequence[Offer]:
        return self._offers

    def route(self, allocation: Allocation, offer: Offer) -> Route:
        return InPlace(("machine_type",))


def _history(chance: np.random.Generator, offer: Offer, shift: int) -> History:
    columns = {
        "step_seconds": np.abs(chance.normal(10, 1, ROWS)), "usage.memory_gib": np.full(ROWS, 12.0),
        "usage.cpu_cores": np.full(ROWS, 3.0), "hp.batch_size": np.full(ROWS, 64.0),
    }  # fmt: skip
    return History(
        "job", np.arange(ROWS), np.arange(ROWS) * 10.0, columns, (offer.id,) * ROWS, total_steps=2000 + shift
    )


def _forecast(chance: np.random.Generator, now: datetime, shift: int) -> Forecast:
    steps = np.linspace(1000 / POINTS, 1000, POINTS).astype(np.int64)
    grows = steps[None] > 300 + 10 * shift + chance.normal(0, 50, (TRAJECTORIES, 1))
    return Forecast(
        "job", now, 0, steps, chance.dirichlet(np.ones(TRAJECTORIES)),
        {
            "step_seconds": np.abs(chance.normal(10, 1, (TRAJECTORIES, POINTS))),
            "usage.memory_gib": np.where(grows, 40.0, 12.0),
        },
        {"usage.memory_gib": np.full((TRAJECTORIES, POINTS), 0.5)}, finish_step=1000,
    )  # fmt: skip
