"""Edge: the chores, on APScheduler. A chore wakes workers or reads; no mutation of a cloud runs inside one.

Shutting the scheduler down cancels what runs in it, which is harmless for every chore here.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import cast

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from daemon.store.base import Store, StoreError
from providers.base import Priced, Provider
from providers.clock import Clock
from providers.errors import ProviderError

log = structlog.get_logger()

PRICE_HOURS = 6.0
RETENTION_HOURS = 1.0
SWEEP_MINUTES = 10.0
ROWS_KEPT = 20_000
RECORD_DAYS = 90.0
"""How long the situation that a decision was made in is kept; the decision itself is never removed."""


def chores(
    store: Store, providers: Mapping[str, Provider], clock: Clock, wake: Callable[[], None],
    record_days: float = RECORD_DAYS, leads: Callable[[], bool] = lambda: True,
) -> AsyncIOScheduler:  # fmt: skip
    """Make the scheduler with every chore on it, not yet started. Intervals run on the daemon's clock.

    The store is kept bounded where ``leads`` says that this is ours to do. Prices are in each process's memory, so
    that each refreshes its own.
    """
    scheduler = AsyncIOScheduler(
        timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
    )

    def every(seconds: float, chore: Callable[[], object], name: str) -> None:
        scheduler.add_job(chore, "interval", seconds=max(1.0, clock.real_seconds(seconds)), id=name, name=name)

    async def refresh_prices() -> None:
        for name, provider in providers.items():
            if not hasattr(provider, "refresh_prices"):
                continue
            try:
                accepted = await asyncio.to_thread(cast(Priced, provider).refresh_prices)
            except ProviderError as error:
                log.warning("prices could not be refreshed; the old ones stay", provider=name, error=str(error))
            else:
                log.info("prices refreshed", provider=name, accepted=accepted)

    async def retain() -> None:
        if not leads():
            return
        try:
            await asyncio.to_thread(store.retention.prune, ROWS_KEPT)
            await asyncio.to_thread(store.decisions.forget, clock.now() - timedelta(days=record_days))
        except StoreError as error:
            log.warning("old telemetry or records could not be removed", error=str(error))

    async def sweep() -> None:
        wake()

    every(PRICE_HOURS * 3600, refresh_prices, "prices")
    every(RETENTION_HOURS * 3600, retain, "retention")
    every(SWEEP_MINUTES * 60, sweep, "sweep")
    return scheduler
