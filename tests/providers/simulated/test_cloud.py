"""What the simulated cloud has beyond the contract: scripted trouble, attached GPUs, spot, lag, memory, witnesses."""

from datetime import timedelta
from pathlib import Path

import pytest

from providers.clock import VirtualClock
from providers.errors import (
    AnswerLost,
    Incompatible,
    Invalid,
    NoCapacity,
    NoPrice,
    NotFound,
    NotPermitted,
    QuotaExceeded,
    Throttled,
    WrongState,
)
from providers.simulated.cloud import Cloud, NoIntent
from providers.simulated.state import Barrier, Delays, Fault, Lag, Quota, Shortage
from providers.types import (
    Call,
    InPlace,
    Keep,
    Launch,
    LaunchRecipe,
    Modify,
    Notice,
    Offer,
    Operation,
    Remove,
    Replace,
    Resize,
    Start,
    Stop,
    Target,
    Terminate,
)
from tests.providers.simulated.offers import (
    ELSEWHERE,
    FAR,
    GPU,
    LARGE,
    N1,
    N1_2T4,
    N1_BIG_T4,
    N1_T4,
    NOW,
    OFFERS,
    SMALL,
    SPOT,
    UNPRICED,
)


class Ground:
    """A cloud with one machine, and its clock."""

    def __init__(self, offer: Offer = SMALL, delays: Delays | None = None, path: Path | None = None) -> None:
        self.clock = VirtualClock(NOW)
        self.waits: list[float] = []
        self.cloud = Cloud(self.clock, OFFERS, delays=delays, state_path=path, sleep=self.waits.append)
        self.vm = self.cloud.add_machine("vm-1", offer.id)
        self.count = 0

    def do(self, call: Call, seconds: float = 100) -> Operation:
        """Make a call, let time pass, and take its last word."""
        self.count += 1
        operation = self.cloud.perform(call, f"t{self.count}")
        self.clock.advance(seconds)
        return self.cloud.poll(operation)

    def launch(self, offer: Offer, name: str = "new") -> Launch:
        return Launch(LaunchRecipe("plain"), offer, name)

    def seconds(self) -> float:
        return (self.cloud.state().at - NOW).total_seconds()


def path_of(ground: Ground, offer: Offer) -> tuple[str, ...]:
    route = ground.cloud.route(ground.cloud.describe(ground.vm), offer)
    assert isinstance(route, InPlace)
    return route.aspects


@pytest.mark.parametrize(
    ("old", "new", "aspects"),
    [
        (N1, N1_T4, ("scheduling", "accelerators")),
        (N1, N1_BIG_T4, ("machine_type", "scheduling", "accelerators")),
        (SMALL, N1_T4, ("machine_type", "scheduling", "accelerators")),
        (N1_T4, N1_2T4, ("accelerators",)),
        (N1_T4, N1_BIG_T4, ("machine_type",)),
        (N1_T4, N1, ("accelerators", "scheduling")),
        (N1_2T4, SMALL, ("accelerators", "machine_type", "scheduling")),
        (N1_T4, GPU, ("accelerators", "machine_type", "scheduling")),
    ],
)
def test_gpus_are_attached_and_detached_in_order(old: Offer, new: Offer, aspects: tuple[str, ...]):
    ground = Ground(old)
    assert path_of(ground, new) == aspects
    ground.do(Stop(ground.vm))
    for number, aspect in enumerate(aspects):
        for early in aspects[number + 1 :]:
            with pytest.raises(WrongState):
                ground.do(Modify(ground.vm, new, early))
        assert ground.do(Modify(ground.vm, new, aspect)).state == "done"
    ground.do(Start(ground.vm))
    assert ground.cloud.describe(ground.vm).state == "running"
    assert ground.cloud.describe(ground.vm).offer == new


