"""An owner that stands still in the middle of its turn, and a new one that takes over meanwhile.

The old owner is paused at every site of every turn of every kind of move: between a read and a write, between the check
of the lease and the call, before it talks to the job. The new one, of a higher epoch, takes any number of turns; then
the old one wakes and goes on with what it was about to do. A call that is out already may take as long to arrive as
another owner waits before it repeats one (``Patience.repeat``); later than that the client has given it up.
"""

import contextlib
from collections.abc import Iterator
from types import ModuleType

import pytest

from daemon.store.base import Stale
from tests.daemon.proof.scenarios import CALL, HOOK, SCENARIOS, Broken, Scenario
from tests.daemon.proof.world import World, operator_module

MOST_TURNS = 40


def interleavings(scenario: Scenario, module: ModuleType | None = None) -> Iterator[tuple[World, str, float]]:
    """Give the world at the end of each, the site of the pause, and how many seconds it lasted."""
    world = World(scenario, module or operator_module())
    while not world.over:
        start = world.save_all()
        world.turn({})
        sites, after = list(world.trace), world.save_all()
        for site, (name, kinds) in enumerate(sites):
            # What a paused read or commit leads to is a write, which the fence refuses: the longest pause says it all.
            for turns in range(1, MOST_TURNS) if kinds in (CALL, HOOK) else (1, MOST_TURNS):
                world.restore(start)
                seconds, ended = _paused(world, site, turns)
                if kinds == CALL and seconds > world.patience.repeat:
                    break
                yield world, name, seconds
                if ended:
                    break
        world.restore(after)


def _paused(world: World, site: int, turns: int) -> tuple[float, bool]:
    """Stand still at a site of a turn, then go on to the end. Gives how long, and whether the other owner ended."""
    lasted: list[float] = []
    old = world.owner

    def interlude() -> None:
        began, trace = world.now_at, world.trace
        world.epoch = world.owner = old + 1
        for _ in range(turns):
            if not world.over:
                world.turn({})
        lasted.append((world.now_at - began).total_seconds())
        world.trace, world.owner = trace, old

    world.pause_at, world.interlude = site, interlude
    with contextlib.suppress(Stale):
        world.turn({})
    world.owner = world.epoch
    ended = world.over
    for _ in range(200):
        if not world.over:
            world.turn({})
    return lasted[0], ended


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.fault("A14")
def test_an_old_owner_that_wakes_does_no_harm(scenario: Scenario) -> None:
    tried, longest = 0, 0.0
    for world, site, seconds in interleavings(scenario):
        tried, longest = tried + 1, max(longest, seconds)
        try:
            world.check_end(disturbed=True)
        except Broken as fault:
            raise Broken(f"{fault} - paused at {site} for {seconds:.0f} s") from None
    assert tried >= 30
    assert longest >= 45


@pytest.mark.parametrize("scenario", SCENARIOS[:1] + SCENARIOS[4:5], ids=lambda scenario: scenario.name)
def test_an_old_owner_makes_at_most_the_one_call_that_was_out(scenario: Scenario) -> None:
    """However often it would like to go on: its first write is refused."""
    module = operator_module()
    world = World(scenario, module)
    while not world.over:
        start = world.save_all()
        world.turn({})
        after = world.save_all()
        for site, (name, _) in enumerate(list(world.trace)):
            world.restore(start)
            _paused_for_good(world, site)
            sent = [met for met, _ in world.trace[site + 1 :] if met.startswith("call ")]
            assert len(sent) == (name == "committed record sent"), f"paused at {name}"
        world.restore(after)


def _paused_for_good(world: World, site: int) -> None:
    def interlude() -> None:
        world.epoch += 1

    world.pause_at, world.interlude = site, interlude
    with contextlib.suppress(Stale):
        world.turn({})
