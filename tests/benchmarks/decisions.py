"""Decisions a second with 500 offers and 64 trajectories, no model in the way."""

import gc
import resource
import time
from datetime import UTC, datetime

import numpy as np

from daemon.engine import Candidate, Case, weigh
from daemon.types import Forecast
from policies import guards
from policies.cost_per_progress import CostPerProgress
from policies.types import Settings, Situation
from providers import catalog
from providers.types import Offer

TRAJECTORIES, POINTS, OFFERS, TURNS = 64, 32, 500, 200


def measure() -> dict[str, float]:
    """Time whole decisions (engine, guards, policy) over real offers of the catalog."""
    now = datetime.now(UTC)
    offers = [offer for offer in catalog.load().offers() if offer.price is not None][: OFFERS + 1]
    chance = np.random.default_rng(0)
    seconds: list[float] = []
    spent: list[float] = []
    gc.collect()
    gc.freeze()  # as the daemon does once it has read its catalog
    for turn in range(TURNS):
        case = _case(chance, offers, now, turn)
        start, processor = time.perf_counter(), time.process_time()
        weighed = weigh(case)
        guards.decide(CostPerProgress(), Situation("job", now, case.settings, weighed.options))
        seconds.append(time.perf_counter() - start)
        spent.append(time.process_time() - processor)
    return {
        "decisions_per_second": 1 / float(np.mean(seconds)),
        "decision_p50_ms": float(np.quantile(seconds, 0.5)) * 1e3,
        "decision_p99_ms": float(np.quantile(seconds, 0.99)) * 1e3,
        "decision_cpu_p50_ms": float(np.quantile(spent, 0.5)) * 1e3,
        "decision_cpu_p99_ms": float(np.quantile(spent, 0.99)) * 1e3,
        "offers": float(len(offers) - 1),
        "trajectories": float(TRAJECTORIES),
        "resident_mib_of_this_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _case(chance: np.random.Generator, offers: list[Offer], now: datetime, turn: int) -> Case:
    steps = np.linspace(1000 / POINTS, 1000, POINTS).astype(np.int64)
    grows = steps[None] > 300 + 10 * turn + chance.normal(0, 50, (TRAJECTORIES, 1))
    forecast = Forecast(
        "job", now, 0, steps, np.full(TRAJECTORIES, 1 / TRAJECTORIES),
        {
            "step_seconds": np.abs(chance.normal(10, 1, (TRAJECTORIES, POINTS))),
            "usage.memory_gib": np.where(grows, 40.0, 12.0),
        },
        {"usage.memory_gib": np.full((TRAJECTORIES, POINTS), 0.5)}, finish_step=1000,
    )  # fmt: skip
    settings = Settings("default", "cost_per_progress", "v1", value_of_time_usd_per_hour=5.0)
    return Case(forecast, offers[0], [Candidate(offer) for offer in offers[1:]], settings, now)