def test_a_half_changed_machine_does_not_start():
    ground = Ground(SMALL)
    ground.do(Stop(ground.vm))
    ground.do(Modify(ground.vm, N1_T4, "machine_type"))
    ground.do(Modify(ground.vm, N1_T4, "scheduling"))
    with pytest.raises(WrongState, match="scheduling"):
        ground.do(Start(ground.vm))


def test_a_start_just_after_a_modification_is_refused_until_it_is_done():
    ground = Ground()
    ground.do(Stop(ground.vm))
    ground.do(Modify(ground.vm, LARGE, "machine_type"), seconds=0)
    assert ground.cloud.describe(ground.vm).offer == SMALL
    with pytest.raises(WrongState, match="being modified"):
        ground.do(Start(ground.vm))
    ground.clock.advance(2)
    assert ground.cloud.describe(ground.vm).offer == LARGE


def test_what_cannot_be_in_place_is_a_replacement_and_refused_when_tried():
    ground = Ground()
    ground.cloud.barrier(Barrier("m7i.*", "p4d.*", "the image has no driver"))
    now = ground.cloud.describe(ground.vm)
    for offer, reason in ((FAR, "no driver"), (SPOT, "spot"), (ELSEWHERE, "us-east-1b")):
        route = ground.cloud.route(now, offer)
        assert isinstance(route, Replace)
        assert reason in route.reason
    ground.do(Stop(ground.vm))
    for offer in (FAR, SPOT, ELSEWHERE):
        with pytest.raises(Incompatible):
            ground.do(Modify(ground.vm, offer, "machine_type"))


def test_a_spot_machine_is_not_modified_but_may_be_stopped():
    ground = Ground(SPOT)
    assert isinstance(ground.cloud.route(ground.cloud.describe(ground.vm), GPU), Replace)
    ground.do(Stop(ground.vm))
    with pytest.raises(Incompatible):
        ground.do(Modify(ground.vm, SMALL, "machine_type"))


def test_a_spot_reclaim_is_announced_two_minutes_ahead():
    ground = Ground(SPOT)
    ground.cloud.reclaim("vm-1")
    (notice,) = ground.cloud.describe(ground.vm).notices
    assert notice.kind == "spot_reclaim"
    ground.clock.advance(119)
    assert ground.cloud.describe(ground.vm).state == "running"
    ground.clock.advance(1)
    assert ground.cloud.describe(ground.vm).state == "terminated"
    with pytest.raises(WrongState):
        ground.do(Start(ground.vm))
    assert sum(line.seconds for line in ground.cloud.bill("vm-1")) == 120
    with pytest.raises(WrongState):
        Ground().cloud.reclaim("vm-1")


def test_spot_machines_are_reclaimed_by_chance_the_same_way_for_a_seed():
    def life() -> float:
        ground = Ground(SPOT, Delays(reclaims_per_hour=2))
        made = ground.do(ground.launch(SPOT)).made
        assert made is not None
        ground.clock.advance(40 * 3600)
        return ground.cloud.bill(made.id)[0].seconds

    assert life() == life()
    assert 0 < life() < 40 * 3600


def test_delays_are_jittered_within_their_share():
    ground = Ground(delays=Delays(jitter=0.2))
    boots = []
    for number in range(20):
        machine = ground.cloud.perform(ground.launch(SMALL, f"m{number}"), f"l{number}").made
        assert machine is not None
        due = ground.cloud.machine(machine.id).due
        assert due is not None
        boots.append((due - ground.cloud.state().at).total_seconds())
    assert all(36 <= boot <= 54 for boot in boots)
    assert len(set(boots)) == 20


def test_a_late_shortage_lets_a_start_and_a_launch_come_to_nothing():
    ground = Ground()
    ground.cloud.shortage(Shortage("*", times=2, late=True))
    ground.do(Stop(ground.vm))
    operation = ground.do(Start(ground.vm))
    assert (operation.state, ground.cloud.describe(ground.vm).state) == ("failed", "stopped")
    assert "capacity" in (operation.error or "")
    operation = ground.do(ground.launch(LARGE))
    assert operation.state == "failed"
    assert operation.made is not None
    assert ground.cloud.describe(operation.made).state == "terminated"
    assert ground.do(Start(ground.vm)).state == "done"


