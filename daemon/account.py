"""Pure decisions: what a job cost by attempt, what other ways would have cost, and moves promised against realised.

The other ways are estimates. The work of each interval that a job ran is put on another machine by the ratio of the
two machines' hours in the decision in force then; how that ratio varies over the forecast's deciles is the interval.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from daemon.again import Interval
from daemon.store.base import Span
from daemon.types import Charge, Decision, History, Outcome
from policies.types import Option

Way = Literal["no_move", "static_best", "reactive"]

BASIS = (
    "Estimates: the work that was done, priced on other machines by the speeds and prices of the decisions on record "
    "then. The interval is the forecast's 10 to 90 %. No kill and no work done twice is counted for a way not taken."
)
WORKING = frozenset({"running"})
UNFIT = 0.5
ROWS = 16
"""So many reports on each side of a move tell the pace before and after it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one run of a job cost, from its first report to the next run's; ``run`` is ``None`` before any report."""

    run: str | None
    began: datetime
    usd: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """What another way would have cost; ``usd`` is ``None`` where nothing on record tells, and ``note`` says why."""

    way: Way
    offer: str | None
    usd: Interval | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a move was to bring, or did: ``pace`` is the step time on the new machine over that on the old."""

    pause_seconds: float | None
    move_usd: float | None
    usd_per_hour: float | None
    pace: float | None


@dataclass(frozen=True, slots=True)
class Move:
    """One move, promised against realised. ``saving`` is what it was to save to the finish, time valued."""

    action: str
    decision: str
    at: datetime
    stage: str
    from_offer: str
    to_offer: str
    saving: Interval
    promised: Promise
    realised: Promise


@dataclass(frozen=True, slots=True)
class Account:
    """All of a job's money. ``usd_by_reason`` sums to what was spent."""

    usd_by_reason: Mapping[str, float]
    attempts: tuple[Attempt, ...]
    alternatives: tuple[Alternative, ...]
    moves: tuple[Move, ...]
    basis: str = BASIS


@dataclass(frozen=True, slots=True)
class _Rate:
    """What a decision weighed of one offer: hours of running (mean, outer deciles), dollars an hour, chance, move."""

    hours: tuple[float, float, float]
    usd_per_hour: float
    misfit: float
    move_usd: float


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A decision as far as other ways need it; whole ones would fill the memory."""

    at: datetime
    twin: str
    least_misfit: float
    value_of_time: float
    offers: Mapping[str, _Rate]


def account(
    charges: Sequence[Charge], spans: Sequence[Span], decisions: Iterable[Decision],
    moves: Sequence[tuple[Outcome, Decision]], history: History,
) -> Account:  # fmt: skip
    """Put a job's account together. ``decisions`` are oldest first and are gone through once."""
    reasons: dict[str, float] = {}
    for charge in charges:
        reasons[charge.reason] = reasons.get(charge.reason, 0.0) + charge.usd
    known = [weighed for decision in decisions if (weighed := _weighed(decision)) is not None]
    work = [(charge, _in_force(known, charge)) for charge in charges if charge.reason in WORKING]
    told = tuple(_move(outcome, decision, charges, history) for outcome, decision in moves)
    return Account(reasons, tuple(_attempts(charges, spans)), tuple(_alternatives(work)), told)


def _weighed(decision: Decision) -> _Weighed | None:
    seen = decision.situation
    if seen is None:
        return None
    offers = {option.offer.id: _rate(option) for option in reversed(seen.options)}
    allowed = 1 - seen.settings.safety.memory_quantile + 1e-12
    twin = decision.shadow.partition(": ")[0]
    return _Weighed(decision.at, twin, allowed, seen.settings.value_of_time_usd_per_hour, offers)


def _rate(option: Option) -> _Rate:
    """Hours reach over later planned moves: a machine soon to be left has nearly those of the one it is left for.

    Where the step time itself was recorded, the hours are brought to it; what is not known of them stays beside it.
    """
    pause = option.pause_seconds / 3600
    hours = (option.hours.mean - pause, option.hours.deciles[0] - pause, option.hours.deciles[8] - pause)
    if option.factor is not None and math.isfinite(hours[0]) and hours[0] > 0:
        mean, low, high = (option.factor * part / hours[0] for part in hours)
        hours = (mean, low, high)
    return _Rate(hours, option.usd_per_hour, option.misfit, option.move_usd)


# Attempts.


def _attempts(charges: Sequence[Charge], spans: Sequence[Span]) -> list[Attempt]:
    """Share the charges among the runs by time; what came before the first report is the first run's."""
    if not charges:
        return []
    begins = [span.first_at for span in spans] or [charges[0].start]
    runs: list[str | None] = [span.run for span in spans] or [None]
    begins[0] = min(begins[0], charges[0].start)
    ends = [*begins[1:], datetime.max.replace(tzinfo=begins[0].tzinfo)]
    return [
        Attempt(run, begin, sum(_part(charge, begin, end) for charge in charges))
        for run, begin, end in zip(runs, begins, ends, strict=True)
    ]


def _part(charge: Charge, begin: datetime, end: datetime) -> float:
    if charge.seconds <= 0:
        return charge.usd if begin <= charge.start < end else 0.0
    stop = charge.start + timedelta(seconds=charge.seconds)
    inside = (min(stop, end) - max(charge.start, begin)).total_seconds()
    return charge.usd * max(0.0, inside) / charge.seconds


# Other ways.

_Work = Sequence[tuple[Charge, _Weighed | None]]


def _in_force(decisions: Sequence[_Weighed], charge: Charge) -> _Weighed | None:
    """Find the newest decision made before the middle of a charge, else the job's first one."""
    middle = charge.start + timedelta(seconds=charge.seconds / 2)
    place = bisect_right(decisions, middle, key=lambda decision: decision.at)
    return decisions[max(0, place - 1)] if decisions else None


