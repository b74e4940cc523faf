"""The proof sees bugs: each seeded one turns its check red, and every check is green on the code as it is."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from daemon import act
from daemon.operate import NotTrusted
from daemon.store import open as opening
from daemon.store.base import Conflict, OverBudget, Stale, Store, StoreError
from daemon.types import Charge
from providers.clock import VirtualClock
from tests.daemon.proof.explore import explore
from tests.daemon.proof.mutants import MUTANTS, Mutant
from tests.daemon.proof.scenarios import SCENARIOS, Broken
from tests.daemon.proof.test_two_owners import interleavings
from tests.daemon.proof.world import World, at_once, operator_module
from tests.daemon.store.values import NOW, action, decision, job, later


def refuses(fault: type[StoreError], what: str, work: Callable[[], object]) -> None:
    """Ask that something is refused."""
    try:
        work()
    except fault:
        return
    raise Broken(what)


def holds(true: bool, what: str) -> None:
    if not true:
        raise Broken(what)


# Checks of the store, each on a real file.


def opened(path: Path, clock: VirtualClock) -> Store:
    return opening.open_store(path / "s.sqlite", clock)


def with_work(path: Path, clock: VirtualClock) -> Store:
    store = opened(path, clock)
    store.jobs.add(job())
    for name in ("d-1", "d-2", "d-3"):
        store.decisions.add(decision(name, machine=name))
    return store


def fenced(path: Path, clock: VirtualClock) -> None:
    store = with_work(path, clock)
    store.lease("old", 15).acquire(clock.now())
    mine = store.actions.open(action())
    other = opened(path, clock)
    clock.advance(16)
    other.lease("new", 15).acquire(clock.now())
    refuses(Stale, "an owner without the lease writes", lambda: store.actions.save(mine))
    store.close()
    other.close()


def one_holder(path: Path, clock: VirtualClock) -> None:
    store, other = opened(path, clock), opened(path, clock)
    store.lease("old", 15).acquire(clock.now())
    refuses(Conflict, "two processes hold one lease", lambda: other.lease("new", 15).acquire(clock.now()))
    store.close()
    other.close()


def lost_lease(path: Path, clock: VirtualClock) -> None:
    store, other = opened(path, clock), opened(path, clock)
    old = store.lease("old", 15)
    old.acquire(clock.now())
    clock.advance(16)
    other.lease("new", 15).acquire(clock.now())
    refuses(Stale, "a lost lease is renewed", lambda: old.renew(clock.now()))
    store.close()
    other.close()


def versions(path: Path, clock: VirtualClock) -> None:
    store = with_work(path, clock)
    mine = store.actions.open(action())
    store.actions.save(replace(mine, stage="stopping"))
    refuses(Stale, "an older version overwrites a newer", lambda: store.actions.save(replace(mine, stage="verifying")))
    store.close()


def closed(path: Path, clock: VirtualClock) -> None:
    store = with_work(path, clock)
    end = store.actions.save(replace(store.actions.open(action()), stage="done", closed_at=NOW))
    refuses(Stale, "a closed action is opened again", lambda: store.actions.save(replace(end, stage="stopping")))
    holds(store.decisions.get("d-1").status == "done", "the decision is not what its action came to")
    store.close()


def one_action(path: Path, clock: VirtualClock) -> None:
    store = with_work(path, clock)
    store.actions.open(action())
    refuses(Conflict, "two actions are open on one machine", lambda: store.actions.open(action("a-2", "d-2")))
    store.close()


def budget(path: Path, clock: VirtualClock) -> None:
    store = with_work(path, clock)
    store.ledger.charge([Charge("bert", "small", NOW, 3600.0, 6.0)])
    wanted = [action(f"a-{n}", f"d-{n}", f"vm-{n}", reserved_usd=3.0, budget_usd=10.0) for n in (1, 2, 3)]
    over = "more than the budget is spent and set aside"
    refuses(OverBudget, over, lambda: store.actions.open(replace(wanted[2], reserved_usd=4.5)))
    first = store.actions.open(wanted[0])
    refuses(OverBudget, over, lambda: store.actions.open(wanted[1]))
    store.actions.save(replace(first, stage="cancelled", closed_at=NOW))
    try:
        store.actions.open(wanted[1])
    except OverBudget as fault:
        raise Broken("what a closed action had set aside is not free again") from fault
    finally:
        store.close()


def charges(path: Path, clock: VirtualClock) -> None:
    store = opened(path, clock)
    for seconds in (60.0, 120.0, 120.0, 60.0):
        store.ledger.charge([Charge("bert", "small", NOW, seconds, seconds / 60)])
    store.ledger.charge([Charge("bert", "small", later(120), 60.0, 1.0)])
    holds(store.ledger.spent("bert") == 3.0, f"3 minutes at a dollar came to {store.ledger.spent('bert')} dollars")
    store.close()


STORE: Mapping[str, Callable[[Path, VirtualClock], None]] = {
    "fenced": fenced, "one holder": one_holder, "lost lease": lost_lease, "versions": versions, "closed": closed,
    "one action": one_action, "budget": budget, "charges": charges,
}  # fmt: skip
PARTS = {"actions": ("Actions",), "lease": ("Fence", "HeldLease"), "ledger": ("Ledger",)}


# Checks of acting, each in the small world.


def two_owners(module: ModuleType) -> None:
    for world, _, _ in interleavings(SCENARIOS[0], module):
        world.check_end(disturbed=True)


def observe(module: ModuleType) -> None:
    world = World(SCENARIOS[0], module)
    world.decision = replace(world.decision, mode="observe")
    with contextlib.suppress(NotTrusted, module.NotTrusted):
        while not world.over:
            world.turn({})
        raise Broken("a decision that must only observe has acted")


def in_the_small_world(check: tuple[str, int] | str, module: ModuleType) -> None:
    if check == "two owners":
        two_owners(module)
    elif check == "observe":
        observe(module)
    else:
        named, faults = check
        [scenario] = [one for one in SCENARIOS if one.name == named]
        explore(scenario, module, faults=int(faults))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_seeded_bug_is_seen(mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = mutant.made()
    if isinstance(mutant.check, str) and mutant.check in STORE:
        for part in PARTS[mutant.part]:
            monkeypatch.setattr(opening, part, getattr(made, part))
        # The lock beside the file is one more guard: it may be first to see that an epoch is not new.
        with pytest.raises((Broken, BlockingIOError)):
            STORE[mutant.check](tmp_path, VirtualClock(NOW))
        return
    module = operator_module(acting=made) if mutant.module is act else at_once(made)
    with pytest.raises(Broken):
        in_the_small_world(mutant.check, module)


@pytest.mark.parametrize("name", STORE)
def test_the_code_as_it_is_passes_the_stores_checks(name: str, tmp_path: Path) -> None:
    STORE[name](tmp_path, VirtualClock(NOW))


@pytest.mark.parametrize("check", ["two owners", "observe"])
def test_the_code_as_it_is_passes_the_other_checks(check: str) -> None:
    in_the_small_world(check, operator_module())


def test_there_are_at_least_25_bugs_and_every_part_has_some() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25
    assert {mutant.part for mutant in MUTANTS} == {"act", "operate", *PARTS}