def test_shortages_end_by_count_by_time_and_by_word():
    ground = Ground()
    ground.cloud.shortage(Shortage(LARGE.id, times=1))
    with pytest.raises(NoCapacity):
        ground.do(ground.launch(LARGE, "a"))
    assert ground.do(ground.launch(LARGE, "a")).state == "done"
    ground.cloud.shortage(Shortage(LARGE.id, until=ground.cloud.state().at + timedelta(seconds=60)))
    with pytest.raises(NoCapacity):
        ground.do(ground.launch(LARGE, "b"))
    ground.clock.advance(60)
    assert ground.do(ground.launch(LARGE, "b")).state == "done"
    ground.cloud.shortage(Shortage(LARGE.id, announced=True))
    with pytest.raises(NoCapacity):
        ground.cloud.route(ground.cloud.describe(ground.vm), LARGE)
    ground.cloud.relieve(LARGE.id)
    assert path_of(ground, LARGE) == ("machine_type",)


def test_quotas_count_what_is_paid_for_by_family():
    ground = Ground(GPU)
    ground.cloud.quota(Quota("g gpus", "gpus", 1, "*/g5.*"))
    with pytest.raises(QuotaExceeded, match="g gpus allows 1 gpus: 1 in use, 1 more"):
        ground.do(ground.launch(GPU))
    assert ground.do(ground.launch(FAR)).state == "done"
    ground.do(Stop(ground.vm))
    assert ground.do(ground.launch(GPU, "another")).state == "done"
    with pytest.raises(QuotaExceeded):
        ground.do(Start(ground.vm))


def test_an_offer_without_a_price_is_refused():
    ground = Ground()
    with pytest.raises(NoPrice):
        ground.do(ground.launch(UNPRICED))


@pytest.mark.parametrize("when", ["before", "after_applied"])
def test_scripted_faults_hit_so_many_calls_of_their_kind_and_target(when: str):
    ground = Ground()
    ground.cloud.fault(Fault("sto*", "Throttled", when, "vm-*", times=2))
    for _ in range(2):
        with pytest.raises(Throttled):
            ground.cloud.perform(Stop(ground.vm), "s")
        assert ground.cloud.machine("vm-1").state == ("running" if when == "before" else "stopping")
    ground.cloud.describe(ground.vm)
    assert ground.cloud.perform(Stop(ground.vm), "s").state == "running"
    outcomes = [(r.call, r.token, r.outcome) for r in ground.cloud.records()]
    assert outcomes == [
        ("stop", "s", "Throttled"),
        ("stop", "s", "Throttled"),
        ("describe", "", "ok"),
        ("stop", "s", "ok"),
    ]


def test_scripted_latency_waits_and_reads_can_fail_too():
    ground = Ground()
    ground.cloud.fault(Fault("describe", when="latency", seconds=9))
    ground.cloud.fault(Fault("describe", "NotPermitted", message="no compute.instances.get"))
    with pytest.raises(NotPermitted, match=r"compute\.instances\.get"):
        ground.cloud.describe(ground.vm)
    assert len(ground.waits) == 1
    with pytest.raises(Invalid):
        ground.cloud.fault(Fault("describe", "KeyError"))


