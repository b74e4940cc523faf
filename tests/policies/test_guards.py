"""Every guard: what it refuses, in which words, and when it yields."""

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import guards
from policies.base import Policy
from policies.budget import Budget
from policies.cost_per_hour import CostPerHour
from policies.cost_per_progress import CostPerProgress
from policies.deadline import Deadline
from policies.fleet_budget import FleetBudget
from policies.goodput import Goodput
from policies.threshold import Threshold
from policies.types import Capacity, Choice, Limits, Moves, Option, Safety, Settings, Situation
from tests.policies.situations import NOW, better, offer, option, policy, situation, spread, stay


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (2e-21, "under 0.0001 %"), (1e-6, "0.0001 %"), (0.003, "0.3 %"), (0.25, "25 %"), (1.0, "100 %")],
)
def test_a_share_is_written_with_as_many_digits_as_matter(share: float, text: str):
    assert guards.percent(share) == text


def refusal(moved: Option, staying: Option | None = None, settings: Settings | None = None, **more: Any) -> str | None:
    """The first limit that an option runs into."""
    left = guards.thin(situation(staying or stay(), moved, settings=settings, **more))
    return left.rejected[0].limit if left.rejected else None


def test_a_good_move_runs_into_no_limit():
    assert refusal(better()) is None


@pytest.mark.parametrize(
    ("moved", "limits", "expected"),
    [
        (replace(better(), offer=offer("g5.xlarge", None)), Limits(), "price"),
        (better(usd=0.0), Limits(), "price"),
        (better(usd=5000.0), Limits(), "price"),
        (replace(better(), usd_per_hour=math.nan), Limits(), "price"),
        (replace(better(), price_age_hours=1e6), Limits(), "price"),
        (better(), Limits(allow=("gcp/*",)), "allow"),
        (better("p5.48xlarge"), Limits(deny=("*/p5*",)), "deny"),
        (better(), Limits(gpus_min=2), "gpus"),
        (better(), Limits(gpus_max=0), "gpus"),
        (better(), Limits(usd_per_hour=0.5), "usd_per_hour"),
        (replace(better(), offer=offer("g5.xlarge", 0.3, buying="spot")), Limits(), "spot"),
        (replace(better(), misfit=0.02, misfit_resource="gpu_memory_gib"), Limits(), "memory"),
        (replace(better(), misfit=math.nan), Limits(), "memory"),
        (replace(better(), late=0.2), Limits(), "deadline"),
        (replace(better(), over_budget=0.2), Limits(), "budget"),
        (replace(better(), usd=spread(12.0)), Limits(usd_total=11.0), "usd_total"),
        (replace(better(), saving=spread(0.01, 0.1)), Limits(), "payback"),
        (replace(better(), saving=spread(math.nan)), Limits(), "payback"),
    ],
)
def test_each_limit_refuses_by_its_name(moved: Option, limits: Limits, expected: str):
    assert refusal(moved, settings=policy(limits)) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"unavailable": {"aws/us-east-1/g5.xlarge": "quota L-DB2E81BA is 0"}}, "unavailable"),
        ({"shortages": {"aws/us-east-1/g5.xlarge": NOW + timedelta(minutes=5)}}, "shortage"),
        ({"shortages": {"aws/us-east-1/g5.xlarge": NOW - timedelta(minutes=5)}}, None),
        ({"memory_floor_gib": 65.0}, "memory_floor"),
        ({"gpu_memory_floor_gib": 17.0}, "memory_floor"),
        ({"stale": True}, "stale"),
        ({"missing": 3}, None),
        ({"can_checkpoint": False}, "checkpoint"),
        ({"moves": (NOW - timedelta(minutes=50), NOW - timedelta(minutes=40))}, "max_per_hour"),
        ({"moves": (NOW - timedelta(minutes=61), NOW - timedelta(minutes=40))}, None),
        ({"moves": (NOW - timedelta(minutes=9),)}, "cooldown"),
        ({"moves": (NOW + timedelta(minutes=30),)}, "cooldown"),
        ({"moves": (NOW - timedelta(minutes=10),)}, None),
    ],
)
def test_what_is_known_of_the_moment_refuses(more: dict[str, Any], expected: str | None):
    assert refusal(better(), **more) == expected


