"""The loop when the store fails, people come between, the process dies, or the cloud says nothing certain."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from daemon import act
from daemon.forecast.base import Horizon
from daemon.forecast.persist import Persist
from daemon.store.base import Busy, StoreError
from daemon.types import Action, Checkpoint, Decision, Forecast, History
from providers.errors import Throttled, Unavailable
from providers.simulated.provider import Simulated
from providers.simulated.state import Barrier
from providers.types import Allocation, LaunchRecipe, Offer, Route, Start, Stop
from tests.daemon.test_loop import HUGE, LARGE, NOW, POLICY, SMALL, Scene

_T = TypeVar("_T")


@pytest.fixture(params=["auto"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path, request.param)
    yield made
    await made.loop.close()
    made.store.close()


def in_mode(mode: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scene", [mode], indirect=True)


def failing(function: Callable[..., _T], times: int = 1, error: StoreError | None = None) -> Callable[..., _T]:
    """Give a function that fails so many times before it does what it does."""
    left = [times]

    def called(*arguments: object, **named: object) -> _T:
        if left[0] > 0:
            left[0] -= 1
            raise error or Busy("the database is busy")
        return function(*arguments, **named)

    return called


async def about_to_move(scene: Scene) -> None:
    await scene.add("bert")
    await scene.say("bert", 15.9)


# The store is busy.


async def test_rows_that_could_not_be_kept_are_asked_for_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.add("bert")
    await scene.say("bert", 6.0)
    known = scene.loop._status["bert"]
    monkeypatch.setattr(scene.store.telemetry, "append", failing(scene.store.telemetry.append))
    with pytest.raises(Busy):
        await scene.say("bert", 6.0)
    assert scene.loop._status["bert"] == known


async def test_a_busy_store_does_not_end_the_loop_in_a_turn(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await about_to_move(scene)
    for store, name in ((scene.store.ledger, "outcomes"), (scene.store.ledger, "charge")):
        with monkeypatch.context() as patched:
            patched.setattr(store, name, failing(getattr(store, name)))
            await scene.loop.turn(["bert"])
    await scene.loop.turn(["bert"])
    assert len(scene.store.actions.unfinished()) == 1


async def test_a_busy_store_does_not_lose_the_lease(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = asyncio.Event()
    running = asyncio.get_running_loop()
    fails = failing(scene.loop.replica._lease.renew)

    def renew(giving: frozenset[str]) -> Any:
        kept = fails(giving=giving)
        running.call_soon_threadsafe(renewed.set)
        return kept

    monkeypatch.setattr(scene.loop.replica._lease, "renew", renew)
    holding = asyncio.create_task(hold_at_once(scene, monkeypatch))
    try:
        await asyncio.wait_for(renewed.wait(), 5)
    finally:
        holding.cancel()


async def test_a_sweep_that_fills_its_threads_does_not_hold_up_the_lease(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand jobs wait for a slow cloud: the lease, and what jobs report, must not queue behind them."""
    await scene.add("bert")
    gate = threading.Event()
    sweep = [scene.loop.watch._run(gate.wait, 10) for _ in range(64)]
    asked = [asyncio.create_task(one) for one in sweep]
    await asyncio.sleep(0)
    try:
        await asyncio.wait_for(scene.say("bert", 6.0), 5)
    finally:
        gate.set()
        await asyncio.gather(*asked)


async def hold_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_sleep(seconds: float, real: bool = False) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(scene.loop, "_sleep", no_sleep)
    await scene.loop._hold()


async def test_an_intent_that_could_not_be_kept_is_decided_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await about_to_move(scene)
    monkeypatch.setattr(scene.store.actions, "open", failing(scene.store.actions.open))
    await scene.loop.turn(["bert"])
    assert scene.store.actions.unfinished() == []
    await scene.say("bert", 15.9)
    await scene.loop.turn(["bert"])
    assert len(scene.store.actions.unfinished()) == 1


# People come between.


