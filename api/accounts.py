"""Values: what callers are told of money: the ledger, and decisions made again under another policy."""

from collections.abc import Sequence
from datetime import datetime

from api.answers import Answer, Real
from daemon.account import Account, Move, Promise
from daemon.again import Diff, Difference, Interval
from daemon.types import Charge, Outcome
from policies.types import Option


class ChargeOut(Answer):
    offer: str
    start: datetime
    seconds: float
    usd: float
    reason: str

    @classmethod
    def of(cls, charge: Charge) -> "ChargeOut":
        return cls(offer=charge.offer, start=charge.start, seconds=charge.seconds, usd=charge.usd, reason=charge.reason)


class OutcomeOut(Answer):
    """What an action came to."""

    action: str
    decision: str
    stage: str
    pause_seconds: Real
    promised_usd_per_hour: Real
    lost_steps: int | None
    note: str
    at: datetime

    @classmethod
    def of(cls, outcome: Outcome) -> "OutcomeOut":
        return cls(
            action=outcome.action,
            decision=outcome.decision,
            stage=outcome.stage,
            pause_seconds=outcome.pause_seconds,
            promised_usd_per_hour=outcome.promised_usd_per_hour,
            lost_steps=outcome.lost_steps,
            note=outcome.note,
            at=outcome.at,
        )


class IntervalOut(Answer):
    """An estimate: its middle and its 10 to 90 % interval."""

    mean: Real
    low: Real
    high: Real

    @classmethod
    def of(cls, interval: Interval) -> "IntervalOut":
        return cls(mean=interval.mean, low=interval.low, high=interval.high)


class AttemptOut(Answer):
    """What one run of a job cost; ``run`` is ``null`` before any report."""

    run: str | None
    began: datetime
    usd: float


class AlternativeOut(Answer):
    """What another way would have cost; ``usd`` is ``null`` where the record does not tell."""

    way: str
    offer: str | None
    usd: IntervalOut | None
    note: str


class PromiseOut(Answer):
    """``pace`` is the step time on the new machine over that on the old."""

    pause_seconds: Real
    move_usd: Real
    usd_per_hour: Real
    pace: Real

    @classmethod
    def of(cls, promise: Promise) -> "PromiseOut":
        return cls(
            pause_seconds=promise.pause_seconds,
            move_usd=promise.move_usd,
            usd_per_hour=promise.usd_per_hour,
            pace=promise.pace,
        )


class MoveAccountOut(Answer):
    """A move, promised against realised; ``saving`` is what it was to save to the finish, time valued."""

    action: str
    decision: str
    at: datetime
    stage: str
    from_offer: str
    to_offer: str
    saving: IntervalOut
    promised: PromiseOut
    realised: PromiseOut

    @classmethod
    def of(cls, move: Move) -> "MoveAccountOut":
        return cls(
            action=move.action,
            decision=move.decision,
            at=move.at,
            stage=move.stage,
            from_offer=move.from_offer,
            to_offer=move.to_offer,
            saving=IntervalOut.of(move.saving),
            promised=PromiseOut.of(move.promised),
            realised=PromiseOut.of(move.realised),
        )


class LedgerOut(Answer):
    """``usd_by_reason`` and ``attempts`` each sum to what was spent; ``basis`` says what the estimates rest on."""

    job: str
    spent_usd: float
    usd_by_reason: dict[str, float]
    attempts: list[AttemptOut]
    estimates: list[AlternativeOut]
    moves: list[MoveAccountOut]
    basis: str
    charges: list[ChargeOut]
    outcomes: list[OutcomeOut]

    @classmethod
    def of(cls, job: str, found: Account, charges: Sequence[Charge], outcomes: Sequence[Outcome]) -> "LedgerOut":
        return cls(
            job=job,
            spent_usd=sum(charge.usd for charge in charges),
            usd_by_reason=dict(found.usd_by_reason),
            attempts=[AttemptOut(run=a.run, began=a.began, usd=a.usd) for a in found.attempts],
            estimates=[
                AlternativeOut(way=a.way, offer=a.offer, usd=IntervalOut.of(a.usd) if a.usd else None, note=a.note)
                for a in found.alternatives
            ],
            moves=[MoveAccountOut.of(move) for move in found.moves],
            basis=found.basis,
            charges=[ChargeOut.of(c) for c in charges],
            outcomes=[OutcomeOut.of(o) for o in outcomes],
        )


class ReplayOut(Answer):
    """A decision made again from its record; ``same`` is bit for bit. ``null`` where the record has gone."""

    decision: str
    same: bool | None
    chosen: str | None
    reason: str


class DifferenceOut(Answer):
    """A decision that would have been another one; ``usd`` and ``hours`` are to the finish, new less old."""

    decision: str
    job: str
    at: datetime
    before: str
    before_reason: str
    after: str
    after_reason: str
    usd: IntervalOut
    hours: IntervalOut

    @classmethod
    def of(cls, one: Difference) -> "DifferenceOut":
        return cls(
            decision=one.decision,
            job=one.job,
            at=one.at,
            before=said(one.before.option),
            before_reason=one.before.reason,
            after=said(one.after.option),
            after_reason=one.after.reason,
            usd=IntervalOut.of(one.usd),
            hours=IntervalOut.of(one.hours),
        )


def said(option: Option) -> str:
    """Name what an option does: the offer, or that the machine is let go."""
    return "let the machine go" if option.route == "release" else option.offer.id


class EstimateOut(Answer):
    """What a job spent since then, and would have spent; ``differs_at`` is ``null`` where nothing would differ."""

    job: str
    spent_usd: float
    usd: IntervalOut
    differs_at: datetime | None


class PolicyDiffOut(Answer):
    """What an edit of the policies would have changed on the decisions on record."""

    since: datetime
    decisions: int
    other: int
    differences: list[DifferenceOut]
    jobs: list[EstimateOut]
    spent_usd: float
    usd: IntervalOut
    basis: str

    @classmethod
    def of(cls, diff: Diff) -> "PolicyDiffOut":
        return cls(
            since=diff.since,
            decisions=diff.decisions,
            other=diff.other,
            differences=[DifferenceOut.of(one) for one in diff.differences],
            jobs=[
                EstimateOut(job=e.job, spent_usd=e.spent_usd, usd=IntervalOut.of(e.usd), differs_at=e.differs_at)
                for e in diff.jobs
            ],
            spent_usd=diff.spent_usd,
            usd=IntervalOut.of(diff.usd),
            basis=diff.basis,
        )