def test_spot_only_refuses_on_demand():
    assert refusal(better(), settings=policy(capacity=Capacity(spot="only"))) == "spot"


def test_quiet_times_refuse():
    assert refusal(better(), settings=policy(moves=Moves(quiet=("Wed 11:00-13:00",)))) == "quiet"
    assert refusal(better(), settings=policy(moves=Moves(quiet=("Thu 11:00-13:00",)))) is None


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*/p5*", True),
        ("aws/us-east-1/*", True),
        ("aws/us-east-1b/*", True),
        ("aws/us-east-1/p5.48xlarge", True),
        ("*@spot", True),
        ("aws/us-east-1a/*", False),
        ("gcp/*", False),
        ("*/p5", False),
    ],
)
def test_globs_match_through_count_zone_and_way_of_buying(pattern: str, matched: bool):
    assert guards.matches(offer("p5.48xlarge", nodes=2, zone="us-east-1b", buying="spot"), pattern) is matched


UNFIT = {"misfit": 0.3, "misfit_resource": "memory_gib"}


@pytest.mark.parametrize(
    "more",
    [
        {"moves": (NOW - timedelta(minutes=2),)},
        {"moves": (NOW - timedelta(minutes=50), NOW - timedelta(minutes=40))},
        {"settings": policy(moves=Moves(quiet=("00:00-24:00",)))},
        {},
    ],
    ids=["cooldown", "max_per_hour", "quiet", "payback"],
)
def test_timing_yields_when_staying_does_not_fit(more: dict[str, Any]):
    dearer = option(offer("g5.2xlarge", 3.0), 30.0, -20.0)
    assert refusal(dearer, **more) is not None
    assert refusal(dearer, stay(**UNFIT), **more) is None
    assert refusal(dearer, killed=True, **more) is None


def test_need_has_a_ceiling_of_three_times_the_rate():
    moves = tuple(NOW - timedelta(minutes=minute) for minute in (55, 45, 35, 25, 15, 12))
    assert refusal(better(), stay(**UNFIT), moves=moves) == "max_per_hour"
    assert refusal(better(), stay(**UNFIT), moves=moves[1:]) is None


@pytest.mark.parametrize(
    ("limits", "more", "expected"),
    [
        (Limits(usd_per_hour=0.5), {}, "usd_per_hour"),
        (Limits(allow=("gcp/*",)), {}, "allow"),
        (Limits(deny=("*/g5*",)), {}, "deny"),
        (Limits(usd_total=5.0), {"spent_usd": 6.0}, "usd_total"),
        (Limits(), {"memory_floor_gib": 100.0}, "memory_floor"),
    ],
)
def test_caps_lists_and_floors_never_yield(limits: Limits, more: dict[str, Any], expected: str):
    moved = replace(better(), usd_per_hour=1.5)
    assert refusal(moved, stay(**UNFIT), settings=policy(limits), **more) == expected


def test_a_total_already_spent_blocks_only_dearer_hours():
    capped = policy(Limits(usd_total=5.0))
    assert refusal(better(usd=1.2), settings=capped, spent_usd=6.0) == "usd_total"
    assert refusal(better(usd=0.8), settings=capped, spent_usd=6.0) is None


def test_a_deadline_that_staying_misses_too_does_not_bar_the_way_out():
    assert refusal(replace(better(), late=0.5), stay(late=0.9)) is None
    assert refusal(replace(better(), late=0.95), stay(late=0.9)) == "deadline"


def test_a_killed_job_that_is_silent_may_only_get_more():
    larger = option(offer("r5.2xlarge", 3.0, 128.0), 30.0, -20.0)
    smaller = option(offer("r5.large", 0.5, 32.0), 5.0, 5.0)
    assert refusal(larger, killed=True, stale=True) is None
    assert refusal(smaller, killed=True, stale=True) == "stale"
    assert refusal(larger, stay(**UNFIT), stale=True) == "stale"


