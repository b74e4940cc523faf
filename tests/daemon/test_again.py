"""Decisions made again: bit for bit under their own policy, and what an edit would have changed."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings

from daemon import again, turn
from daemon.store.codec import dumps, loads
from daemon.types import Charge, Decision, DecisionStatus
from policies.config import policy_of
from policies.cost_per_progress import CostPerProgress
from policies.guards import decide
from policies.kinds import installed
from policies.types import Choice, Limits, Option, Settings, Situation
from tests.policies.situations import NOW, better, offer, option, policy, situation, spread, stay
from tests.policies.test_guards import situations

HOUR = timedelta(hours=1)


def decision(seen: Situation, status: DecisionStatus = "no_change", name: str = "d-1", **more: object) -> Decision:
    choice = decide(CostPerProgress(), seen)
    made = Decision(
        name, seen.job, seen.now, "test", "v1", "auto", status, seen.stay.offer, choice, seen.options, "", {},
        situation=seen,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def nothing(job: str) -> list[Charge]:
    return []


def make(rules: Settings) -> CostPerProgress:
    return CostPerProgress()


@pytest.mark.parametrize("kind", sorted(installed()))
@given(seen=situations())
@settings(max_examples=25)
def test_a_decision_read_back_from_its_record_is_made_again_bit_for_bit(kind: str, seen: Situation):
    chooser = policy_of(kind, installed())
    rules = replace(seen.settings, kind=kind)
    seen = replace(
        seen, settings=rules, observed={"usage.gpu_util": 0.3}, budget_usd=40.0, share_usd_per_hour=3.0,
        release=replace(seen.stay, route="release", kind="release", move_usd=0.1),
    )  # fmt: skip
    choice = decide(chooser, seen)
    kept = loads(Situation, dumps(Situation, seen))
    made = replace(decision(kept), choice=choice)
    assert again.same(made, chooser)
    assert not again.same(replace(made, choice=Choice(choice.option, choice.reason + ".")), chooser)


def test_a_record_that_is_gone_cannot_be_replayed():
    with pytest.raises(ValueError, match="the record of decision d-1 has been removed"):
        turn.replay(replace(decision(situation(stay())), situation=None), CostPerProgress())


def test_an_edit_that_changes_nothing_differs_nowhere():
    found = again.diff([decision(situation(stay(), better()))], nothing, [policy()], make, NOW - HOUR)
    assert (found.decisions, found.other, found.differences) == (1, 0, ())


def test_decisions_under_other_policies_are_counted_apart():
    one = decision(situation(stay(), better()), policy="another")
    found = again.diff([one], nothing, [policy()], make, NOW - HOUR)
    assert (found.decisions, found.other) == (0, 1)


def test_an_edit_that_forbids_a_move_is_listed_with_what_it_would_have_cost():
    """Staying costs $10 in 10 h, the move $8 in 10 h: over five hours that is a dollar more than was spent."""
    moved = decision(situation(stay(), better()), "done")
    later = decision(situation(stay(), better()), "done", "d-2", at=NOW + 5 * HOUR)
    charges = {"bert": [Charge("bert", "x", NOW - 2 * HOUR, 3600, 7.0), Charge("bert", "x", NOW, 3600, 4.0)]}
    edited = policy(Limits(deny=("*/g5*",)))
    found = again.diff([moved, later], lambda job: charges[job], [edited], make, NOW - HOUR)
    assert [one.decision for one in found.differences] == ["d-1", "d-2"]
    first = found.differences[0]
    assert first.before.option.offer.machine_type == "g5.xlarge"
    assert first.after.option.stays
    assert first.usd.mean == pytest.approx(2.0)
    (job,) = found.jobs
    assert (job.spent_usd, job.differs_at) == (4.0, NOW)
    assert job.usd.mean == pytest.approx(4.0 + 1.0)
    assert job.usd.low <= job.usd.mean <= job.usd.high
    assert (found.spent_usd, found.usd) == (job.spent_usd, job.usd)


def test_a_move_that_was_only_recommended_counts_as_staying():
    seen = situation(stay(), better())
    advised = decision(seen, "recommended", last_at=NOW + 10 * HOUR)
    dearer = policy(Limits(deny=("*/g5*",)))
    found = again.diff([advised], lambda job: [Charge(job, "x", NOW, 3600, 10.0)], [dearer], make, NOW - HOUR)
    assert found.jobs[0].usd.mean == pytest.approx(10.0)


def test_another_value_of_time_changes_the_objective_it_was_chosen_by():
    fast: Option = replace(option(offer("p3.2xlarge", 3.0), 14.0, -4.0), hours=spread(2.0), usd=spread(14.0))
    kept = decision(situation(stay(), fast))
    assert kept.choice.option.stays
    found = again.diff([kept], nothing, [policy(value_of_time_usd_per_hour=5.0)], make, NOW - HOUR)
    (changed,) = found.differences
    assert changed.after.option.offer == fast.offer
    assert changed.hours.mean == pytest.approx(-8.0)