def _alternatives(work: _Work) -> list[Alternative]:
    if not work or work[0][1] is None:
        ways: tuple[Way, ...] = ("no_move", "static_best", "reactive")
        return [Alternative(way, None, None, "no decision with its record covers what was run") for way in ways]
    return [_always("no_move", work[0][0].offer, work), _best(work), _reactive(work)]


def _always(way: Way, offer: str, work: _Work) -> Alternative:
    parts = [_on(offer, charge, decision) for charge, decision in work]
    if any(part is None for part in parts):
        return Alternative(way, offer, None, "not every decision on record weighed it")
    unfit = max(d.offers[offer].misfit for _, d in work if d is not None and offer in d.offers)
    note = f"it would not have fitted, with a chance of {unfit:.0%}" if unfit > UNFIT else ""
    return Alternative(way, offer, _total(part for part in parts if part is not None), note)


def _best(work: _Work) -> Alternative:
    """Find the machine that would have cost least, time valued, of those that every decision weighed and that fit."""
    known = [decision for _, decision in work if decision is not None]
    shared = set.intersection(*(set(decision.offers) for decision in known))
    fitting = [o for o in sorted(shared) if all(d.offers[o].misfit <= d.least_misfit for d in known)]
    value = known[0].value_of_time
    ways = [(_hours(offer, work), _always("static_best", offer, work)) for offer in fitting]
    priced = [(way.usd.mean + value * hours, way) for hours, way in ways if way.usd is not None]
    if not priced:
        return Alternative("static_best", None, None, "no machine was weighed, and fitted, throughout")
    return min(priced, key=lambda one: one[0])[1]


def _reactive(work: _Work) -> Alternative:
    """Follow the reactive twin: in each interval the machine it would have chosen, its moves paid."""
    parts: list[Interval] = []
    before: str | None = None
    for charge, decision in work:
        offer = decision.twin if decision is not None else ""
        part = _on(offer, charge, decision)
        if part is None or decision is None:
            return Alternative("reactive", None, None, "what the twin would have done is not on record throughout")
        moved = decision.offers[offer].move_usd if before is not None and offer != before else 0.0
        parts.append(Interval(part.mean + moved, part.low + moved, part.high + moved))
        before = offer
    return Alternative("reactive", None, _total(parts))


def _on(offer: str, charge: Charge, decision: _Weighed | None) -> Interval | None:
    """Price a charge's work on another machine, ``None`` where the decision in force did not weigh both."""
    if decision is not None and offer == charge.offer:
        return Interval(charge.usd, charge.usd, charge.usd)
    ratios = _ratios(offer, charge, decision)
    if ratios is None or decision is None:
        return None
    usd = [charge.seconds * ratio * decision.offers[offer].usd_per_hour / 3600 for ratio in ratios]
    return Interval(usd[0], min(usd), max(usd))


def _ratios(offer: str, charge: Charge, decision: _Weighed | None) -> list[float] | None:
    """Step time on a machine over the charge's: at the mean, and at the forecast's outer deciles."""
    if decision is None or offer not in decision.offers or charge.offer not in decision.offers:
        return None
    new, old = decision.offers[offer].hours, decision.offers[charge.offer].hours
    if any(not math.isfinite(hours) or hours <= 0 for hours in (*new, *old)):
        return None
    return [a / b for a, b in zip(new, old, strict=True)]


def _hours(offer: str, work: _Work) -> float:
    return sum(charge.seconds / 3600 * (_ratios(offer, charge, decision) or [1.0])[0] for charge, decision in work)


def _total(parts: Iterable[Interval]) -> Interval:
    kept = list(parts)
    return Interval(sum(p.mean for p in kept), sum(p.low for p in kept), sum(p.high for p in kept))


# Moves.


def _move(outcome: Outcome, decision: Decision, charges: Sequence[Charge], history: History) -> Move:
    option, stay = decision.choice.option, decision.situation.stay if decision.situation is not None else None
    during = [
        c for c in charges if c.reason in ("moving", "overlap") and decision.at <= c.start <= outcome.at
    ]  # fmt: skip
    after = [c for c in charges if c.offer == option.offer.id and c.seconds > 0 and c.start >= decision.at]
    now = after[-1].usd / after[-1].seconds * 3600 if after else None
    new, old = _rate(option).hours[0], _rate(stay).hours[0] if stay is not None else 0.0
    pace = new / old if old > 0 and math.isfinite(new) else None
    saving = option.saving
    return Move(
        outcome.action, outcome.decision, outcome.at, outcome.stage, decision.current.id, option.offer.id,
        Interval(saving.mean, saving.deciles[0], saving.deciles[8]),
        Promise(option.pause_seconds, option.move_usd, outcome.promised_usd_per_hour, pace),
        Promise(
            outcome.pause_seconds, sum(c.usd for c in during) if during else None, now,
            _measured(history, decision.current.id, option.offer.id, outcome.at),
        ),
    )  # fmt: skip


def _measured(history: History, old: str, new: str, at: datetime) -> float | None:
    """Give the step time after a move over that before it, the middle of a few reports on each side."""
    seconds = history.columns.get("step_seconds")
    if seconds is None or len(history.offers) != len(history):
        return None
    offers, moment = np.array(history.offers), at.timestamp()
    known = np.isfinite(seconds)
    before = seconds[known & (offers == old) & (history.at_s <= moment)][-ROWS:]
    after = seconds[known & (offers == new) & (history.at_s >= moment - 600)][:ROWS]
    if len(before) < 3 or len(after) < 3:
        return None
    return float(np.median(after) / np.median(before))