def test_a_lag_shows_what_was():
    ground = Ground()
    ground.cloud.lag(Lag(20, until=NOW + timedelta(seconds=100)))
    ground.clock.advance(30)
    ground.do(Stop(ground.vm), seconds=10)
    assert ground.cloud.describe(ground.vm).state == "running"
    ground.clock.advance(10)
    assert ground.cloud.describe(ground.vm).state == "stopping"
    made = ground.do(ground.launch(LARGE), seconds=10).made
    assert made is not None
    with pytest.raises(NotFound):
        ground.cloud.describe(made)
    assert ground.cloud.labelled("name", "new") == []
    ground.clock.advance(10)
    assert ground.cloud.describe(made).state == "pending"
    ground.clock.advance(60)
    assert ground.cloud.describe(ground.vm).state == "stopped"


def test_a_terminated_machine_is_forgotten_after_an_hour_and_its_bill_stays():
    ground = Ground()
    ground.do(Terminate(ground.vm))
    assert ground.cloud.describe(ground.vm).state == "terminated"
    ground.clock.advance(3600)
    with pytest.raises(NotFound):
        ground.cloud.describe(ground.vm)
    assert [line.seconds for line in ground.cloud.bill("vm-1")] == [30]


def test_the_bill_follows_every_change_of_offer():
    ground = Ground()
    ground.clock.advance(3600)
    ground.do(Stop(ground.vm), 3600)
    ground.do(Modify(ground.vm, LARGE, "machine_type"), 3600)
    ground.do(Start(ground.vm), 1800)
    lines = [(line.offer, line.seconds, round(line.usd, 6)) for line in ground.cloud.bill("vm-1")]
    assert lines == [(SMALL.id, 3630, round(0.4 * 3630 / 3600, 6)), (LARGE.id, 1800, 0.4)]


def test_a_mutation_without_an_intent_is_loud():
    ground = Ground()
    ground.cloud.ask = lambda token, call: None if token == "known" else f"no intent for {token}: {call}"
    with pytest.raises(NoIntent, match="no intent for s"):
        ground.cloud.perform(Stop(ground.vm), "s")
    assert ground.cloud.machine("vm-1").state == "running"
    assert len(ground.cloud.complaints) == 1
    assert ground.cloud.perform(Stop(ground.vm), "known").state == "running"


def test_a_token_is_for_one_call():
    ground = Ground()
    ground.cloud.perform(Stop(ground.vm), "s")
    with pytest.raises(Invalid, match="another call"):
        ground.cloud.perform(Terminate(ground.vm), "s")


def test_tokens_bills_and_what_is_under_way_survive_a_restart(tmp_path: Path):
    path = tmp_path / "cloud.json"
    ground = Ground(path=path)
    ground.cloud.quota(Quota("all", "machines", 5))
    ground.cloud.shortage(Shortage(FAR.id))
    ground.cloud.fault(Fault("stop", "AnswerLost", "after_applied"))
    ground.clock.advance(50)
    with pytest.raises(AnswerLost):
        ground.cloud.perform(Stop(ground.vm), "s")
    again = Cloud(ground.clock, OFFERS, state_path=path)
    assert again.add_machine("vm-1", SMALL.id) == ground.vm
    operation = again.perform(Stop(ground.vm), "s")
    assert operation.state == "running"
    ground.clock.advance(30)
    assert again.poll(operation).state == "done"
    assert again.describe(ground.vm).state == "stopped"
    assert [line.seconds for line in again.bill("vm-1")] == [80]
    with pytest.raises(NoCapacity):
        again.perform(ground.launch(FAR), "l")
    assert [quota.name for quota in again.state().quotas] == ["all"]


def test_others_may_meddle_without_token_or_intent():
    ground = Ground()
    ground.cloud.ask = lambda token, call: "nobody may"
    ground.cloud.meddle(Stop(ground.vm))
    assert ground.cloud.describe(ground.vm).state == "stopping"
    assert [record.call for record in ground.cloud.records()] == ["describe"]


