"""Acting through long faults: a daemon killed again and again, clouds that refuse for minutes, credentials that end."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from providers.simulated.state import Fault, Shortage
from tests.daemon.test_operate import LARGE, SMALL, Killed, World, begun
from tests.daemon.test_operate_aws import OnAws
from tests.emulators.aws import Fault as AwsFault

CHANGES = ("stop", "modify", "start")


@pytest.mark.fault("A8")
async def test_a_crash_at_every_step_of_the_way_back_ends_on_the_old_machine(tmp_path: Path) -> None:
    reference = World(tmp_path / "reference.sqlite")
    reference.cloud.shortage(Shortage(LARGE.id))
    await begun(reference)
    await reference.settle()
    back = reference.reached.index("stage.rolling_back")
    assert len(reference.reached) - back >= 7
    for site in range(back, len(reference.reached)):
        world = World(tmp_path / f"{site}.sqlite")
        world.cloud.shortage(Shortage(LARGE.id))
        world.kill_at = site
        try:
            await begun(world)
            await world.settle()
        except Killed:
            world.die()
            world.start()
        await world.settle()
        machine = world.cloud.machine("vm-1")
        assert (world.stage(), machine.state, machine.offer.id) == ("rolled_back", "running", SMALL.id)
        assert world.effects() == {"stop": 1, "modify": 2, "start": 1}, reference.reached[site]
        assert world.cloud.complaints == []


class Frail(World):
    """A daemon that dies at every step it reaches: at each one once, or at the first one of every life."""

    every_life = False

    def _failpoint(self, name: str) -> None:
        new = name not in self.reached
        self.reached.append(name)
        if new or self.every_life:
            raise Killed(name)


async def _lives(world: Frail) -> int:
    """Bring the action to its end, however often the daemon dies on the way; count its lives."""
    world.store.decisions.add(world.decide())
    with pytest.raises(Killed):
        world.intend(world.store.decisions.get("decision-1"))
    for life in range(1, 100):
        world.die()
        world.start()
        try:
            await world.settle()
        except Killed:
            continue
        return life
    raise AssertionError("it never ends")


@pytest.mark.fault("A9")
async def test_a_daemon_that_dies_at_every_step_it_comes_to_gets_there_all_the_same(tmp_path: Path) -> None:
    world = Frail(tmp_path / "s.sqlite")
    lives = await _lives(world)
    assert lives == len(set(world.reached)) >= 14
    assert world.stage() == "done"
    assert world.effects() == {"stop": 1, "modify": 1, "start": 1}
    assert world.cloud.machine("vm-1").state == "running"
    assert world.cloud.complaints == []


@pytest.mark.fault("A9")
async def test_a_daemon_that_never_gets_past_one_step_a_life_ends_safely(tmp_path: Path) -> None:
    """Its deadlines count from the first life on: it does not ask for a checkpoint for ever."""
    world = Frail(tmp_path / "s.sqlite")
    world.every_life = True
    await _lives(world)
    assert world.stage() in ("done", "cancelled", "rolled_back")
    assert set(world.effects().values()) <= {1}
    assert world.cloud.machine("vm-1").state == "running"


@pytest.mark.fault("C14")
@pytest.mark.parametrize("call", CHANGES)
async def test_credentials_that_end_in_the_middle_never_leave_the_machine_stopped(tmp_path: Path, call: str) -> None:
    world = World(tmp_path / "s.sqlite")
    world.cloud.fault(Fault(call, "NotPermitted", message="the credentials have expired"))
    await begun(world)
    await world.settle()
    assert world.stage() in ("cancelled", "rolled_back", "done")
    assert world.cloud.machine("vm-1").state == "running"


@dataclass(frozen=True)
class Storm:
    """What every call of an account is answered with, and for how long.

    ``most`` calls of one API may be made meanwhile, the SDK's three repetitions of a read included: throttled, the
    bucket closes for up to two minutes; on errors, one look is taken in half a minute.
    """

    code: str
    status: int
    minutes: float
    most: int


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnAws]:
    """An instance of EC2. The SDK's own pauses between its tries are not waited for."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    made = OnAws(tmp_path / "s.sqlite")
    try:
        yield made
    finally:
        made.close()


@pytest.mark.fault("C1")
@pytest.mark.parametrize("stage", ["checkpointing", "starting"])
async def test_ten_minutes_of_throttling_are_waited_out_with_few_calls_and_no_wrong_one(world: OnAws, stage: str):
    await _through(world, stage, Storm("RequestLimitExceeded", 503, 10, 48))


@pytest.mark.fault("C2")
async def test_an_hour_of_errors_is_waited_out_with_few_calls_and_no_wrong_one(world: OnAws):
    await _through(world, "starting", Storm("InternalError", 500, 60, 600))


async def _through(world: OnAws, stage: str, storm: Storm) -> None:
    """Let a storm begin in a stage, and end; then the action has to end well, every change having been made once."""
    await begun(world)
    while world.store.actions.unfinished()[0].stage != stage:
        await world.turn()
    before = len(world.emulator.calls)
    world.emulator.fault(AwsFault("*", storm.code, storm.status, times=1_000_000))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world, "live", lambda: None)  # the test's own look would be refused as well
        for _ in range(int(storm.minutes * 4)):
            await world.turn(15)
    asked = Counter(call.action for call in world.emulator.calls[before:])
    assert asked
    assert max(asked.values()) <= storm.most
    world.emulator.relent()
    await world.settle()
    assert world.instance(world.target.id)[1] == "running"
    assert set(world.effects().values()) <= {1}
    assert world.emulator.complaints == []
