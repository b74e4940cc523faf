"""What each shipped policy prefers, and in which words."""

from dataclasses import replace

import pytest

from policies.budget import Budget
from policies.cost_per_hour import CostPerHour
from policies.cost_per_progress import CostPerProgress
from policies.deadline import Deadline
from policies.goodput import Goodput
from policies.guards import decide
from policies.quiet import read
from policies.reactive import Reactive
from policies.threshold import Threshold
from policies.types import Limits, Option, Safety, Situation
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


def late_and_dear() -> tuple[Option, Option, Option]:
    """Staying is late; a dear machine is on time, a dearer one surely."""
    dear = replace(option(offer("p3.2xlarge", 3.0), 15.0, -5.0), late=0.04)
    dearer = replace(option(offer("p4d.24xlarge", 30.0), 50.0, -40.0), late=0.0)
    return stay(late=0.6), dear, dearer


def test_deadline_takes_the_least_dollars_that_are_on_time():
    staying, dear, dearer = late_and_dear()
    choice = decide(Deadline(), situation(staying, dear, dearer))
    assert choice.option is dear
    assert "lowers the chance of missing the deadline from 60 % to 4 %" in choice.reason
    surer = decide(Deadline(), situation(staying, dear, dearer, settings=policy(safety=Safety(deadline_risk=0.01))))
    assert surer.option is dearer


def test_deadline_is_as_little_late_as_it_can_be():
    better_late = replace(option(offer("p3.2xlarge", 3.0), 15.0, -5.0), late=0.3)
    choice = decide(Deadline(), situation(stay(late=0.6), better_late))
    assert choice.option is better_late
    assert "none holds it within 5 %" in choice.reason
    barely = replace(better_late, late=0.55)
    kept = decide(Deadline(), situation(stay(late=0.6), barely))
    assert kept.option.stays
    assert kept.rejected[0].limit == "payback"


def test_deadline_on_time_saves_dollars():
    assert decide(Deadline(), situation(stay(), better())).option.offer.machine_type == "g5.xlarge"
    assert decide(Deadline(), situation(stay(), better(late=0.2))).option.stays


def test_budget_takes_the_least_time_that_the_money_pays_for():
    fast = replace(option(offer("p3.2xlarge", 3.0), 15.0, -5.0), hours=spread(4.0))
    faster = replace(option(offer("p4d.24xlarge", 30.0), 90.0, -80.0), hours=spread(1.0), over_budget=0.9)
    choice = decide(Budget(), situation(stay(), fast, faster, budget_usd=30.0, spent_usd=5.0))
    assert choice.option is fast
    assert choice.reason == (
        "moving to aws/us-east-1/p3.2xlarge, because it takes 4.0 h to the finish against 10.0 h and the chance of "
        "exceeding the budget is 0 % ($25.00 of the budget left)"
    )


def test_budget_prefers_what_is_likelier_within_it():
    cheap = replace(option(offer("t3.large", 0.5), 8.0, 2.0), hours=spread(16.0), over_budget=0.2)
    seen = situation(stay(over_budget=0.8), cheap, budget_usd=9.0)
    assert decide(Budget(), seen).option is cheap


def freed(**more: object) -> Situation:
    seen = situation(stay(), better(), budget_usd=20.0, spent_usd=19.99, **more)
    gone = replace(seen.stay, route="release", kind="release", move_usd=0.02)
    return replace(seen, release=gone)


def test_a_spent_budget_lets_the_machine_go_after_a_checkpoint():
    choice = decide(Budget(), freed())
    assert choice.option.route == "release"
    assert choice.reason == "letting the machine go after a checkpoint, because $19.99 of $20.00 is spent"
    assert [one.limit for one in choice.rejected] == ["budget", "budget"]
    assert decide(Budget(), replace(freed(), spent_usd=19.97)).option.route != "release"


@pytest.mark.parametrize("more", [{"stale": True}, {"can_checkpoint": False}])
def test_a_machine_is_not_let_go_while_its_work_cannot_be_saved(more: dict[str, bool]):
    choice = decide(Budget(), freed(**more))
    assert choice.option.stays
    assert choice.reason.startswith("no change, because the machine cannot be let go safely")


def test_no_other_policy_lets_a_machine_go():
    for one in (CostPerHour(), CostPerProgress(), Deadline(), Threshold(), Goodput()):
        assert decide(one, freed()).option.route != "release"


@pytest.mark.parametrize(("busy", "taken"), [(0.95, 1.5), (0.75, 1.0), (0.3, 0.8), (None, 1.0)])
def test_threshold_takes_one_rung_of_the_price_ladder(busy: float | None, taken: float):
    rungs = [option(offer(f"m{usd}", usd), 20.0, -9.0) for usd in (0.4, 0.8, 1.5, 3.0)]
    observed = {} if busy is None else {"usage.gpu_util": busy}
    choice = decide(Threshold(), situation(stay(), *rungs, observed=observed))
    assert choice.option.usd_per_hour == taken
    assert ("not known" in choice.reason) is (busy is None)


def test_threshold_goes_by_its_own_levels_and_rests_after_a_move():
    seen = situation(
        stay(), better(), observed={"usage.gpu_util": 0.3}, settings=policy(extra={"busy_up": 0.5, "busy_down": 0.2})
    )
    assert decide(Threshold(), seen).option.stays
    moved = replace(seen, settings=policy(), moves=(NOW,))
    assert decide(Threshold(), moved).rejected[0].limit == "cooldown"


NOISY = {"hp.batch_size": 128.0, "pace.fixed_s": 0.1, "pace.per_sample_s": 0.001, "metric.gradient_noise_scale": 1000.0}
CHOOSES = policy(extra={"base_batch_size": 128.0, "batch_size": {"max_per_gpu": 256.0}})


def test_goodput_is_pollux_on_paper():
    """By hand: 128 / 0.228 x 1 = 561.4 useful samples a second; 256 / 0.356 x 1128 / 1256 = 645.8."""
    choice = decide(Goodput(), situation(stay(), observed=NOISY, settings=CHOOSES))
    assert choice.advice == {"batch_size": 256.0}
    assert "a batch of 256 in place of 128 makes 1.15 times the goodput" in choice.reason


def test_goodput_counts_the_batch_that_a_larger_machine_allows():
    large = option(offer("g5.12xlarge", 4.0, gpus=4), 11.0, -1.0)
    seen = situation(stay(), large, observed=NOISY, settings=CHOOSES)
    assert decide(Goodput(), seen).option.stays  # 256 is the best batch there too, for more money
    noisier = replace(seen, observed=NOISY | {"metric.gradient_noise_scale": 20000.0})
    choice = decide(Goodput(), noisier)
    assert choice.option is large
    assert choice.advice["batch_size"] == 1024.0


def test_goodput_without_noise_is_throughput_for_a_dollar_and_says_so():
    seen = situation(stay(), better(), observed={"hp.batch_size": 128.0}, settings=CHOOSES)
    choice = decide(Goodput(), seen)
    assert choice.option.offer.machine_type == "g5.xlarge"
    assert "throughput (no gradient noise scale is known) for a dollar" in choice.reason
    assert choice.advice == {}
    declared = decide(Goodput(), replace(seen, settings=policy(extra={"gradient_noise_scale": 500.0})))
    assert "the most goodput for a dollar" in declared.reason