class Told:
    """Writes down what it is told, and posts a notice from within, as a real one does."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.heard: list[tuple[str, ...]] = []

    def machine_running(self, machine: str, offer: Offer, template: str) -> None:
        self.heard.append(("running", machine, offer.machine_type, template))
        self.cloud.notice(machine, Notice("maintenance", NOW, "hello"))

    def machine_stopping(self, machine: str) -> None:
        self.heard.append(("stopping", machine))

    def machine_off(self, machine: str, gone: bool) -> None:
        self.heard.append(("off", machine, "gone" if gone else "kept"))


def test_a_runner_is_told_of_every_turn_in_order():
    ground = Ground()
    told = Told(ground.cloud)
    ground.cloud.attach(told)
    ground.do(Stop(ground.vm))
    ground.do(Modify(ground.vm, LARGE, "machine_type"))
    ground.do(Start(ground.vm))
    made = ground.do(ground.launch(GPU)).made
    assert made is not None
    ground.do(Terminate(made))
    assert told.heard == [
        ("running", "vm-1", "m7i.2xlarge", ""),
        ("stopping", "vm-1"),
        ("off", "vm-1", "kept"),
        ("running", "vm-1", "m7i.4xlarge", ""),
        ("running", made.id, "g5.xlarge", "plain"),
        ("stopping", made.id),
        ("off", made.id, "gone"),
    ]
    assert len(ground.cloud.describe(ground.vm).notices) == 2


def group(ground: Ground, nodes: int = 2) -> Target:
    return ground.cloud.add_group("nodes", GPU.id, nodes, (1, 4))


def test_a_group_tries_again_and_tells_only_in_its_activities():
    ground = Ground()
    target = group(ground)
    ground.cloud.shortage(Shortage(GPU.id, times=2))
    operation = ground.cloud.perform(Resize(target, 3), "r")
    ground.clock.advance(30)
    assert len(ground.cloud.describe(target).nodes) == 2
    assert ground.cloud.group("nodes").activities[-1].failed
    assert ground.cloud.poll(operation).state == "failed"
    ground.clock.advance(60 + 60 + 60)
    assert len(ground.cloud.describe(target).nodes) == 3
    assert [activity.failed for activity in ground.cloud.group("nodes").activities] == [True, True, False]


def test_a_group_replaces_a_node_that_others_took():
    ground = Ground()
    target = ground.cloud.add_group("nodes", SPOT.id, 2, (1, 4))
    lost, kept = (node.id for node in ground.cloud.describe(target).nodes)
    ground.cloud.reclaim(lost)
    assert [notice.kind for notice in ground.cloud.describe(target).notices] == ["spot_reclaim"]
    ground.clock.advance(121)
    states = {node.id: node.state for node in ground.cloud.describe(target).nodes}
    assert lost not in states
    assert sorted(states.values()) == ["pending", "running"]
    assert states[kept] == "running"


def test_a_group_is_neither_emptied_nor_resized_blindly():
    ground = Ground()
    target = group(ground)
    nodes = tuple(node.id for node in ground.cloud.describe(target).nodes)
    for call, fault in (
        (Resize(target, 1), WrongState),
        (Resize(target, 5), Invalid),
        (Remove(target, nodes), Invalid),
    ):
        with pytest.raises(fault):
            ground.do(call)
    assert len(ground.cloud.describe(target).nodes) == 2


def test_a_group_is_billed_by_node():
    ground = Ground()
    target = group(ground)
    victim = ground.cloud.describe(target).nodes[0].id
    ground.clock.advance(3600)
    assert ground.do(Keep(target, (victim,)), 0).state == "done"
    ground.do(Remove(target, (victim,)), 3600)
    seconds = sorted(line.seconds for line in ground.cloud.bill("nodes"))
    assert seconds == [3620, 7200]
    assert sum(line.usd for line in ground.cloud.bill("nodes")) == pytest.approx((3620 + 7200) / 3600)


def test_time_does_not_go_back_with_the_clock():
    ground = Ground()
    ground.clock.advance(100)
    before = ground.seconds()
    ground.clock._elapsed = 10.0
    assert ground.seconds() == before
