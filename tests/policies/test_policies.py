"""What each shipped policy prefers, and in which words."""

from dataclasses import replace

import pytest

from policies.cost_per_hour import CostPerHour
from policies.cost_per_progress import CostPerProgress
from policies.guards import decide
from policies.quiet import read
from policies.reactive import Reactive
from policies.types import Limits
from tests.policies.situations import NOW, better, offer, option, policy, situation, spread, stay


def test_cost_per_progress_takes_the_least_objective():
    dear_hour = option(offer("p3.2xlarge", 3.0), 6.0, 4.0)
    choice = decide(CostPerProgress(), situation(stay(), better(), dear_hour))
    assert choice.option is dear_hour
    assert choice.reason == (
        "moving to aws/us-east-1/p3.2xlarge, because it saves $4.00 to the finish (at least $3.92 with 80 % "
        "certainty), the move's $0.0500 and 60 s of standing still counted"
    )


def test_cost_per_progress_waits_for_the_planned_time():
    planned = better(due_seconds=540.0)
    unpaid = replace(planned, saving=spread(-1.0))
    for one in (planned, unpaid):
        choice = decide(CostPerProgress(), situation(stay(), one))
        assert choice.option.stays
        assert choice.reason == "no change, because the move to aws/us-east-1/g5.xlarge is due in 540 s"


def test_cost_per_progress_does_not_wait_where_the_job_does_not_fit():
    choice = decide(CostPerProgress(), situation(stay(misfit=0.3), better(due_seconds=540.0)))
    assert choice.option.offer.machine_type == "g5.xlarge"
    assert "30 %" in choice.reason


def test_cost_per_progress_stays_when_nothing_pays():
    choice = decide(CostPerProgress(), situation(stay(), option(offer("a"), 12.0, -2.0)))
    assert choice.option.stays
    assert choice.reason.startswith("no change, because no allowed move pays back")
    assert choice.rejected[0].limit == "payback"


def test_cost_per_progress_pays_for_a_deadline_that_staying_misses():
    fast = replace(option(offer("p3.2xlarge", 3.0), 15.0, -5.0), late=0.01)
    choice = decide(CostPerProgress(), situation(stay(late=0.6), better(late=0.55), fast))
    assert choice.option is fast
    assert "from 60 % to 1 %" in choice.reason
    assert decide(CostPerProgress(), situation(stay(), fast)).option.stays


def test_cost_per_progress_says_so_when_there_is_no_way_out():
    seen = situation(stay(misfit=0.3), better(), settings=policy(Limits(deny=("*",))))
    choice = decide(CostPerProgress(), seen)
    assert choice.option.stays
    assert choice.reason.startswith("no change although the chance that memory does not suffice is 30 %")


def test_cost_per_hour_takes_the_cheapest_hour_whatever_the_speed():
    slow = option(offer("t3.large", 0.2), 20.0, -10.0)
    choice = decide(CostPerHour(), situation(stay(), better(), slow))
    assert choice.option is slow
    assert {one.limit for one in choice.rejected} == {"dearer"}


def test_cost_per_hour_stays_for_a_saving_that_the_move_eats_up():
    barely = option(offer("t3.large", 0.999), 9.0, 1.0)
    choice = decide(CostPerHour(), situation(stay(), barely))
    assert choice.option.stays
    assert choice.rejected[0].limit == "payback"


def test_cost_per_hour_leaves_for_the_cheapest_that_fits():
    dear, dearer = option(offer("r5.large", 2.0), 30.0, -20.0), option(offer("r5.xlarge", 4.0), 20.0, -10.0)
    choice = decide(CostPerHour(), situation(stay(misfit=0.5), dearer, dear))
    assert choice.option is dear


def test_only_reactive_does_not_foresee():
    assert (CostPerHour.foresees, CostPerProgress.foresees, Reactive.foresees) == (True, True, False)


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("Wed 12:00-12:01", True),
        ("Wed 11:00-12:00", False),
        ("Mon-Fri 00:00-24:00", True),
        ("Fri-Wed 11:00-13:00", True),
        ("Sat,Sun 00:00-24:00", False),
        ("13:00-14:00 Europe/Berlin", True),
        ("12:00-13:00 Europe/Berlin", False),
        ("Tue 22:00-12:30", True),
        ("Wed 22:00-12:30", False),
    ],
)
def test_quiet_times(text: str, covered: bool):
    assert read(text).covers(NOW) is covered


@pytest.mark.parametrize("text", ["", "always", "Sad 00:00-24:00", "25:00-26:00", "10:00-10:00", "10:00-11:00 Mars/X"])
def test_what_is_no_quiet_time(text: str):
    with pytest.raises(ValueError, match="write it like"):
        read(text)
