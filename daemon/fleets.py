"""Edge: jobs weighed and not yet decided for, and what the jobs of fleets cost an hour, remembered between turns."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from daemon.engine import Case
from daemon.look import Look
from daemon.types import Job, JobStatus
from policies.base import Policy, shares
from policies.types import Choice, Option, Situation
from providers.types import Allocation, Offer


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a job between turns."""

    job: Job
    status: JobStatus
    moves: tuple[datetime, ...] = ()
    acting: bool = False


@dataclass(frozen=True, slots=True)
class Weighed:
    """A job weighed and not yet decided for. ``shadow`` are the options as the reactive twin sees them.

    ``foretold`` are the case and the options by the forecast alone, where experts are weighed by reward.
    """

    look: Look
    known: Known
    policy: Policy
    situation: Situation
    shadow: tuple[Option, ...]
    foretold: tuple[Case, tuple[Option, ...]] | None = None


def rate(allocation: Allocation, offer: Offer) -> float:
    """Give the dollars an hour of a machine at the price of ``offer``; one that is off costs nothing that counts."""
    running = allocation.state not in ("stopped", "terminated")
    return offer.price.usd_per_hour if running and offer.price is not None else 0.0


class Fleets:
    """What the jobs of fleet policies cost an hour, remembered between turns, and their shares of it.

    A job counts with the dearer of its machine and the one chosen for it, so that a budget holds while a move is under
    way, and while only some of its jobs are looked at.
    """

    def __init__(self) -> None:
        self._rates: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()

    def costs(self, job: Job, allocation: Allocation) -> None:
        """Note what a job's machine costs; never less than was promised to it."""
        self.promised(job, rate(allocation, allocation.offer))

    def promised(self, job: Job, usd_per_hour: float) -> None:
        """Note what a job may come to cost."""
        with self._lock:
            for policy, others in self._rates.items():
                if policy != job.policy:
                    others.pop(job.name, None)
            mine = self._rates.setdefault(job.policy, {})
            mine[job.name] = max(usd_per_hour, mine.get(job.name, 0.0))

    def chosen(self, job: Job, policy: Policy, choice: Choice) -> None:
        """Note what was chosen for a job."""
        if shares(policy):
            self.promised(job, choice.option.usd_per_hour)

    def shares(self, weighed: Sequence[Weighed]) -> dict[str, float | Exception]:
        """Ask each fleet policy to share its budget among the jobs of this batch; what it raises stands for them."""
        fleets: dict[str, list[Weighed]] = {}
        for one in weighed:
            if shares(one.policy):
                fleets.setdefault(one.look.job.policy, []).append(one)
        found: dict[str, float | Exception] = {}
        for name, members in fleets.items():
            free = [one for one in members if not one.known.acting]
            policy = members[0].policy
            assert shares(policy)
            try:
                found.update(policy.share([one.situation for one in free], self._taken(name, free)))
            except Exception as error:  # border: a policy is somebody else's code.
                found.update({one.look.job.name: error for one in members})
        return found

    def _taken(self, policy: str, free: Sequence[Weighed]) -> float:
        with self._lock:
            mine = self._rates.setdefault(policy, {})
            for one in free:  # these are decided for anew
                mine[one.look.job.name] = one.situation.stay.usd_per_hour
            return sum(mine.values()) - sum(one.situation.stay.usd_per_hour for one in free)

    def forget(self, job: str) -> None:
        """Forget a job."""
        with self._lock:
            for mine in self._rates.values():
                mine.pop(job, None)
