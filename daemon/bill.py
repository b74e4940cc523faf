"""Edge: what jobs cost, written to the ledger by the price of the machine each is on.

A charge grows from turn to turn while machine, price and reason stay, for an hour at most: the ledger grows by the
hour, and not by the turn.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from daemon.look import Look
from daemon.store.base import Store
from daemon.types import Charge, Job
from providers.clock import Clock

LONGEST_SECONDS = 3600.0
_BILLED = ("running", "pending", "stopping")


class Bill:
    """Charges jobs. Remembers each job's newest charge, which is read once a process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._newest: dict[str, Charge] = {}

    def charge(self, looks: Sequence[Look], acting: frozenset[str]) -> None:
        """Write down what these jobs cost since they were last charged, in one unit. Raises ``StoreError``."""
        now = self._clock.now()
        found = [charge for look in looks if (charge := self._due(look, look.job.name in acting, now)) is not None]
        self._store.ledger.charge(found)
        self._newest.update({charge.job: charge for charge in found})

    def forget(self, job: str) -> None:
        """Forget a job that was removed; its charges stay."""
        self._newest.pop(job, None)

    def _due(self, look: Look, moving: bool, now: datetime) -> Charge | None:
        here, name = look.allocation, look.job.name
        if here is None:
            return None
        last = self._last(look.job)
        if here.state not in _BILLED:
            # Nothing to pay while it stands: what comes next begins where it is seen to run again.
            self._newest[name] = Charge(name, here.offer.id, now, 0.0, 0.0, "stopped")
            return None
        start = last.start + timedelta(seconds=last.seconds)
        seconds = (now - start).total_seconds()
        if here.offer.price is None or seconds <= 0:
            return None
        rate = here.offer.price.usd_per_hour / 3600
        reason = "moving" if moving else "running"
        fresh = Charge(name, here.offer.id, start, seconds, rate * seconds, reason)
        return _grown(last, fresh) if _continues(last, fresh) else fresh

    def _last(self, job: Job) -> Charge:
        known = self._newest.get(job.name)
        if known is None:
            kept = self._store.ledger.charges(job.name)
            known = kept[-1] if kept else Charge(job.name, "", job.registered_at, 0.0, 0.0)
            if known.start + timedelta(seconds=known.seconds) < job.registered_at:
                # An earlier job had this name.
                known = Charge(job.name, "", job.registered_at, 0.0, 0.0)
            self._newest[job.name] = known
        return known


def _continues(last: Charge, fresh: Charge) -> bool:
    return (
        last.seconds > 0
        and (last.offer, last.reason) == (fresh.offer, fresh.reason)
        and math.isclose(last.usd / last.seconds, fresh.usd / fresh.seconds, rel_tol=1e-9)
        and last.seconds + fresh.seconds <= LONGEST_SECONDS
    )


def _grown(last: Charge, fresh: Charge) -> Charge:
    return replace(last, seconds=last.seconds + fresh.seconds, usd=last.usd + fresh.usd)
