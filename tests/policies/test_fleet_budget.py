"""Sharing an hourly budget: never above it, the programme against brute force, the fallback, and one job's part."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import fleet_budget
from policies.base import FleetPolicy
from policies.fleet_budget import FleetBudget, allocate, marginal
from policies.guards import decide
from policies.types import Limits, Option, Situation
from tests.policies.situations import offer, option, policy, situation, spread, stay

RULES = replace(policy(), kind="fleet_budget", extra={"fleet_usd_per_hour": 5.0, "solver_seconds": 2.0})
tables = st.lists(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 9)), min_size=1, max_size=4), min_size=1, max_size=5
)


def total(table: list[np.ndarray], taken: list[int]) -> float:
    return float(sum(row[o] for row, o in zip(table, taken, strict=True)))


def split(table: list[list[tuple[int, int]]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [np.array([c for c, _ in row], float) for row in table], [
        np.array([r for _, r in row], float) for row in table
    ]


@given(tables, st.integers(1, 40))
def test_the_programme_finds_the_least_cost_within_the_budget(table: list[list[tuple[int, int]]], budget: int):
    cost, rate = split(table)
    ways = [list(way) for way in itertools.product(*(range(len(row)) for row in table))]
    within = [total(cost, way) for way in ways if total(rate, way) <= budget]
    taken = allocate(cost, rate, budget, 5.0)
    if within:
        assert total(rate, taken) <= budget
        assert total(cost, taken) == pytest.approx(min(within), rel=1e-3)
    else:
        assert total(rate, taken) == min(total(rate, way) for way in ways)


@given(tables, st.integers(1, 40))
def test_the_fallback_keeps_the_budget_and_never_makes_a_job_worse(table: list[list[tuple[int, int]]], budget: int):
    cost, rate = split(table)
    taken = marginal(cost, rate, budget)
    least = sum(row.min() for row in rate)
    assert total(rate, taken) <= max(budget, least)
    for c, r, o in zip(cost, rate, taken, strict=True):
        assert c[o] <= c[np.lexsort((c, r))[0]]


def test_where_the_solver_finds_nothing_in_time_the_fallback_stands(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fleet_budget, "_solve", lambda *_: None)
    cost, rate = [np.array([10.0, 2.0]), np.array([10.0, 8.0])], [np.array([1.0, 2.0]), np.array([1.0, 2.0])]
    assert allocate(cost, rate, 3.0, 1.0) == [1, 0]


def job(name: str, fast_hours: float, settings: object = RULES, **more: object) -> Situation:
    """A job at $1/h with 10 h to go, that could run at $3/h."""
    fast: Option = replace(option(offer("p3.2xlarge", 3.0), 8.0, 2.0), hours=spread(fast_hours), usd=spread(9.0))
    slow = option(offer("t3.large", 0.5), 20.0, -10.0)
    return replace(situation(stay(), fast, slow, settings=settings, **more), job=name)  # type: ignore[arg-type]


def test_the_budget_goes_to_the_job_that_gains_most():
    assert isinstance(FleetBudget(), FleetPolicy)
    shares = FleetBudget().share([job("a", 8.0), job("b", 2.0)], 1.0)
    assert shares == {"a": 1.0, "b": 3.0}


def test_what_other_jobs_cost_is_taken_off_and_need_comes_first():
    assert FleetBudget().share([job("a", 8.0), job("b", 2.0)], 4.0) == {"a": 0.5, "b": 0.5}
    needy = job("a", 8.0)
    fitting = tuple(replace(one, misfit=0.5 if one.usd_per_hour < 2 else 0.0) for one in needy.options)
    needy = replace(needy, options=fitting)
    assert FleetBudget().share([needy, job("b", 2.0)], 0.5) == {"a": 3.0, "b": 1.0}
    assert FleetBudget().share([needy], 3.0) == {"a": 1.0}, "need raises no budget"


def test_a_job_that_may_not_move_now_keeps_what_it_has():
    resting = job("a", 2.0, moves=(job("a", 2.0).now,))
    assert FleetBudget().share([resting], 0.0) == {"a": 1.0}


def test_a_share_is_a_limit_and_a_reason():
    seen = replace(job("b", 2.0), share_usd_per_hour=3.0)
    choice = decide(FleetBudget(), seen)
    assert choice.option.usd_per_hour == 3.0
    assert choice.reason == (
        "moving to aws/us-east-1/p3.2xlarge ($3.00 an hour, 2.0 h to the finish against 10.0 h), "
        "because its share of the fleet's budget is $3.00 an hour"
    )
    less = decide(FleetBudget(), replace(seen, share_usd_per_hour=1.0))
    assert less.option.stays
    assert less.rejected[0].limit == "share"
    down = decide(FleetBudget(), replace(seen, share_usd_per_hour=0.5))
    assert down.option.usd_per_hour == 0.5


def test_without_a_budget_every_job_is_on_its_own():
    alone = replace(RULES, extra={})
    assert FleetBudget().share([job("a", 2.0, alone)], 0.0) == {}
    assert decide(FleetBudget(), job("a", 2.0, alone)).option.usd_per_hour == 3.0


def test_an_offer_that_is_denied_is_not_shared_for():
    denied = replace(RULES, limits=Limits(deny=("*/p3*",)))
    assert FleetBudget().share([job("a", 2.0, denied)], 0.0) == {"a": 1.0}
