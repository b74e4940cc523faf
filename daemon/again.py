"""Pure decisions: recorded decisions made again, under their own policy and under an edited one.

What an edit would have cost is an estimate: after the first choice that differs, the job would have gone another way,
and what was recorded from there on did not happen to it. So each job's estimate rests on that first difference alone.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from daemon import turn
from daemon.store.codec import dumps
from daemon.types import Charge, Decision, DecisionStatus
from policies.base import Policy, shares
from policies.types import Choice, Option, Settings, Situation, Spread

Make = Callable[[Settings], Policy]

CARRIED_OUT: frozenset[DecisionStatus] = frozenset({"approved", "acting", "done", "released"})
BASIS = (
    "An estimate. Each decision on record is made again from the situation it was made in, with dollars, hours and "
    "chances as they were weighed then; an edit of prices, memory margin or a fleet's budget does not change those. A "
    "job's figure is what it spent, plus the difference between the two choices at the first decision that differs, as "
    "if the new one had been carried out, up to the job's newest decision. Later differences are listed, not added."
)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate: its middle, and what lies between the 10 and 90 % quantiles of the forecast it rests on."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that would have been another one. ``usd`` and ``hours`` are to the finish, new less old."""

    decision: str
    job: str
    at: datetime
    before: Choice
    after: Choice
    usd: Interval
    hours: Interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job spent since a moment, and what it would have spent under the edited policy."""

    job: str
    spent_usd: float
    usd: Interval
    differs_at: datetime | None


@dataclass(frozen=True, slots=True)
class Diff:
    """What an edit would have changed. ``other`` counts decisions under policies that the file does not hold."""

    since: datetime
    decisions: int
    other: int
    differences: tuple[Difference, ...]
    jobs: tuple[Estimate, ...]
    basis: str = BASIS

    @property
    def spent_usd(self) -> float:
        """What all of the jobs have spent since then."""
        return sum(one.spent_usd for one in self.jobs)

    @property
    def usd(self) -> Interval:
        """What they would have spent; its ends are the sums of theirs, as if all came out cheap, or all dear."""
        mean, low, high = (sum(getattr(one.usd, end) for one in self.jobs) for end in ("mean", "low", "high"))
        return Interval(mean, low, high)


def same(decision: Decision, policy: Policy) -> bool:
    """Say whether a decision, made again from its record, comes out the same bit for bit.

    Raises ``ValueError`` when the record is gone.
    """
    return dumps(Choice, turn.replay(decision, policy)) == dumps(Choice, decision.choice)


@dataclass(slots=True)
class _Job:
    """What is kept of one job while its decisions go by."""

    newest: datetime
    old: Option | None = None
    new: Option | None = None
    differs_at: datetime | None = None


def diff(
    decisions: Iterable[Decision], charges: Callable[[str], Sequence[Charge]], settings: Sequence[Settings], make: Make,
    since: datetime,
) -> Diff:  # fmt: skip
    """Make every recorded decision again under the policies of a file; they come oldest first and go by once."""
    policies = {one.name: (one, make(one)) for one in settings}
    jobs: dict[str, _Job] = {}
    found: list[Difference] = []
    count = other = 0
    for decision in decisions:
        if decision.policy not in policies or decision.situation is None:
            other += 1
            continue
        count += 1
        newest = decision.last_at or decision.at
        job = jobs.setdefault(decision.job, _Job(newest))
        job.newest = max(job.newest, newest)
        rules, policy = policies[decision.policy]
        after = turn.choose(policy, under(decision.situation, rules, shares(policy)))
        old, new = decision.choice.option, after.option
        if (old.offer.id, old.route) == (new.offer.id, new.route):
            continue
        found.append(_difference(decision, after))
        if job.differs_at is None:
            job.old, job.new, job.differs_at = _done(decision), new, decision.at
    estimates = tuple(_estimate(name, jobs[name], charges(name), since) for name in sorted(jobs))
    return Diff(since, count, other, tuple(found), estimates)


def under(seen: Situation, settings: Settings, shares: bool) -> Situation:
    """Put another policy's settings into a recorded situation; objectives follow its value of time.

    ``shares`` says whether the policy knows shares: one that was recorded stays then.
    """
    old, value = seen.settings, settings.value_of_time_usd_per_hour
    options = seen.options
    if value != old.value_of_time_usd_per_hour:
        options = tuple(_valued(option, seen.stay, value) for option in options)
    total = settings.limits.usd_total
    known = None if seen.budget_usd == old.limits.usd_total else seen.budget_usd
    budget = min((limit for limit in (known, total) if limit is not None), default=None)
    part = seen.share_usd_per_hour if shares else None
    return replace(seen, settings=settings, options=options, budget_usd=budget, share_usd_per_hour=part)


def _valued(option: Option, stay: Option, value: float) -> Option:
    objective = _sum(option.usd, option.hours, value)
    # Not moving for money is not recorded: time is taken to be worth as much more there as for staying.
    dearer = _sum(stay.usd, stay.hours, value).mean - stay.objective.mean
    mean = option.saving.mean + dearer - (objective.mean - option.objective.mean)
    moved = tuple(decile - option.saving.mean + mean for decile in option.saving.deciles)
    return replace(option, objective=objective, saving=Spread(mean, moved))


def _sum(usd: Spread, hours: Spread, value: float) -> Spread:
    pairs = zip(usd.deciles, hours.deciles, strict=True)
    return Spread(usd.mean + value * hours.mean, tuple(dollars + value * time for dollars, time in pairs))


def _difference(decision: Decision, after: Choice) -> Difference:
    old, new = _done(decision), after.option
    usd = _less(_ends(new.usd), _ends(old.usd), new.usd.mean - old.usd.mean)
    hours = _less(_ends(new.hours), _ends(old.hours), new.hours.mean - old.hours.mean)
    before, after = (replace(choice, rejected=()) for choice in (decision.choice, after))
    return Difference(decision.id, decision.job, decision.at, before, after, usd, hours)


def _done(decision: Decision) -> Option:
    """Name what really came of a decision: a move that was only recommended is staying."""
    if decision.status in CARRIED_OUT or decision.situation is None:
        return decision.choice.option
    return decision.situation.stay


def _ends(spread: Spread) -> tuple[float, ...]:
    return (spread.deciles[0], spread.deciles[8])


def _less(new: Sequence[float], old: Sequence[float], mean: float) -> Interval:
    ends = [a - b for a, b in zip(new, old, strict=True) if math.isfinite(a - b)] or [mean]
    return Interval(mean, min(*ends, mean), max(*ends, mean))


def _estimate(name: str, job: _Job, charges: Sequence[Charge], since: datetime) -> Estimate:
    spent = sum(charge.usd for charge in charges if charge.start >= since)
    if job.old is None or job.new is None or job.differs_at is None:
        return Estimate(name, spent, Interval(spent, spent, spent), None)
    hours = (job.newest - job.differs_at).total_seconds() / 3600
    ends = [_within(job.new, hours, k) - _within(job.old, hours, k) for k in (0, 8)]
    mean = _until(job.new.usd.mean, job.new.hours.mean, hours) - _until(job.old.usd.mean, job.old.hours.mean, hours)
    return Estimate(
        name, spent, Interval(spent + mean, spent + min(*ends, mean), spent + max(*ends, mean)), job.differs_at
    )


def _within(option: Option, hours: float, decile: int) -> float:
    return _until(option.usd.deciles[decile], option.hours.deciles[decile], hours)


def _until(usd: float, hours_to_finish: float, hours: float) -> float:
    """Take the part of the dollars to the finish that falls within so many hours; letting go is paid at once."""
    if not math.isfinite(hours_to_finish) or hours_to_finish <= 0:
        return usd
    return usd * min(1.0, hours / hours_to_finish)
