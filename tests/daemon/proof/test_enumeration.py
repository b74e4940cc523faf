"""Every schedule of up to three faults of every kind of move ends well. ``docs/safety.md`` gives the figures."""

import pytest

from tests.daemon.proof.explore import explore
from tests.daemon.proof.scenarios import CALL, COMMIT, HOOK, READ, SCENARIOS, Scenario
from tests.daemon.proof.world import World, operator_module

LEAST = {
    "in place": 200_000, "in place, no capacity": 400_000, "in place, change refused": 180_000,
    "in place, no checkpoint": 80_000, "replace": 350_000, "replace, no checkpoint": 800_000, "grow": 10_000,
    "grow, too few": 200_000, "grow, none": 150_000, "shrink": 15_000, "release": 25_000,
}  # fmt: skip
"""Schedules that each move must have at least: fewer would mean that sites were lost from the enumeration."""
ENDS = {
    "in place": {"done", "cancelled"}, "in place, no capacity": {"rolled_back", "cancelled"},
    "in place, change refused": {"rolled_back", "cancelled"}, "in place, no checkpoint": {"cancelled"},
    "replace": {"done", "rolled_back", "cancelled"}, "replace, no checkpoint": {"rolled_back", "cancelled"},
    "grow": {"done", "rolled_back", "cancelled"}, "grow, too few": {"rolled_back", "cancelled"},
    "grow, none": {"rolled_back", "cancelled"}, "shrink": {"done", "cancelled"}, "release": {"released", "cancelled"},
}  # fmt: skip
"""How each may end: with three faults none needs a person."""


def test_every_kind_of_move_is_among_the_scenarios() -> None:
    assert {scenario.route for scenario in SCENARIOS} == {"in_place", "replace", "grow", "shrink", "release"}
    assert {scenario.end for scenario in SCENARIOS} == {"done", "rolled_back", "cancelled", "released"}
    assert set(LEAST) == set(ENDS) == {scenario.name for scenario in SCENARIOS}
    assert sum(LEAST.values()) >= 30_000


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_schedule_of_up_to_three_faults_ends_well(scenario: Scenario, capsys: pytest.CaptureFixture[str]) -> None:
    schedules, explorer = explore(scenario, operator_module(), faults=3)
    with capsys.disabled():
        print(f" {schedules:,} schedules, {len(explorer.states):,} states")
    assert schedules >= LEAST[scenario.name]
    assert set(explorer.ends) <= ENDS[scenario.name]


def test_the_sites_of_a_move_are_of_every_kind() -> None:
    """A read, a call, a request to the job and a commit: were one not asked, its faults would never be tried."""
    world = World(SCENARIOS[0], operator_module())
    met: dict[tuple[str, ...], set[str]] = {}
    while not world.over:
        world.turn({})
        for name, kinds in world.trace:
            met.setdefault(kinds, set()).add(name)
    assert met[READ] == {"describe", "route", "poll"}
    assert met[CALL] == {"call Stop", "call Modify", "call Start"}
    assert met[HOOK] == {"prepare"}
    assert {"call.sent.stop", "committed intent", "committed record sent", "committed outcome"} <= met[COMMIT]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_counting_states_once_counts_every_schedule(scenario: Scenario) -> None:
    """The count by states is the count by running each schedule of one fault from the start."""
    module = operator_module()
    undisturbed = World(scenario, module)
    sites: list[list[tuple[str, tuple[str, ...]]]] = []
    while not undisturbed.over:
        undisturbed.turn({})
        sites.append(undisturbed.trace)
    single = [
        (turn, site, kind) for turn, met in enumerate(sites) for site, (_, kinds) in enumerate(met) for kind in kinds
    ]
    ends = set()
    for turn, site, kind in single:
        world, number = World(scenario, module), 0
        while not world.over:
            world.turn({site: kind} if number == turn else {})
            number += 1
        world.check_end(disturbed=True)
        assert world.action is not None
        ends.add(world.action.stage)
    schedules, explorer = explore(scenario, module, faults=1)
    assert schedules == 1 + len(single)
    assert ends <= set(explorer.ends)
