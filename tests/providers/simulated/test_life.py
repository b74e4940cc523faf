"""Random calls and random time against the simulated cloud, beside a naive count of what must hold."""

import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from providers.clock import VirtualClock
from providers.errors import AnswerLost, ProviderError
from providers.simulated.cloud import Cloud
from providers.simulated.state import Delays, Fault, Machine, Quota, Shortage
from providers.types import Call, Launch, LaunchRecipe, Modify, Offer, Remove, Resize, Start, Stop, Target, Terminate
from tests.providers.simulated.offers import GPU, LARGE, N1, N1_T4, NOW, OFFERS, SMALL, SPOT

DELAYS = Delays(5, 4, 2, 6, 3, 7, 8)
CORES = 30
PAID = ("pending", "running", "stopping")
LEGAL = {
    ("pending", "running"),
    ("pending", "stopping"),
    ("pending", "stopped"),
    ("pending", "terminated"),
    ("running", "stopping"),
    ("running", "terminated"),
    ("stopping", "stopped"),
    ("stopping", "terminated"),
    ("stopped", "pending"),
    ("stopped", "terminated"),
}
NAMES = st.sampled_from(["job-1", "job-2", "job-3"])
KINDS = st.sampled_from([SMALL, LARGE, GPU, SPOT, N1, N1_T4])
ASPECTS = st.sampled_from(["machine_type", "scheduling", "accelerators"])
PICK = st.integers(0, 20)


class Life(RuleBasedStateMachine):
    """Every second is looked at, so the count beside the cloud needs none of its arithmetic."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "cloud.json"
        self.clock = VirtualClock(NOW)
        self.cloud = Cloud(self.clock, OFFERS, delays=DELAYS, state_path=self.path)
        self.cloud.quota(Quota("cores", "cpu_cores", CORES))
        self.cloud.add_machine("vm-1", SMALL.id)
        self.group = self.cloud.add_group("nodes", GPU.id, 2, (1, 4))
        self.usd: dict[str, float] = {}
        self.states: dict[str, str] = {}
        self.made: dict[str, str] = {}
        self.sent: list[tuple[Call, str]] = []
        self.look()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def look(self) -> tuple[Machine, ...]:
        """Take a look at every machine, and hold each to the legal transitions since the last look."""
        machines = self.cloud.state().machines
        for machine in machines:
            before = self.states.get(machine.id, machine.state)
            assert before == machine.state or (before, machine.state) in LEGAL, (machine.id, before, machine.state)
            self.states[machine.id] = machine.state
        return machines

    def perform(self, call: Call, token: str) -> None:
        """Make a call and hold its token to one operation; what the cloud refuses is none of this test's business."""
        try:
            operation = self.cloud.perform(call, token)
        except ProviderError:
            return
        assert self.made.setdefault(token, operation.id) == operation.id

    def vm(self, pick: int) -> Target:
        vms = [machine for machine in self.cloud.state().machines if not machine.group]
        machine = vms[pick % len(vms)]
        return Target("simulated", "vm", machine.id, machine.place)

    def send(self, call: Call) -> None:
        self.sent.append((call, f"token-{len(self.sent)}"))
        self.perform(*self.sent[-1])

    @rule(pick=PICK, what=st.sampled_from([Stop, Start, Stop, Start, Terminate]))
    def switch(self, pick: int, what: type[Stop] | type[Start] | type[Terminate]):
        self.send(what(self.vm(pick)))

    @rule(pick=PICK, offer=KINDS, aspect=ASPECTS)
    def modify(self, pick: int, offer: Offer, aspect: str):
        self.send(Modify(self.vm(pick), offer, aspect))

    @rule(name=NAMES, offer=KINDS)
    def launch(self, name: str, offer: Offer):
        self.send(Launch(LaunchRecipe("plain"), offer, name))

    @rule(nodes=st.integers(1, 4))
    def grow(self, nodes: int):
        self.send(Resize(self.group, nodes))

    @rule(pick=PICK)
    def shrink(self, pick: int):
        nodes = self.cloud.describe(self.group).nodes
        if nodes:
            self.send(Remove(self.group, (nodes[pick % len(nodes)].id,)))

    @rule(pick=PICK)
    def repeat(self, pick: int):
        if self.sent:
            self.perform(*self.sent[pick % len(self.sent)])

    @rule(name=NAMES, offer=KINDS)
    def lose_an_answer(self, name: str, offer: Offer):
        call, token = Launch(LaunchRecipe("plain"), offer, name), f"token-{len(self.sent)}"
        self.sent.append((call, token))
        self.cloud.fault(Fault("launch", "AnswerLost", "after_applied"))
        before = len(self.cloud.state().machines)
        with pytest.raises(ProviderError) as caught:
            self.cloud.perform(call, token)
        if caught.type is AnswerLost:
            self.perform(call, token)
            assert len(self.cloud.state().machines) - before <= 1
        else:
            self.restart()

    @rule(offer=KINDS, late=st.booleans(), seconds=st.integers(1, 10))
    def run_short(self, offer: Offer, late: bool, seconds: int):
        until = self.cloud.state().at + timedelta(seconds=seconds)
        self.cloud.shortage(Shortage(offer.id, until, 2, late=late))

    @rule(pick=PICK)
    def reclaim(self, pick: int):
        spots = [m.id for m in self.cloud.state().machines if m.offer.buying == "spot" and m.state == "running"]
        if spots:
            self.cloud.reclaim(spots[pick % len(spots)])

    @rule()
    def restart(self):
        before = self.cloud.state()
        self.cloud = Cloud(self.clock, OFFERS, delays=DELAYS, state_path=self.path)
        after = self.cloud.state()
        assert (after.machines, after.groups, after.orders) == (before.machines, before.groups, before.orders)

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int):
        for _ in range(seconds):
            for machine in self.look():
                price = machine.offer.price
                if machine.state in PAID and price:
                    self.usd[machine.id] = self.usd.get(machine.id, 0.0) + price.usd_per_hour / 3600
            self.clock.advance(1)
        self.look()

    @rule(seconds=st.integers(1, 15))
    def wait_unseen(self, seconds: int):
        """Let time pass with no look in between: a twin that looks every second must come to the same."""
        twin_clock = VirtualClock(self.cloud.state().at)
        twin = Cloud(twin_clock, OFFERS, delays=DELAYS, state_path=self.path)
        twin._path = None
        for _ in range(seconds):
            for machine in twin.state().machines:
                price = machine.offer.price
                if machine.state in PAID and price:
                    self.usd[machine.id] = self.usd.get(machine.id, 0.0) + price.usd_per_hour / 3600
            twin_clock.advance(1)
        self.clock.advance(seconds)
        assert self.cloud.state().machines == twin.state().machines
        self.states = {machine.id: machine.state for machine in self.cloud.state().machines}

    @invariant()
    def bills_are_what_was_counted(self):
        for machine in self.look() if hasattr(self, "cloud") else ():
            billed = sum(line.usd for line in self.cloud.bill(machine.id))
            assert billed == pytest.approx(self.usd.get(machine.id, 0.0), abs=1e-9), machine.id

    @invariant()
    def no_quota_is_exceeded(self):
        live = [m for m in self.look() if m.state in PAID] if hasattr(self, "cloud") else []
        assert sum(machine.offer.resources.cpu_cores for machine in live) <= CORES

    @invariant()
    def one_machine_a_name(self):
        machines = self.look() if hasattr(self, "cloud") else ()
        names = [m.name for m in machines if m.state != "terminated" and not m.group]
        assert len(names) == len(set(names))


Life.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLife = Life.TestCase