def test_missing_observations_bar_only_what_takes_something_away():
    smaller = option(offer("r5.large", 0.5, 32.0), 5.0, 5.0)
    assert refusal(smaller, missing=1) == "gaps"
    assert refusal(smaller) is None
    assert refusal(smaller, stay(**UNFIT), missing=1) is None


def test_a_killed_job_needs_no_checkpoint():
    assert refusal(better(), killed=True, can_checkpoint=False) is None
    assert refusal(better(), settings=policy(checkpoint="not_needed"), can_checkpoint=False) is None


class Stubborn:
    foresees = True

    def choose(self, situation: Situation) -> Choice:
        return Choice(situation.stay, "I stay")


class Inventive:
    foresees = True

    def choose(self, situation: Situation) -> Choice:
        return Choice(better("made-up"), "because I can")


def test_a_policy_that_invents_an_option_is_overruled():
    choice = guards.decide(Inventive(), situation(stay(), better()))
    assert choice.option.stays
    assert "which it was not given" in choice.reason
    assert [one.offer for one in choice.rejected] == ["aws/us-east-1/g5.xlarge"]


def test_a_policy_that_takes_a_refused_option_is_overruled():
    class Greedy:
        foresees = True

        def choose(self, seen: Situation) -> Choice:
            return Choice(better("p5.48xlarge"), "big")

    seen = situation(stay(), better("p5.48xlarge"), settings=policy(Limits(deny=("*/p5*",))))
    choice = guards.decide(Greedy(), seen)
    assert choice.option.stays
    assert choice.rejected[0].limit == "deny"


def test_a_policy_that_stays_where_the_job_does_not_fit_is_overruled():
    choice = guards.decide(Stubborn(), situation(stay(**UNFIT), better()))
    assert choice.option.offer.machine_type == "g5.xlarge"
    assert choice.rejected[0].limit == "memory"


def test_where_nothing_fits_as_surely_as_asked_the_least_bad_is_taken_if_it_halves_the_chance():
    risky = replace(better("r5.large"), misfit=0.05)
    worse = replace(better("r5.xlarge"), misfit=0.28)
    choice = guards.decide(CostPerProgress(), situation(stay(**UNFIT), worse, risky))
    assert choice.option is risky
    assert "5 %" in choice.reason
    assert guards.decide(CostPerProgress(), situation(stay(**UNFIT), worse)).option.stays


def test_every_other_option_is_explained():
    options = (better("a"), better("b", usd=99.0), better("c"))
    choice = guards.decide(CostPerProgress(), situation(stay(), *options, settings=policy(Limits(usd_per_hour=50.0))))
    assert choice.option.offer.machine_type == "a"
    assert {one.offer.split("/")[-1]: one.limit for one in choice.rejected} == {
        "g4dn.xlarge": "dearer",
        "b": "usd_per_hour",
        "c": "dearer",
    }


def test_on_shortage_wait_does_not_take_the_next_best():
    short = {"aws/us-east-1/a": NOW + timedelta(minutes=5)}
    seen = situation(stay(), option(offer("a"), 5.0, 5.0), better("b"), shortages=short)
    assert guards.decide(CostPerProgress(), seen).option.offer.machine_type == "b"
    waiting = replace(seen, settings=policy(capacity=Capacity(on_shortage="wait")))
    choice = guards.decide(CostPerProgress(), waiting)
    assert choice.option.stays
    assert "aws/us-east-1/a is wanted" in choice.reason
    unfit = replace(waiting, options=(stay(**UNFIT), *waiting.options[1:]))
    assert guards.decide(CostPerProgress(), unfit).option.offer.machine_type == "b"


CHOOSERS = [
    CostPerProgress(), CostPerHour(), Deadline(), Budget(), Goodput(), FleetBudget(), Threshold(), Stubborn(),
]  # fmt: skip