@in_mode("approve")
async def test_a_person_who_answers_during_a_turn_does_not_end_the_loop(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await about_to_move(scene)
    await scene.loop.turn(["bert"])
    (waiting,) = scene.store.decisions.of("bert")
    real = scene.store.decisions.mark

    def rejected_first(decision: str, status: str, by: str, expected: str | None = None) -> Decision:
        if status == "expired":
            real(decision, "rejected", "ada", "waiting")
        return real(decision, status, by, expected)  # type: ignore[arg-type]

    monkeypatch.setattr(scene.store.decisions, "mark", rejected_first)
    scene.policies.write_text(
        POLICY.replace("MODE", "approve").replace("moves:", "limits: {gpus: {min: 1}}\n    moves:")
    )
    assert scene.book.reload() == []
    await scene.loop.turn(["bert"])
    assert scene.store.decisions.get(waiting.id).status == "rejected"


@in_mode("approve")
async def test_an_approval_that_meets_a_silent_cloud_can_be_given_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await about_to_move(scene)
    await scene.loop.turn(["bert"])
    (waiting,) = scene.store.decisions.of("bert")

    def silent(self: Simulated, target: object) -> Allocation:
        raise Unavailable("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(Simulated, "describe", silent)
        with pytest.raises(Unavailable):
            await scene.loop.approve(waiting.id, "ada")
    assert (await scene.loop.approve(waiting.id, "ada")).by == "ada"
    assert len(scene.store.actions.unfinished()) == 1


async def test_a_policy_edited_during_a_turn_is_decided_with_from_the_next_turn_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await about_to_move(scene)
    real = scene.loop.watch.look

    async def edited_after(known: object) -> object:
        looks = await real(known)  # type: ignore[arg-type]
        scene.policies.write_text(
            POLICY.replace("MODE", "auto").replace("moves:", "limits: {gpus: {min: 1}}\n    moves:")
        )
        assert scene.book.reload() == []
        return looks

    monkeypatch.setattr(scene.loop.watch, "look", edited_after)
    await scene.loop.turn(["bert"])
    assert scene.store.actions.unfinished() == []
    assert all(d.choice.option.stays for d in scene.store.decisions.of("bert"))


# The cloud says nothing certain.


async def test_a_pre_flight_that_got_no_answer_is_asked_again_next_turn(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await about_to_move(scene)

    def silent(self: Simulated, current: Allocation, offer: Offer) -> Route:
        raise Unavailable("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(Simulated, "route", silent)
        (look,) = await scene.loop.turn(["bert"])
        assert look.choice is not None
        assert look.choice.option.stays
    await scene.say("bert", 15.9)
    (look,) = await scene.loop.turn(["bert"])
    assert look.choice is not None
    assert look.choice.option.offer.id == LARGE.id


@in_mode("recommend")
async def test_a_choice_waits_some_turns_for_an_answer_before_another_machine_is_taken_instead(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.add("bert", target=scene.cloud.add_machine("vm-huge", HUGE.id))
    route, asked = Simulated.route, list[str]()

    def silent(self: Simulated, current: Allocation, offer: Offer) -> Route:
        asked.append(offer.id)
        if offer.id == SMALL.id:
            raise Throttled("called too often")
        return route(self, current, offer)

    monkeypatch.setattr(Simulated, "route", silent)
    chosen = []
    for _ in range(4):
        await scene.say("bert", 6.0)
        (look,) = await scene.loop.turn(["bert"])
        assert look.choice is not None
        chosen.append(look.choice.option.offer.id)
    assert chosen == [HUGE.id, HUGE.id, HUGE.id, LARGE.id]
    assert asked == [SMALL.id] * 4 + [LARGE.id]


async def test_who_must_leave_does_not_wait_for_an_answer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await about_to_move(scene)
    route = Simulated.route

    def silent(self: Simulated, current: Allocation, offer: Offer) -> Route:
        if offer.id == LARGE.id:
            raise Throttled("called too often")
        return route(self, current, offer)

    monkeypatch.setattr(Simulated, "route", silent)
    (look,) = await scene.loop.turn(["bert"])
    assert look.choice is not None
    assert look.choice.option.offer.id == HUGE.id


# Money.


async def test_hours_on_a_stopped_machine_are_not_charged(scene: Scene) -> None:
    job = await scene.add("bert")
    assert job.target is not None
    await scene.say("bert", 6.0)
    await scene.loop.turn(["bert"])
    before = scene.store.ledger.spent("bert")
    scene.cloud.meddle(Stop(job.target))
    scene.clock.advance(120)
    scene.cloud.tick()
    await scene.loop.turn(["bert"])
    stopping = scene.store.ledger.spent("bert") - before
    scene.clock.advance(36_000)
    await scene.loop.turn(["bert"])
    scene.cloud.meddle(Start(job.target))
    scene.clock.advance(600)
    scene.cloud.tick()
    await scene.loop.turn(["bert"])
    after = scene.store.ledger.spent("bert") - before - stopping
    assert after <= 0.2 * 700 / 3600


async def test_the_ledger_grows_by_the_hour_and_not_by_the_turn(scene: Scene) -> None:
    await scene.add("bert")
    for _ in range(60):
        await scene.say("bert", 6.0, rows=3)
        await scene.loop.turn(["bert"])
    seconds = (scene.clock.now() - NOW).total_seconds()
    charges = scene.store.ledger.charges("bert")
    assert sum(one.seconds for one in charges) == pytest.approx(seconds)
    assert scene.store.ledger.spent("bert") == pytest.approx(0.2 * seconds / 3600)
    assert len(charges) <= 2


async def test_a_job_does_not_pay_for_an_earlier_one_of_its_name(scene: Scene) -> None:
    await scene.add("bert")
    await scene.say("bert", 6.0)
    await scene.loop.turn(["bert"])
    before = scene.store.ledger.spent("bert")
    old = scene.store.jobs.get("bert")[0]
    scene.store.jobs.remove("bert")
    await scene.loop.removed("bert")
    scene.clock.advance(36_000)
    target = scene.cloud.add_machine("vm-2", LARGE.id)
    job = replace(old, target=target, registered_at=scene.clock.now())
    scene.store.jobs.add(job)
    await scene.loop.registered(job)
    await scene.say("bert", 6.0)
    await scene.loop.turn(["bert"])
    assert scene.store.ledger.spent("bert") - before == pytest.approx(0.25 * 100 / 3600)


# The process dies, or its end of an action fails.


async def opened(scene: Scene, **more: object) -> Action:
    await scene.add("bert", **more)
    for _ in range(2):
        await scene.say("bert", 15.9)
        await scene.loop.turn(["bert"])
    (action,) = scene.store.actions.unfinished()
    return action


async def test_an_action_whose_end_was_not_settled_is_settled_by_the_next_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the close and its outcome: the move must count for the cooldown, a deletion must go on."""
    action = await opened(scene)
    scene.store.actions.save(act.enter(action, act.Enter("done"), scene.clock.now(), act.Patience()))
    scene.store.jobs.replace(replace(scene.store.jobs.get("bert")[0], state="deleting"))
    gone = asyncio.Event()
    running = asyncio.get_running_loop()
    real = scene.store.jobs.remove

    def remove(name: str) -> None:
        real(name)
        running.call_soon_threadsafe(gone.set)

    monkeypatch.setattr(scene.store.jobs, "remove", remove)
    await scene.loop.begin()
    working = asyncio.create_task(scene.loop.run())
    try:
        await asyncio.wait_for(gone.wait(), 5)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert [outcome.stage for outcome in scene.store.ledger.outcomes("bert")] == ["done"]


async def test_an_end_that_could_not_be_written_is_written_later(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    action = await opened(scene)
    scene.cloud.meddle(Stop(action.target))
    scene.clock.advance(120)
    scene.cloud.tick()
    monkeypatch.setattr(scene.store.ledger, "settle", failing(scene.store.ledger.settle))
    await scene.loop._advance(action)
    assert scene.store.actions.unfinished() == []
    assert scene.loop.health()["acting"] == ["bert"]
    (closed,) = scene.store.actions.unsettled()
    await scene.loop._settled(closed)
    assert [outcome.stage for outcome in scene.store.ledger.outcomes("bert")] == ["cancelled"]
    assert scene.loop.health()["acting"] == []


async def test_a_replacement_seen_through_by_another_process_leaves_the_job_on_the_new_machine(scene: Scene) -> None:
    scene.cloud.barrier(Barrier("m5.*", "r5.*", "families differ"))
    action = await opened(scene, recipe=LaunchRecipe("train"))
    assert action.route == "replace"
    status = scene.loop._status["bert"]
    for _ in range(200):
        (action,) = scene.store.actions.unfinished()
        if action.stage == "verifying":
            break
        if action.stage == "checkpointing" and action.asked_at is not None:
            saved = Checkpoint("c", 20, 5.0)
            status = replace(status, state="ready", checkpoint=saved, checkpoint_at=scene.clock.now())
        await scene.loop._operator.advance(action, status)
        scene.clock.advance(30)
        scene.cloud.tick()
    assert action.stage == "verifying"
    scene.loop._status["bert"] = replace(status, run="run-2", state="training", heard_at=scene.clock.now())
    await scene.loop._advance(action)
    assert scene.store.actions.unfinished() == [] or scene.store.actions.unfinished()[0].stage == "retiring"
    assert scene.store.jobs.get("bert")[0].target == action.made


# Many jobs.


async def test_a_turn_reads_no_job_by_job_what_it_knows(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["ada", "bert", "carl"]
    for name in names:
        await scene.add(name)
        await scene.say(name, 6.0)
    await scene.loop.turn(names)
    asked: Counter[str] = Counter()

    def counted(store: object, name: str) -> None:
        real = getattr(store, name)

        def called(*arguments: object, **named: object) -> object:
            asked[name] += 1
            return real(*arguments, **named)

        monkeypatch.setattr(store, name, called)

    counted(scene.store.ledger, "outcomes")
    counted(scene.store.ledger, "charges")
    counted(scene.store.ledger, "charge")
    counted(scene.store.decisions, "of")
    scene.clock.advance(30)
    await scene.loop.turn(names)
    assert asked == {"charge": 1}


class Watched(Persist):
    """Notes the threads it is asked in."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def predict(self, histories: Sequence[History], horizon: Horizon) -> list[Forecast]:
        self.threads.add(threading.get_ident())
        return super().predict(histories, horizon)


async def test_no_forecast_is_computed_on_the_event_loop(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    monkeypatch.setattr(scene.loop.watch, "_persist", watched)
    await scene.add("bert")
    await scene.say("bert", 6.0)
    await scene.loop.turn(["bert"])
    assert watched.threads
    assert threading.get_ident() not in watched.threads


async def test_what_is_remembered_of_a_job_is_small(scene: Scene) -> None:
    """With hundreds of offers the options of one look take a megabyte; nobody asks for them between turns."""
    await scene.add("bert")
    await scene.say("bert", 6.0)
    (look,) = await scene.loop.turn(["bert"])
    kept = scene.loop.seen("bert")
    assert kept is not None
    assert look.choice is not None
    assert look.options
    assert look.choice.rejected
    assert kept == replace(
        look, options=(), situation=None, choice=replace(look.choice, rejected=()),
        shadow=look.shadow and replace(look.shadow, rejected=()),
    )  # fmt: skip


async def test_a_decision_that_comes_again_is_counted_and_not_written_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.add("bert")
    await scene.say("bert", 6.0)
    await scene.loop.turn(["bert"])
    monkeypatch.setattr(scene.store.decisions, "add", failing(scene.store.decisions.add, times=99))
    with monkeypatch.context() as patched:
        patched.setattr(scene.store.decisions, "repeat", failing(scene.store.decisions.repeat))
        for _ in range(3):
            scene.clock.advance(30)
            await scene.loop.turn(["bert"])
    (decision,) = scene.store.decisions.of("bert")
    assert (decision.repeats, decision.last_at) == (3, scene.clock.now())


async def test_news_of_one_job_is_no_reason_to_look_at_every_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every closed action and every change of a job wakes the loop: a sweep of thousands each time would never end."""
    monkeypatch.setattr(scene.clock, "real_seconds", lambda seconds: 3600.0 * bool(seconds))
    looked: asyncio.Queue[list[str]] = asyncio.Queue()

    async def turn(names: Sequence[str]) -> None:
        looked.put_nowait(list(names))

    monkeypatch.setattr(scene.loop, "turn", turn)
    for name in ("ada", "bert", "carl"):
        await scene.add(name)
    working = asyncio.create_task(scene.loop._turns())
    try:
        scene.loop.kick("bert")
        assert await asyncio.wait_for(looked.get(), 5) == ["bert"]
        scene.loop.kick("bert")
        scene.loop.wake()
        assert await asyncio.wait_for(looked.get(), 5) == ["ada", "bert", "carl"]
        scene.clock.advance(31)
        scene.loop.kick("carl")
        assert await asyncio.wait_for(looked.get(), 5) == ["carl"]
        assert await asyncio.wait_for(looked.get(), 5) == ["ada", "bert", "carl"]  # its time has come meanwhile
    finally:
        working.cancel()
