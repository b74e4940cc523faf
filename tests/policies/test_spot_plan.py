"""Availability as it is learned, and the plan against an exhaustive recursion."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import spot_plan
from policies.availability import AGES, CLASSES, LONG_LOOKS, PRIOR, Availability, Market, Prior, class_of
from policies.spot_plan import ON_DEMAND, WAIT, Costs, solve

COSTS = Costs(3.0, (0.6,), 1.0)


def test_ages_have_classes():
    assert [class_of(age) for age in AGES] == list(range(len(AGES)))
    assert [class_of(age, after_long=True) for age in AGES] == list(range(len(AGES), CLASSES))
    assert class_of(4) == class_of(3)
    assert class_of(10_000) == len(AGES) - 1


def test_looks_are_counted_by_the_class_of_the_run():
    seen = Availability(False)
    for up in (False, True, True, False, False):
        seen = seen.look(up)
    assert (seen.up, seen.age) == (False, 2)
    down, up = class_of(1, after_long=True), CLASSES + class_of(1, after_long=True)
    assert (seen.looks[down], seen.looks[down + 1], seen.ends[down], seen.ends[down + 1]) == (1, 1, 0, 1)
    assert (seen.looks[up], seen.looks[up + 1], seen.ends[up], seen.ends[up + 1]) == (1, 1, 0, 1)
    assert seen.looks[class_of(1)] == 1  # the last down run was short
    assert not seen.long_up


def test_a_long_run_is_remembered():
    seen = Availability(True, long_up=False)
    for up in [True] * (LONG_LOOKS - 1) + [False, True]:
        seen = seen.look(up)
    assert seen.long_up
    assert not seen.long_down
    assert seen.state == class_of(1, after_long=True)


def test_what_is_seen_outweighs_the_prior():
    before = PRIOR.chances(Availability(True))
    assert before == pytest.approx([*PRIOR.down, *PRIOR.up])
    steady = Availability(True)
    for _ in range(2000):
        steady = steady.look(True)
    after = PRIOR.chances(steady)
    assert after[-1] < before[-1] / 3
    assert after[:CLASSES] == pytest.approx(before[:CLASSES])


def test_capacity_that_has_lasted_is_interrupted_less_often():
    rates = [PRIOR.interruptions_per_hour(Availability(True, age=age)) for age in (1, 10, 60)]
    assert rates == sorted(rates, reverse=True)
    assert PRIOR.interruptions_per_hour(Availability(False, age=60)) == rates[0], "what is down comes back as a new run"
    always = Prior(PRIOR.down, (0.25,) * CLASSES, weight=2.0)
    assert always.interruptions_per_hour(Availability(True, age=7)) == pytest.approx(0.25 * 6), "a quarter of six looks"
    lost = Availability(True)
    for _ in range(20):
        lost = lost.look(False).look(True)
    assert PRIOR.interruptions_per_hour(lost) > 2 * PRIOR.interruptions_per_hour(Availability(True, long_up=False))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_chances_are_chances(looks: list[bool]):
    seen = Availability(looks[0])
    for up in looks[1:]:
        seen = seen.look(up)
    chances = PRIOR.chances(seen)
    assert ((chances > 0) & (chances < 1)).all()
    assert sum(seen.looks) == len(looks) - 1


def test_a_market_counts_losses_and_what_saved_from_them():
    market = Market.begin([True, True])
    for up in ((True, False), (False, True), (False, False)):
        market = market.look(up)
    assert (market.lost, market.saved) == (3, 2)
    assert not market.whole.up
    assert sum(market.whole.looks[CLASSES:]) == 3


def by_recursion(market: Market, costs: Costs, time: int, work: int) -> dict[int, float]:
    """Weigh every first thing to do by trying all that may follow, for one offer and a changeover of one look."""
    moves = spot_plan._chain(market, PRIOR, 1.0)[: 2 * CLASSES, : 2 * CLASSES]
    rate = {ON_DEMAND: costs.on_demand_usd_per_hour / 6, 0: costs.spot_usd_per_hour[0] / 6, WAIT: 0.0}

    @cache
    def least(time: int, work: int, state: int, held: int) -> float:
        if work <= 0:
            return 0.0
        return min(each(time, work, state, held).values()) if time > 0 else spot_plan.NEVER

    def each(time: int, work: int, state: int, held: int) -> dict[int, float]:
        found = {}
        for machine in (WAIT, ON_DEMAND, *([0] if state >= CLASSES else [])):
            left = work - 1 if machine == held != WAIT else work
            after = 0.0
            for then in np.flatnonzero(moves[state]):
                kept = WAIT if machine == 0 and then < CLASSES else machine
                after += moves[state, then] * least(time - 1, left, int(then), kept)
            found[machine] = rate[machine] + after
        return found

    return each(time, work, market.whole.place, WAIT)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 5), st.booleans(), st.integers(1, 9), st.sampled_from([0.2, 0.6, 2.5]))
def test_the_plan_does_what_an_exhaustive_recursion_does(work: int, slack: int, up: bool, age: int, usd: float):
    seen = Availability(up, age)
    market = Market((seen,), seen)
    costs = replace(COSTS, spot_usd_per_hour=(usd,))
    weighed = by_recursion(market, costs, work + slack, work)
    plan = solve(market, PRIOR, costs, work + slack, work, 1)
    if min(weighed.values()) > 1e6:
        return  # the deadline cannot be held surely
    taken = plan.choose(market, work + slack, work, WAIT)
    assert taken is not None
    assert weighed[taken] == pytest.approx(min(weighed.values()), rel=1e-4)


def test_spot_is_kept_and_the_deadline_goes_before_it():
    seen = Availability(True, 60)
    market = Market((seen,), seen)
    plan = solve(market, PRIOR, COSTS, 100, 60, 1)
    assert plan.choose(market, 100, 60, 0) == 0
    assert plan.choose(market, 100, 60, WAIT) == 0
    tight = solve(market, PRIOR, COSTS, 61, 60, 1)
    assert tight.choose(market, 61, 60, WAIT) == ON_DEMAND
    assert tight.choose(market, 61, 60, 0) == 0  # it costs no slack until it is lost, and there is enough for that


def test_a_job_that_may_not_wait_does_not():
    seen = Availability(False, 1)
    market = Market((seen,), seen)
    for waits in (True, False):
        plan = solve(market, PRIOR, replace(COSTS, waits=waits), 300, 60, 1)
        assert plan.choose(market, 300, 60, WAIT) == (WAIT if waits else ON_DEMAND)


def test_among_offers_the_cheaper_and_the_steadier_is_taken():
    seen = Availability(True, 10)
    market = Market((seen, seen), seen)
    cheaper = solve(market, PRIOR, replace(COSTS, spot_usd_per_hour=(0.6, 0.5)), 300, 60, 1)
    assert cheaper.choose(market, 300, 60, WAIT) == 1
    steady = Market((Availability(True, 1), seen), seen)
    steadier = solve(steady, PRIOR, replace(COSTS, spot_usd_per_hour=(0.6, 0.6)), 300, 60, 1)
    assert steadier.choose(steady, 300, 60, WAIT) == 1


def test_a_slow_offer_must_be_cheap_enough():
    seen = Availability(True, 30)
    market = Market((seen,), seen)
    for pace, taken in ((1.0, 0), (0.1, ON_DEMAND)):
        plan = solve(market, PRIOR, replace(COSTS, paces=(pace,), waits=False), 120, 60, 1)
        assert plan.choose(market, 120, 60, ON_DEMAND) == taken


@pytest.mark.parametrize("changeover", [0.0, 0.5, 2.5])
def test_changeovers_need_not_be_one_look(changeover: float):
    seen = Availability(True, 30)
    market = Market((seen,), seen)
    plan = solve(market, PRIOR, replace(COSTS, changeover=changeover), 90, 60, 5)
    assert plan.choose(market, 90, 60, WAIT) == 0
    assert plan.choose(market, 87, 57, 0) == 0


def test_time_that_is_worth_something_is_not_waited_away():
    seen = Availability(False, 1)
    market = Market((seen,), seen)
    for worth, taken in ((0.0, WAIT), (20.0, ON_DEMAND)):
        plan = solve(market, PRIOR, replace(COSTS, value_of_time_usd_per_hour=worth), 300, 60, 1)
        assert plan.choose(market, 300, 60, WAIT) == taken


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_a_part_of_a_look_changes_nothing(part: float):
    seen = Availability(True, 30)
    market = Market((seen,), seen)
    plan = solve(market, PRIOR, COSTS, 180 + part, 60 + part, 3)
    for gone in range(3):
        assert plan.choose(market, 180 + part - gone, 60 + part, ON_DEMAND) == 0