chances = st.sampled_from([0.0, 0.005, 0.02, 0.5, 1.0, math.nan])
amounts = st.sampled_from([-5.0, 0.0, 0.01, 3.0, 50.0, math.nan])


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    def one(number: int) -> Option:
        made = option(
            offer(f"m{number}", draw(st.sampled_from([None, 0.0, 0.5, 2.0, 60.0])), draw(st.sampled_from([8.0, 64.0]))),
            draw(amounts),
            draw(amounts),
        )
        return replace(
            made,
            misfit=draw(chances),
            late=draw(chances),
            over_budget=draw(chances),
            due_seconds=draw(st.sampled_from([None, 0.0, 300.0])),
        )

    staying = stay(draw(amounts), misfit=draw(chances), late=draw(chances), over_budget=draw(chances))
    minutes = draw(st.lists(st.integers(-10, 90), max_size=8))
    return situation(
        staying,
        *(one(number) for number in range(draw(st.integers(0, 5)))),
        settings=policy(
            Limits(usd_per_hour=draw(st.sampled_from([None, 10.0])), deny=draw(st.sampled_from([(), ("*/m1",)]))),
            safety=Safety(memory_quantile=0.99),
        ),
        moves=tuple(NOW - timedelta(minutes=minute) for minute in sorted(minutes, reverse=True)),
        stale=draw(st.booleans()),
        killed=draw(st.booleans()),
        can_checkpoint=draw(st.booleans()),
        memory_floor_gib=draw(st.sampled_from([0.0, 32.0])),
        observed=draw(st.sampled_from([{}, {"usage.gpu_util": 0.3}, {"usage.gpu_util": 0.95}])),
        budget_usd=draw(st.sampled_from([None, 40.0])),
        spent_usd=draw(st.sampled_from([0.0, 39.95])),
        share_usd_per_hour=draw(st.sampled_from([None, 1.0])),
        release=draw(st.sampled_from([None, replace(staying, route="release", kind="release", move_usd=0.1)])),
    )


@pytest.mark.parametrize("chooser", CHOOSERS, ids=lambda one: type(one).__name__)
@given(seen=situations())
@settings(max_examples=150, deadline=None)
def test_no_decision_breaks_a_hard_limit(chooser: Policy, seen: Situation):
    choice = guards.decide(chooser, seen)
    taken = choice.option
    assert guards.decide(chooser, seen) == choice or any(map(math.isnan, (taken.objective.mean, taken.saving.mean)))
    assert len(choice.rejected) == len(seen.options) - (taken.route != "release")
    assert choice.reason
    if taken.stays:
        return
    assert seen.can_checkpoint or seen.killed
    if taken.route == "release":
        assert isinstance(chooser, Budget)
        assert seen.budget_usd is not None
        assert seen.spent_usd + taken.move_usd >= seen.budget_usd
        assert not seen.stale or seen.killed
        return
    assert taken in seen.options or any(taken is one for one in seen.options)
    assert taken.usd_per_hour > 0
    assert taken.usd_per_hour <= (seen.settings.limits.usd_per_hour or math.inf)
    assert not any(guards.matches(taken.offer, pattern) for pattern in seen.settings.limits.deny)
    assert taken.offer.resources.memory_gib >= seen.memory_floor_gib
    assert taken.usd_per_hour <= (seen.share_usd_per_hour or math.inf) * (1 + 1e-9)
    assert not seen.stale or (seen.killed and taken.offer.resources.memory_gib >= seen.stay.offer.resources.memory_gib)
    assert guards.fits(seen.settings, taken) or guards.must_leave(seen)
    assert sum(at > NOW - timedelta(hours=1) for at in seen.moves) < seen.settings.moves.max_per_hour * 3


@given(seen=situations())
@settings(max_examples=100, deadline=None)
@pytest.mark.fault("D11")
def test_silence_only_removes_moves(seen: Situation):
    """I7: without recent observations nothing is done that would not be done with them, and nothing is taken away."""
    silent = guards.thin(replace(seen, stale=True))
    assert {id(one) for one in silent.ready} <= {id(one) for one in guards.thin(replace(seen, stale=False)).ready}
