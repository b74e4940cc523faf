"""Acting on the simulated cloud with a real store: crashes at every committed step, faults, and people who meddle."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.act import Patience
from daemon.hook import HookError
from daemon.operate import NotTrusted, Operator
from daemon.store.base import Conflict, OverBudget, Stale, Store
from daemon.types import Action, Charge, Checkpoint, Decision, Job, JobStatus
from policies.types import Choice, Mode, Option, Settings, Situation, Spread
from providers.base import Provider
from providers.clock import VirtualClock
from providers.simulated.cloud import Cloud
from providers.simulated.provider import Simulated
from providers.simulated.state import Barrier, Delays, Fault, Shortage
from providers.types import Call, LaunchRecipe, Offer, Price, Resources, Start, Stop, Terminate
from tests.daemon.fresh import fresh_store

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
PATIENCE = Patience(look=5.0, repeat=30.0)


def offer(kind: str, usd: float, memory: float) -> Offer:
    return Offer("simulated", "us-east-1", kind, Resources(4, memory), Price(usd, "a test", NOW))


SMALL, LARGE = offer("m5.xlarge", 0.192, 16), offer("r5.xlarge", 0.252, 32)


class Killed(BaseException):
    """The process is gone."""


class World:
    """One machine, the job on it, and a daemon that may die and come back."""

    offers = (SMALL, LARGE)

    def __init__(self, path: Path, mode: Mode = "auto", recipe: LaunchRecipe | None = None) -> None:
        self.clock = VirtualClock(NOW)
        self._enter_cloud()
        self.path = path
        self.mode = mode
        self.reached: list[str] = []
        self.kill_at: int | None = None
        self.stand_still_at = ""
        self.deaf = False
        self.asked: list[datetime] = []
        self.boots = 0
        self.status = JobStatus(heard_at=NOW, run="run-0", state="training")
        self.job = Job("bert", NOW, "default", hook="http://127.0.0.1:1/", target=self.target, recipe=recipe)
        self.store: Store
        self.operator: Operator
        self.start()
        self.store.jobs.add(self.job)

    def _enter_cloud(self) -> None:
        self.cloud = Cloud(self.clock, (SMALL, LARGE), delays=Delays(), sleep=lambda _: None)
        self.provider: Provider = Simulated(self.cloud)
        self.target = self.cloud.add_machine("vm-1", SMALL.id)
        self.runs_on = "vm-1"
        self.cloud.ask = self._ask

    def start(self) -> None:
        self.store = fresh_store(self.path, self.clock)
        lease = self.store.lease("test:1", 15)
        lease.acquire(self.clock.now())
        self.operator = Operator(
            self.store, {self.provider.name: self.provider}, self, self.clock, PATIENCE,
            lease=lease, failpoint=self._failpoint,
        )  # fmt: skip

    def die(self) -> None:
        self.store.close()
        self.clock.advance(20)

    def _failpoint(self, name: str) -> None:
        self.reached.append(name)
        if name == self.stand_still_at:
            self.stand_still_at = ""
            self.clock.advance(60)
        if self.kill_at is not None and len(self.reached) - 1 == self.kill_at:
            raise Killed(name)

    def _ask(self, token: str, call: Call) -> str | None:
        for action in self.store.actions.unfinished():
            if any(record.token == token and record.call == call for record in self.store.actions.calls(action.id)):
                return None
        return f"no committed intent for {type(call).__name__}"

    # The job's side of the hook.

    async def prepare(self, job: str, decision_id: str, deadline: datetime, reason: str) -> None:
        self.asked.append(self.clock.now())
        if self.deaf:
            raise HookError("refused", "nobody there")

    async def proceed(self, job: str) -> None:
        self.status = replace(self.status, state="training")

    def live(self) -> None:
        """Let the job do what it would: save when asked, die and come back with its machine."""
        now = self.clock.now()
        running = self._running()
        if self.runs_on not in running:
            self.runs_on = ""
        if not running:
            return
        if not self.runs_on:
            self.runs_on = running[-1]
            self.boots += 1
            self.status = replace(self.status, run=f"run-{self.boots}", state="training")
        if self.asked and self.status.run == "run-0" and not self.deaf and self.status.state == "training":
            checkpoint = Checkpoint("step-100", 100, 5.0)
            self.status = replace(self.status, state="ready", checkpoint=checkpoint, checkpoint_at=now)
        self.status = replace(self.status, heard_at=now)

    def _running(self) -> list[str]:
        self.cloud.tick()
        return [machine.id for machine in self.cloud.state().machines if machine.state == "running"]

    # Driving it.

    def decide(self, new: Offer | None = None, route: str = "in_place") -> Decision:
        new = new or self.offers[1]
        nothing = Spread.exactly(0.0)
        option = Option(
            new, route, "change_machine", nothing, nothing, nothing, nothing, 0.252, None, 0.0, None, 0.0, 0.0,  # type: ignore[arg-type]
            0.0, 0.0, 0.0, 0.0, 0.0,
        )  # fmt: skip
        return Decision(
            "decision-1", "bert", self.clock.now(), "default", "v1", self.mode, "acting", self.offers[0],
            Choice(option, "a test"), (option,), "hash", {},
        )  # fmt: skip

    def intend(self, decision: Decision) -> None:
        self.operator.intend(decision, self.job, self.status, self.provider.describe(self.target))

    async def turn(self, seconds: float = 5.0) -> Action | None:
        self.live()
        open_actions = self.store.actions.unfinished()
        for action in open_actions:
            if action.next_at <= self.clock.now():
                await self.operator.advance(action, self.status)
        self.clock.advance(seconds)
        return open_actions[0] if open_actions else None

    async def settle(self, turns: int = 400) -> None:
        for _ in range(turns):
            if await self.turn() is None:
                return
        raise AssertionError(f"still open: {self.store.actions.unfinished()}")

    def stage(self) -> str:
        return self.store.decisions.get("decision-1").status

    def effects(self) -> Counter[str]:
        return Counter(
            record.call
            for record in self.cloud.records()
            if record.outcome == "ok" and record.call in ("stop", "modify", "start", "launch", "terminate")
        )


async def begun(world: World, route: str = "in_place") -> None:
    decision = world.decide(route=route)
    world.store.decisions.add(decision)
    world.intend(decision)


async def test_in_place_goes_through_its_calls_once_and_in_order(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    await begun(world)
    await world.settle()
    assert world.stage() == "done"
    assert [r.call for r in world.cloud.records() if r.call in ("stop", "modify", "start")] == [
        "stop",
        "modify",
        "start",
    ]
    assert world.cloud.machine("vm-1").offer.id == LARGE.id
    assert world.cloud.complaints == []


async def _reference(path: Path) -> list[str]:
    world = World(path)
    await begun(world)
    await world.settle()
    return world.reached


async def test_a_crash_at_every_committed_step_ends_well_with_every_call_made_once(tmp_path: Path) -> None:
    names = await _reference(tmp_path / "reference.sqlite")
    assert len(names) >= 15
    for site in range(len(names)):
        world = World(tmp_path / f"{site}.sqlite")
        world.kill_at = site
        try:
            await begun(world)
            await world.settle()
        except Killed:
            world.die()
            world.start()
        if not world.store.actions.unfinished() and world.stage() != "done":
            raise AssertionError(f"lost at {names[site]}")
        await world.settle()
        assert world.stage() == "done", names[site]
        assert world.effects() == {"stop": 1, "modify": 1, "start": 1}, names[site]
        assert world.cloud.machine("vm-1").state == "running", names[site]
        assert world.cloud.complaints == [], names[site]


@pytest.mark.parametrize("number", range(6))
async def test_the_call_after_a_repeated_one_is_the_last_whatever_the_tokens_are(tmp_path: Path, number: int) -> None:
    """A repeated stop once took the number of the modify after it, and then the wrong one could count as the last."""
    world = World(tmp_path / "s.sqlite")
    decision = replace(world.decide(), id=f"decision-{number}")
    world.store.decisions.add(decision)
    world.intend(decision)
    world.kill_at = world.reached.index("intent.committed") + 4
    with pytest.raises(Killed, match=r"call\.recorded\.stop"):
        await world.settle()
    world.die()
    world.start()
    await world.settle()
    assert world.effects() == {"stop": 1, "modify": 1, "start": 1}


@pytest.mark.fault("A1")
async def test_a_crash_before_the_intent_is_committed_calls_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    world.store.decisions.add(world.decide())
    world.die()
    world.start()
    await world.settle()
    assert world.effects() == {}


@pytest.mark.parametrize("call", ["stop", "modify", "start"])
@pytest.mark.parametrize("when", ["before", "after_applied"])
@pytest.mark.parametrize("error", ["AnswerLost", "Throttled", "Unavailable"])
async def test_a_transient_fault_of_any_call_has_one_effect(tmp_path: Path, call: str, when: str, error: str) -> None:
    world = World(tmp_path / "s.sqlite")
    world.cloud.fault(Fault(call, error, when))  # type: ignore[arg-type]
    await begun(world)
    await world.settle()
    assert world.stage() == "done"
    changes = [machine.offer.id for machine in world.cloud.state().machines]
    assert changes == [LARGE.id]
    assert world.cloud.machine("vm-1").state == "running"


async def test_no_capacity_on_start_runs_again_on_the_old_machine(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    world.cloud.shortage(Shortage(LARGE.id))
    await begun(world)
    await world.settle()
    assert world.stage() == "rolled_back"
    assert world.cloud.machine("vm-1").offer.id == SMALL.id
    assert world.cloud.machine("vm-1").state == "running"


async def test_a_job_that_gives_no_checkpoint_is_not_touched(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    world.deaf = True
    await begun(world)
    await world.settle()
    assert world.stage() == "cancelled"
    assert world.effects() == {}


@pytest.mark.fault("C12")
async def test_a_machine_that_a_person_stopped_is_left_stopped(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    world.deaf = True
    await begun(world)
    await world.turn()
    world.cloud.meddle(Stop(world.target))
    world.deaf = False
    await world.settle()
    assert world.stage() in ("cancelled", "needs_human")
    assert world.cloud.machine("vm-1").state == "stopped"
    assert "start" not in world.effects()


@pytest.mark.fault("C10")
async def test_a_machine_terminated_in_the_middle_is_for_a_person(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    await begun(world)
    while world.store.actions.unfinished()[0].stage != "stopping":
        await world.turn()
    world.cloud.meddle(Terminate(world.target))
    await world.settle()
    assert world.stage() == "needs_human"


async def test_a_person_who_starts_the_machine_meanwhile_is_no_fault(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    await begun(world)
    while world.store.actions.unfinished()[0].stage != "modifying":
        await world.turn()
        if world.cloud.machine("vm-1").state == "stopped":
            break
    world.cloud.meddle(Start(world.target))
    await world.settle()
    assert world.cloud.machine("vm-1").state == "running"
    assert world.stage() in ("done", "needs_human", "rolled_back", "cancelled")


async def test_two_actions_on_one_machine_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    await begun(world)
    second = replace(world.decide(), id="decision-2")
    world.store.decisions.add(second)
    with pytest.raises(Conflict):
        world.intend(second)


@pytest.mark.parametrize("mode", ["observe", "recommend", "approve"])
async def test_nothing_acts_without_trust(tmp_path: Path, mode: Mode) -> None:
    world = World(tmp_path / "s.sqlite", mode=mode)
    with pytest.raises(NotTrusted):
        await begun(world)
    assert world.effects() == {}


async def test_replace_launches_first_and_retires_the_old_machine_last(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite", recipe=LaunchRecipe("train"))
    world.cloud.barrier(Barrier("m5.*", "r5.*", "families differ"))
    decision = world.decide(route="replace")
    world.store.decisions.add(decision)
    world.intend(decision)
    await world.settle()
    assert world.stage() == "done"
    calls = [r.call for r in world.cloud.records() if r.call in ("launch", "stop", "terminate") and r.outcome == "ok"]
    assert calls == ["launch", "stop", "terminate"]


# Letting a machine go: a checkpoint, a stop, and nothing starts it again.


def letting_go(world: World) -> Decision:
    made = world.decide(SMALL, route="release")
    option = replace(made.choice.option, kind="release")
    return replace(made, choice=Choice(option, "the budget is spent"), options=(option,))


async def freed(world: World) -> None:
    decision = letting_go(world)
    world.store.decisions.add(decision)
    world.intend(decision)


async def test_a_machine_is_let_go_after_a_checkpoint_and_never_started(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    await freed(world)
    await world.settle()
    assert world.stage() == "released"
    assert world.effects() == {"stop": 1}
    assert world.cloud.machine("vm-1").state == "stopped"
    assert world.status.checkpoint is not None
    for _ in range(200):
        await world.turn()
    assert world.cloud.machine("vm-1").state == "stopped"


async def test_a_crash_at_every_step_of_letting_go_ends_with_one_stop(tmp_path: Path) -> None:
    reference = World(tmp_path / "reference.sqlite")
    await freed(reference)
    await reference.settle()
    assert len(reference.reached) >= 7
    for site in range(len(reference.reached)):
        world = World(tmp_path / f"{site}.sqlite")
        world.kill_at = site
        try:
            await freed(world)
            await world.settle()
        except Killed:
            world.die()
            world.start()
        await world.settle()
        assert world.stage() == "released", reference.reached[site]
        assert world.effects() == {"stop": 1}, reference.reached[site]
        assert world.cloud.complaints == [], reference.reached[site]


async def test_without_a_checkpoint_the_machine_is_kept_and_a_person_is_called(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    world.deaf = True
    await freed(world)
    await world.settle()
    assert world.stage() == "needs_human"
    assert world.effects() == {}
    assert world.cloud.machine("vm-1").state == "running"
    assert world.status.state == "training"


@pytest.mark.fault("C17")
async def test_a_stop_that_never_comes_is_for_a_person_and_is_not_undone(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    for when in ("before", "before", "before") * 40:
        world.cloud.fault(Fault("stop", "Unavailable", when))  # type: ignore[arg-type]
    await freed(world)
    await world.settle()
    assert world.stage() == "needs_human"
    assert "start" not in world.effects()


@pytest.mark.parametrize("mode", ["observe", "recommend", "approve"])
async def test_no_machine_is_let_go_without_trust(tmp_path: Path, mode: Mode) -> None:
    world = World(tmp_path / "s.sqlite", mode=mode)
    with pytest.raises(NotTrusted):
        await freed(world)
    assert world.effects() == {}


async def test_an_intent_over_the_jobs_budget_is_refused_unless_its_hours_are_cheaper(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    made = world.decide()
    option = replace(made.choice.option, move_usd=2.0)
    rules = Settings("default", "budget", "v1")
    seen = Situation("bert", NOW, rules, (option,), budget_usd=10.0)
    made = replace(made, choice=Choice(option, "a test"), options=(option,), situation=seen)
    world.store.decisions.add(made)
    world.store.ledger.charge([Charge("bert", SMALL.id, NOW, 3600, 9.0)])
    with pytest.raises(OverBudget, match="has spent or set aside"):
        world.intend(made)
    assert world.store.actions.unfinished() == []
    cheaper = replace(made, choice=Choice(replace(option, usd_per_hour=0.1), "a test"))
    world.intend(cheaper)
    assert len(world.store.actions.unfinished()) == 1


async def test_hyperparameters_that_were_advised_are_handed_over_with_the_request(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    told: list[dict[str, float]] = []

    async def prepare(
        job: str, decision_id: str, deadline: datetime, reason: str, advice: dict[str, float] | None = None
    ) -> None:
        told.append(advice or {})
        world.asked.append(world.clock.now())

    world.prepare = prepare  # type: ignore[method-assign, assignment]
    made = world.decide()
    advised = replace(made, choice=replace(made.choice, advice={"batch_size": 256.0}))
    world.store.decisions.add(advised)
    world.intend(advised)
    await world.settle()
    assert told == [{"batch_size": 256.0}]
    assert world.stage() == "done"


async def test_a_replacement_that_comes_to_nothing_deletes_the_machine_it_launched(tmp_path: Path) -> None:
    """The job gives no checkpoint; the new machine runs already, and must not go on costing money."""
    world = World(tmp_path / "s.sqlite", recipe=LaunchRecipe("train"))
    world.cloud.barrier(Barrier("m5.*", "r5.*", "families differ"))
    world.deaf = True
    decision = world.decide(route="replace")
    world.store.decisions.add(decision)
    world.intend(decision)
    await world.settle()
    assert world.stage() == "rolled_back"
    calls = [r.call for r in world.cloud.records() if r.call in ("launch", "stop", "terminate") and r.outcome == "ok"]
    assert calls == ["launch", "terminate"]
    states = {machine.id: machine.state for machine in world.cloud.state().machines}
    assert states.pop("vm-1") == "running"
    assert set(states.values()) <= {"terminated"}


async def test_a_launch_whose_outcome_stays_unknown_is_for_a_person(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite", recipe=LaunchRecipe("train"))
    world.cloud.barrier(Barrier("m5.*", "r5.*", "families differ"))
    world.cloud.fault(Fault("launch", "AnswerLost", "before", times=1000))
    decision = world.decide(route="replace")
    world.store.decisions.add(decision)
    world.intend(decision)
    await world.settle()
    assert world.stage() == "needs_human"


async def test_a_launch_that_was_lost_and_then_throttled_is_made_once(tmp_path: Path) -> None:
    """A repetition under another token would have launched, and paid for, a second machine."""
    world = World(tmp_path / "s.sqlite", recipe=LaunchRecipe("train"))
    world.cloud.barrier(Barrier("m5.*", "r5.*", "families differ"))
    world.cloud.fault(Fault("launch", "AnswerLost", "after_applied"))
    await begun(world, "replace")
    while not any(record.call == "launch" for record in world.cloud.records()):
        await world.turn()
    world.cloud.fault(Fault("launch", "Throttled", "before"))
    await world.settle()
    assert world.stage() == "done"
    assert len({record.token for record in world.cloud.records() if record.call == "launch"}) == 1


async def test_a_launch_whose_answer_the_action_never_learned_is_taken_up(tmp_path: Path) -> None:
    """Killed between the record of the answer and the action: the machine is known by the record alone."""
    world = World(tmp_path / "s.sqlite", recipe=LaunchRecipe("train"))
    world.cloud.barrier(Barrier("m5.*", "r5.*", "families differ"))
    world.deaf = True
    await begun(world, "replace")
    world.kill_at = world.reached.index("intent.committed") + 4
    with pytest.raises(Killed, match=r"call\.resolved\.launch"):
        await world.settle()
    world.die()
    world.start()
    await world.settle()
    assert world.stage() == "rolled_back"
    assert world.effects() == {"launch": 1, "terminate": 1}


@pytest.mark.parametrize("error", ["Throttled", "WrongState", "NotPermitted"])
async def test_a_refused_call_is_not_repeated_at_once(tmp_path: Path, error: str) -> None:
    world = World(tmp_path / "s.sqlite")
    world.cloud.fault(Fault("stop", error, "before", times=1000))  # type: ignore[arg-type]
    await begun(world)
    for _ in range(24):
        await world.turn()
    tried = [record.at for record in world.cloud.records() if record.call == "stop"]
    assert 2 <= len(tried) <= 5
    assert len(set(tried)) == len(tried)


@pytest.mark.fault("C7")
async def test_no_capacity_for_either_machine_is_asked_again_only_now_and_then(tmp_path: Path) -> None:
    world = World(tmp_path / "s.sqlite")
    world.cloud.shortage(Shortage(LARGE.id))
    await begun(world)
    while world.cloud.machine("vm-1").state != "stopped":
        await world.turn()
    world.cloud.shortage(Shortage(SMALL.id))
    for _ in range(120):
        await world.turn()
    assert 5 <= len([record for record in world.cloud.records() if record.call == "start"]) <= 14
    world.cloud.relieve(SMALL.id)
    await world.settle()
    assert world.stage() == "rolled_back"
    assert world.cloud.machine("vm-1").state == "running"


async def test_a_call_that_comes_long_after_its_record_is_not_made(tmp_path: Path) -> None:
    """The process was suspended between the check of its lease and the call: another may be past this by now."""
    world = World(tmp_path / "s.sqlite")
    await begun(world)
    world.stand_still_at = "call.recorded.stop"
    with pytest.raises(Stale, match="it is not made"):
        await world.settle()
    assert world.effects() == {}
    await world.settle()
    assert world.stage() == "done"
    assert world.effects() == {"stop": 1, "modify": 1, "start": 1}
