"""A job's account: attempts, what other ways would have cost, and moves promised against realised."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from daemon.account import account
from daemon.store.base import Span
from daemon.types import Charge, Decision, History, Outcome
from policies.types import Choice, Option
from tests.policies.situations import NOW, offer, option, situation, spread, stay

HOUR = timedelta(hours=1)
EMPTY = History("bert", np.empty(0, np.int64), np.empty(0), {})
HERE, THERE = "aws/us-east-1/g4dn.xlarge", "aws/us-east-1/p3.2xlarge"
FAST = replace(option(offer("p3.2xlarge", 3.0), 15.0, 2.0), hours=spread(5.0 + 60 / 3600, 1.0))


def decided(*options: Option, name: str = "d-1", at: float = 0.0, shadow: str = f"{HERE}: stays") -> Decision:
    seen = situation(stay(), *options)
    return Decision(
        name, "bert", NOW + at * HOUR, "test", "v1", "auto", "no_change", seen.stay.offer,
        Choice(seen.stay, "no change"), seen.options, "", {}, shadow, situation=seen,
    )  # fmt: skip


def ran(usd: float, at: float = 0.0, where: str = HERE, reason: str = "running", hours: float = 1.0) -> Charge:
    return Charge("bert", where, NOW + at * HOUR, hours * 3600, usd, reason)


def test_dollars_by_reason_and_attempt_sum_to_what_was_spent():
    charges = [ran(1.0), ran(1.0, 1.0), ran(0.3, 1.0, reason="disk", hours=2.0), ran(0.5, 2.0, reason="moving")]
    spans = [Span("run-0", 0, 90, NOW + timedelta(minutes=5)), Span("run-1", 80, 200, NOW + 1.5 * HOUR)]
    found = account(charges, spans, (), (), EMPTY)
    assert found.usd_by_reason == {"running": 2.0, "disk": 0.3, "moving": 0.5}
    first, second = found.attempts
    assert (first.run, first.began) == ("run-0", NOW)
    assert first.usd == pytest.approx(1.0 + 0.5 + 0.075)
    assert second.usd == pytest.approx(0.5 + 0.225 + 0.5)


def test_without_a_record_nothing_is_estimated_and_it_says_so():
    found = account([ran(1.0)], (), (), (), EMPTY)
    assert [(one.way, one.usd) for one in found.alternatives] == [
        ("no_move", None), ("static_best", None), ("reactive", None),
    ]  # fmt: skip
    assert found.alternatives[0].note == "no decision with its record covers what was run"


def test_the_work_is_priced_where_it_would_have_run():
    """Ten hours here for $10; there it takes five at $3: $15. Having moved for the second half costs $12.50."""
    moved = decided(FAST, name="d-2", at=5.0)
    charges = [ran(5.0, hours=5.0), ran(7.5, 5.0, THERE, hours=2.5)]
    found = account(charges, (), [decided(FAST), moved], (), EMPTY)
    no_move, best, reactive = found.alternatives
    assert no_move.offer == HERE
    assert no_move.usd is not None
    assert no_move.usd.mean == pytest.approx(10.0)
    assert best.offer == HERE
    assert best.usd == no_move.usd
    assert reactive.usd is not None
    assert reactive.usd.mean == pytest.approx(10.0)
    assert no_move.usd.low < no_move.usd.mean < no_move.usd.high


def test_value_of_time_counts_for_the_best_machine_and_a_misfit_is_said():
    hurry = replace(
        decided(FAST).situation or situation(stay()),
        settings=replace(situation(stay()).settings, value_of_time_usd_per_hour=9.0),
    )
    one = replace(decided(FAST), situation=hurry)
    found = account([ran(10.0, hours=10.0)], (), [one], (), EMPTY)
    assert found.alternatives[1].offer == THERE
    unfit = decided(FAST)
    assert unfit.situation is not None
    tight = replace(unfit.situation.stay, misfit=0.9)
    unfit = replace(unfit, situation=replace(unfit.situation, options=(tight, *unfit.situation.options[1:])))
    told = account([ran(10.0, hours=10.0)], (), [unfit], (), EMPTY).alternatives
    assert told[0].note == "it would not have fitted, with a chance of 90%"
    assert told[1].offer == THERE


def test_the_twin_pays_for_its_moves():
    later = decided(FAST, name="d-2", at=5.0, shadow=f"{THERE}: faster")
    charges = [ran(5.0, hours=5.0), ran(5.0, 5.0, hours=5.0)]
    reactive = account(charges, (), [decided(FAST), later], (), EMPTY).alternatives[2]
    assert reactive.usd is not None
    assert reactive.usd.mean == pytest.approx(5.0 + 7.5 + 0.05)


def test_the_pace_promised_is_that_of_the_machines_also_where_staying_is_planned_to_end_soon():
    """The plan from staying makes the same move one step later, so its hours are nearly the same."""
    fast = replace(FAST, factor=0.5)
    made = replace(decided(fast), choice=Choice(fast, "it pays"))
    assert made.situation is not None
    soon_left = replace(made.situation.stay, hours=fast.hours, factor=1.0)
    made = replace(made, situation=replace(made.situation, options=(soon_left, *made.situation.options[1:])))
    outcome = Outcome("a-1", "d-1", "bert", "done", 75.0, 3.0, 4, "", NOW + timedelta(minutes=10))
    (move,) = account([ran(1.0, -1.0)], (), [made], [(outcome, made)], EMPTY).moves
    assert move.promised.pace == pytest.approx(0.5)


def test_a_move_stands_beside_what_it_promised():
    made = replace(decided(FAST), choice=Choice(FAST, "it pays"))
    outcome = Outcome("a-1", "d-1", "bert", "done", 75.0, 3.0, 4, "", NOW + timedelta(minutes=10))
    charges = [
        ran(1.0, -1.0), ran(0.02, 0.01, reason="moving", hours=0.1), ran(0.1, 0.02, THERE, "overlap", 0.1),
        ran(3.1, 0.2, THERE),
    ]  # fmt: skip
    at = NOW.timestamp() + np.array([-30.0, -20.0, -10.0, 700.0, 710.0, 720.0])
    history = History(
        "bert", np.arange(6), at, {"step_seconds": np.array([10.0, 10.0, 10.0, 6.0, 6.0, 6.0])},
        (HERE, HERE, HERE, THERE, THERE, THERE),
    )  # fmt: skip
    (move,) = account(charges, (), [made], [(outcome, made)], history).moves
    assert (move.from_offer, move.to_offer, move.saving.mean) == (HERE, THERE, 2.0)
    assert move.promised.pace == pytest.approx(0.5)
    assert move.realised.pace == pytest.approx(0.6)
    assert (move.promised.pause_seconds, move.realised.pause_seconds) == (60.0, 75.0)
    assert move.promised.move_usd == 0.05
    assert move.realised.move_usd == pytest.approx(0.12)
    assert move.realised.usd_per_hour == pytest.approx(3.1)
