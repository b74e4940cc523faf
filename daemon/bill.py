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
from daemon.types import Action, Charge, Job
from providers.clock import Clock
from providers.types import Launch, Stop

LONGEST_SECONDS = 3600.0
DISK = "disk"
_BILLED = ("running", "pending", "stopping")


class Bill:
    """Charges jobs. Remembers each job's newest charge of machine and of disk, which are read once a process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._newest: dict[tuple[str, bool], Charge] = {}

    def charge(self, looks: Sequence[Look], acting: frozenset[str]) -> None:
        """Write down what these jobs cost since they were last charged, in one unit. Raises ``StoreError``."""
        now = self._clock.now()
        machines = [self._machine(look, look.job.name in acting, now) for look in looks]
        disks = [self._disk(look, now) for look in looks]
        found = [charge for charge in (*machines, *disks) if charge is not None]
        self._store.ledger.charge(found)
        self._newest.update({(charge.job, charge.reason == DISK): charge for charge in found})

    def overlap(self, action: Action) -> None:
        """Write down what the new machine of a replacement cost before it was used. Idempotent. Raises ``StoreError``.

        Until the old machine is told to stop only that one is charged turn by turn; from then on the new one is.
        """
        price = action.new.price
        if action.route != "replace" or price is None:
            return
        calls = self._store.actions.calls(action.id)
        begun = next((c.sent_at for c in calls if isinstance(c.call, Launch) and c.state == "accepted"), None)
        if begun is None:
            return
        closed = action.closed_at or self._clock.now()
        ended = next((c.sent_at for c in calls if isinstance(c.call, Stop)), closed)
        seconds = (ended - begun).total_seconds()
        if seconds > 0:
            usd = price.usd_per_hour * seconds / 3600
            self._store.ledger.charge([Charge(action.job, action.new.id, begun, seconds, usd, "overlap")])

    def forget(self, job: str) -> None:
        """Forget a job that was removed; its charges stay."""
        self._newest.pop((job, False), None)
        self._newest.pop((job, True), None)

    def _machine(self, look: Look, moving: bool, now: datetime) -> Charge | None:
        here, name = look.allocation, look.job.name
        if here is None:
            return None
        last = self._last(look.job, disk=False)
        if here.state not in _BILLED:
            # Nothing to pay while it stands: what comes next begins where it is seen to run again.
            self._newest[name, False] = Charge(name, here.offer.id, now, 0.0, 0.0, "stopped")
            return None
        if here.offer.price is None:
            return None
        return _due(last, here.offer.id, here.offer.price.usd_per_hour, "moving" if moving else "running", now)

    def _disk(self, look: Look, now: datetime) -> Charge | None:
        """Charge what the policy says that the disks cost, also while the machine stands."""
        here, settings = look.allocation, look.settings
        if here is None or settings is None or settings.prices.disk_usd_per_hour <= 0 or here.state == "terminated":
            return None
        last = self._last(look.job, disk=True)
        return _due(last, here.offer.id, settings.prices.disk_usd_per_hour, DISK, now)

    def _last(self, job: Job, disk: bool) -> Charge:
        known = self._newest.get((job.name, disk))
        if known is None:
            kept = [
                c for c in self._store.ledger.charges(job.name) if (c.reason == DISK) is disk and c.reason != "overlap"
            ]
            known = kept[-1] if kept else Charge(job.name, "", job.registered_at, 0.0, 0.0)
            if known.start + timedelta(seconds=known.seconds) < job.registered_at:
                # An earlier job had this name.
                known = Charge(job.name, "", job.registered_at, 0.0, 0.0)
            self._newest[job.name, disk] = known
        return known


def _due(last: Charge, offer: str, usd_per_hour: float, reason: str, now: datetime) -> Charge | None:
    start = last.start + timedelta(seconds=last.seconds)
    seconds = (now - start).total_seconds()
    if seconds <= 0:
        return None
    fresh = Charge(last.job, offer, start, seconds, usd_per_hour / 3600 * seconds, reason)
    return _grown(last, fresh) if _continues(last, fresh) else fresh


def _continues(last: Charge, fresh: Charge) -> bool:
    return (
        last.seconds > 0
        and (last.offer, last.reason) == (fresh.offer, fresh.reason)
        and math.isclose(last.usd / last.seconds, fresh.usd / fresh.seconds, rel_tol=1e-9)
        and last.seconds + fresh.seconds <= LONGEST_SECONDS
    )


def _grown(last: Charge, fresh: Charge) -> Charge:
    return replace(last, seconds=last.seconds + fresh.seconds, usd=last.usd + fresh.usd)
