"""The loop with a real store and the simulated cloud, turn by turn under a clock of our own."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.act import Patience
from daemon.config import Config, Timing
from daemon.forecast.base import Horizon
from daemon.forecast.persist import Persist
from daemon.hook import HookError, Poller
from daemon.loop import Loop
from daemon.operate import Operator
from daemon.store.base import Missing, Stale
from daemon.store.open import open_store
from daemon.types import Forecast, History, Job, Observation, Report
from policies.book import PolicyBook
from policies.types import Choice, Situation
from providers.base import Provider
from providers.clock import VirtualClock
from providers.simulated.cloud import Cloud
from providers.simulated.provider import Simulated
from providers.types import Notice, Offer, Price, Resources
from tests.daemon.fresh import fresh_store

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
POLICY = """\
scaleahead: 1
policies:
  default:
    kind: cost_per_progress
    moves: {cooldown_minutes: 1, max_per_hour: 10}
    mode: {default: MODE}
"""


def offer(kind: str, usd: float, memory: float) -> Offer:
    return Offer("simulated", "us-east-1", kind, Resources(4, memory), Price(usd, "a test", NOW))


SMALL, LARGE, HUGE = offer("m5.xlarge", 0.2, 16), offer("r5.xlarge", 0.25, 32), offer("x1.xlarge", 0.8, 128)


class Forecasts:
    """Persistence in place of the child process."""

    def __init__(self) -> None:
        self.broken = False

    async def forecast(
        self, histories: Sequence[History], horizon: Horizon, timeout: float
    ) -> tuple[list[Forecast], str]:
        if self.broken:
            raise RuntimeError("a defect of the forecaster's border")
        return Persist().predict(histories, horizon), ""


class Scene:
    """A loop over one or more jobs, driven by hand."""

    offers = (SMALL, LARGE, HUGE)
    policy = POLICY
    refine_by_reward = False

    def __init__(self, directory: Path, mode: str, url: str = "", beside: "Scene | None" = None) -> None:
        self.clock = beside.clock if beside else VirtualClock(NOW)
        self.cloud = beside.cloud if beside else Cloud(self.clock, self.offers, sleep=lambda _: None)
        self.store = open_store(url, self.clock) if url else fresh_store(directory / "s.sqlite", self.clock)
        self.policies = directory / "policies.yaml"
        self.policies.write_text(self.policy.replace("MODE", mode))
        self.book = PolicyBook(self.policies)
        self.forecasts = Forecasts()
        lease = self.store.lease(f"test:{2 if beside else 1}", 1e6)
        lease.acquire()
        poller = Poller(self.clock)
        providers = self.connected()
        operator = Operator(self.store, providers, self, self.clock, Patience(), lease)
        self.events: list[tuple[str, str]] = []
        self.loop = Loop(
            store=self.store, policies=self.book, providers=providers, forecasts=self.forecasts, persist=Persist(),
            poller=poller, operator=operator, lease=lease, clock=self.clock,
            config=Config(timing=Timing(turn_seconds=30), refine_by_reward=self.refine_by_reward),
            publish=lambda event, subject, detail: self.events.append((event, subject)),
        )  # fmt: skip
        self.seq = 0

    def connected(self) -> dict[str, Provider]:
        """Give the providers by name."""
        return {"simulated": Simulated(self.cloud)}

    async def prepare(self, job: str, decision_id: str, deadline: datetime, reason: str) -> None:
        raise HookError("refused", "nobody there")

    async def proceed(self, job: str) -> None:
        return

    async def add(self, name: str, **more: object) -> Job:
        target = self.cloud.add_machine(f"vm-{name}", SMALL.id)
        job = replace(Job(name, self.clock.now(), "default", target=target, total_steps=10_000), **more)  # type: ignore[arg-type]
        self.store.jobs.add(job)
        await self.loop.registered(job)
        return job

    async def say(self, name: str, memory: float, rows: int = 10, run: str = "run-1", **more: Any) -> None:
        """The job reports some steps at 10 s each."""
        observations = []
        for _ in range(rows):
            self.clock.advance(10)
            self.seq += 1
            observations.append(
                Observation(
                    run, self.seq, self.seq, None, self.clock.now(), {"batch_size": 8}, {"loss": 1.0},
                    step_seconds=10.0, usage={"memory_gib": memory, "cpu_cores": 1.0}, total_steps=10_000,
                )
            )  # fmt: skip
        await self.loop.received(name, Report(name, run, self.seq + 1, tuple(observations), **more))

    def mutations(self) -> list[str]:
        return [r.call for r in self.cloud.records() if r.call in ("stop", "start", "modify", "launch", "terminate")]


@pytest.fixture(params=["auto"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path, request.param)
    yield made
    await made.loop.close()
    made.store.close()


def in_mode(mode: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scene", [mode], indirect=True)


async def test_a_job_that_fits_is_left_alone_and_told_why(scene: Scene) -> None:
    await scene.add("bert")
    for _ in range(3):
        await scene.say("bert", 6.0)
        await scene.loop.turn(["bert"])
    (decision,) = scene.store.decisions.of("bert")
    assert decision.status == "no_change"
    assert decision.repeats == 2
    assert "no change, because" in decision.choice.reason
    assert {r.offer for r in decision.rejected} == {LARGE.id, HUGE.id}
    assert scene.mutations() == []


async def test_a_job_about_to_outgrow_its_machine_is_moved_once(scene: Scene) -> None:
    await scene.add("bert")
    await scene.say("bert", 15.9)
    await scene.loop.turn(["bert"])
    await scene.say("bert", 15.9)
    await scene.loop.turn(["bert"])
    (action,) = scene.store.actions.unfinished()
    assert action.new.id == LARGE.id
    assert [d.status for d in scene.store.decisions.of("bert")] == ["acting"]
    assert ("decision", "bert") in scene.events


@in_mode("recommend")
async def test_recommending_changes_nothing(scene: Scene) -> None:
    await scene.add("bert")
    for _ in range(4):
        await scene.say("bert", 15.9)
        await scene.loop.turn(["bert"])
    (decision,) = scene.store.decisions.of("bert")
    assert decision.status == "recommended"
    assert scene.mutations() == []
    assert scene.store.actions.unfinished() == []


@in_mode("approve")
async def test_an_action_under_approval_waits_for_a_person(scene: Scene) -> None:
    await scene.add("bert")
    for _ in range(2):
        await scene.say("bert", 15.9)
        await scene.loop.turn(["bert"])
    (waiting,) = scene.store.decisions.of("bert")
    assert waiting.status == "waiting"
    assert scene.store.actions.unfinished() == []
    after = await scene.loop.approve(waiting.id, "ada")
    assert after.by == "ada"
    assert len(scene.store.actions.unfinished()) == 1
    with pytest.raises(Stale):
        await scene.loop.reject(waiting.id, "bob")


@in_mode("approve")
async def test_a_waiting_decision_that_no_longer_holds_expires(scene: Scene) -> None:
    await scene.add("bert")
    await scene.say("bert", 15.9)
    await scene.loop.turn(["bert"])
    (waiting,) = scene.store.decisions.of("bert")
    scene.policies.write_text(
        POLICY.replace("MODE", "approve").replace("moves:", "limits: {gpus: {min: 1}}\n    moves:")
    )
    assert scene.book.reload() == []
    await scene.say("bert", 15.9)
    await scene.loop.turn(["bert"])
    assert scene.store.decisions.get(waiting.id).status == "expired"


async def test_a_kill_for_memory_raises_the_floor_for_good(scene: Scene) -> None:
    await scene.add("bert")
    await scene.say("bert", 6.0)
    await scene.loop.turn(["bert"])
    scene.cloud.notice("vm-bert", Notice("out_of_memory", scene.clock.now()))
    await scene.loop.turn(["bert"])
    await scene.say("bert", 6.0)
    await scene.loop.turn(["bert"])
    status = scene.store.status.all()["bert"]
    assert status.kills == 1
    assert status.memory_floor_gib > 16
    (action,) = scene.store.actions.unfinished()
    assert action.new.resources.memory_gib >= 32


async def test_money_is_charged_once_for_every_second(scene: Scene) -> None:
    await scene.add("bert")
    for _ in range(5):
        await scene.say("bert", 6.0)
        await scene.loop.turn(["bert"])
    seconds = (scene.clock.now() - NOW).total_seconds()
    assert scene.store.ledger.spent("bert") == pytest.approx(0.2 * seconds / 3600)
    charges = scene.store.ledger.charges("bert")
    assert sum(charge.seconds for charge in charges) == pytest.approx(seconds)


async def test_a_policy_that_is_gone_leaves_the_job_observed_only(scene: Scene) -> None:
    await scene.add("bert", policy="nowhere")
    await scene.say("bert", 15.9)
    (look,) = await scene.loop.turn(["bert"])
    assert "nowhere" in look.reason
    assert scene.store.decisions.of("bert") == []


class Raising:
    """A plug-in with a defect."""

    foresees = True

    def choose(self, situation: Situation) -> Choice:
        raise ZeroDivisionError


@pytest.mark.fault("A18")
async def test_a_policy_that_raises_disturbs_no_other_job(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.add("good")
    await scene.add("bad", policy="broken")
    found = scene.book.get

    def get(name: str) -> object:
        settings, policy = found("default")
        return (settings, Raising()) if name == "broken" else (settings, policy)

    monkeypatch.setattr(scene.book, "get", get)
    for name in ("bad", "good"):
        await scene.say(name, 15.9, rows=3)
    await scene.loop.turn(["bad", "good"])
    assert [action.job for action in scene.store.actions.unfinished()] == ["good"]


async def test_a_turn_that_fails_ends_nothing(scene: Scene) -> None:
    await scene.add("bert")
    await scene.say("bert", 6.0)
    scene.forecasts.broken = True
    assert await scene.loop.turn(["bert"]) == []
    scene.forecasts.broken = False
    assert len(await scene.loop.turn(["bert"])) == 1


async def test_a_job_that_is_done_is_decided_for_no_more(scene: Scene) -> None:
    await scene.add("bert")
    await scene.say("bert", 15.9)
    await scene.loop.received("bert", Report("bert", "run-1", scene.seq + 1, (), state="done"))
    await scene.loop.turn(["bert"])
    assert scene.store.actions.unfinished() == []


class Rewarded(Scene):
    """A scene whose forecaster sees memory double at once, and whose experts are refined by reward."""

    refine_by_reward = True

    def __init__(self, directory: Path, mode: str) -> None:
        super().__init__(directory, mode)
        plain = self.forecasts.forecast

        async def doubling(
            histories: Sequence[History], horizon: Horizon, timeout: float
        ) -> tuple[list[Forecast], str]:
            made, reason = await plain(histories, horizon, timeout)
            name = "usage.memory_gib"
            return [replace(f, method="made", paths={**f.paths, name: 2 * f.paths[name]}) for f in made], reason

        self.forecasts.forecast = doubling  # type: ignore[method-assign]


async def test_a_forecaster_whose_decisions_were_dear_counts_less_for_the_owners_next_job(tmp_path: Path) -> None:
    scene = Rewarded(tmp_path, "recommend")
    rewards = scene.loop.watch.rewards
    assert rewards is not None
    job = await scene.add("bert", owner="ann")
    for _ in range(4):
        await scene.say("bert", 12.0)
        (look,) = await scene.loop.turn(["bert"])
    assert look.forecast is not None
    assert look.forecast.probability.tolist() == pytest.approx([0.9, 0.1])
    assert look.choice is not None
    assert look.choice.option.offer.id == LARGE.id, "the forecaster's word goes"
    await scene.loop.received("bert", Report("bert", "run-1", scene.seq + 1, (), state="done"))
    await scene.loop.turn(["bert"])
    await scene.loop.close()
    scene.store.close()
    assert rewards.weights(job)["foretold"] < 0.85


async def test_reports_of_unknown_jobs_are_refused(scene: Scene) -> None:
    with pytest.raises(Missing):
        await scene.loop.receive("nobody", b"{}")


@pytest.mark.fault("D10")
async def test_a_silent_job_loses_nothing(scene: Scene) -> None:
    """Unknown never takes away: a job not heard of for long keeps its machine, however empty it looked."""
    await scene.add("bert")
    target = scene.cloud.add_machine("vm-large", HUGE.id)
    await scene.loop.changed(replace((await scene.loop.look("bert")).job, target=target))
    await scene.say("bert", 1.0)
    scene.clock.advance(3600)
    (look,) = await scene.loop.turn(["bert"])
    assert look.choice is not None
    assert look.choice.option.stays
    assert scene.mutations() == []


@pytest.mark.parametrize("kind", ["cost_per_progress", "cost_per_hour", "goodput", "deadline", "budget"])
@in_mode("recommend")
async def test_a_job_on_a_machine_of_four_times_the_price_is_moved_to_the_one_that_does(
    scene: Scene, kind: str
) -> None:
    """A step makes an interval of 10 s, in which a move earns less than it costs; the rest of the job earns it."""
    scene.policies.write_text(POLICY.replace("cost_per_progress", kind).replace("MODE", "recommend"))
    assert scene.book.reload() == []
    await scene.add("bert", target=scene.cloud.add_machine("vm-huge", HUGE.id))
    for _ in range(3):
        await scene.say("bert", 6.0)
        (look,) = await scene.loop.turn(["bert"])
    assert look.choice is not None
    assert look.choice.option.offer.id == SMALL.id


async def test_an_in_place_plan_shows_up_in_a_look_without_acting(scene: Scene) -> None:
    await scene.add("bert")
    await scene.say("bert", 15.9)
    look = await scene.loop.look("bert")
    assert look.choice is not None
    assert look.choice.option.offer.id == LARGE.id
    assert look.shadow is not None
    assert scene.store.actions.unfinished() == []
    assert scene.store.decisions.of("bert") == []
