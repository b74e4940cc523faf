"""People who stop, start, resize and delete by hand, edit policies and remove jobs while faults happen.

A person's wish counts: what a person stopped is never started, what a person deleted is not made again, and whatever
we had begun still comes to an end that leaves nothing running, or standing, that nobody was told of.
"""

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from daemon.store.base import Conflict
from providers.errors import NotFound
from providers.types import Call, Start, Stop
from tests.daemon.proof.scenarios import CHANGE, LARGE, SCENARIOS, SIZES, SMALL, Broken, Machine
from tests.daemon.proof.world import World, operator_module

FAULTS = ("throttled", "unavailable", "lost", "delayed", "crash")
OPERATOR = operator_module()


class Watched(World):
    """A world in which it is known what a person did."""

    stopped_by_hand = False
    down_by_hand = False
    deleted_by_hand = False

    def lawful(self, call: Call, token: str) -> None:
        super().lawful(call, token)
        if isinstance(call, Start) and self.stopped_by_hand:
            raise Broken("a machine that a person stopped was started")


class Meddling(RuleBasedStateMachine):
    """One target, one daemon, and people."""

    @initialize(scenario=st.sampled_from(SCENARIOS))
    def begin(self, scenario: object) -> None:
        self.world = Watched(scenario, OPERATOR)  # type: ignore[arg-type]
        self.decisions = 1
        self.notes: list[str] = []
        self.deleting = False
        self.removed = False

    # The daemon, with or without faults.

    @rule(site=st.integers(0, 30), fault=st.sampled_from(FAULTS))
    def turn_with_a_fault(self, site: int, fault: str) -> None:
        self._turn({site: fault})

    @rule(turns=st.integers(1, 4))
    def turns(self, turns: int) -> None:
        for _ in range(turns):
            self._turn({})

    def _turn(self, plan: dict[int, str]) -> None:
        if not self.removed:
            self.world.turn(plan)
            self._remove()

    @rule(times=st.integers(1, 15))
    def time_passes(self, times: int) -> None:
        self.world.now_at += times * CHANGE
        self.world.live()

    # People at the cloud's console.

    def _machine(self) -> Machine | None:
        self.world.live()
        return self.world.machines.get("vm-1")

    @precondition(lambda self: self.world.scenario.target.kind == "vm")
    @rule()
    def a_person_stops_the_machine(self) -> None:
        machine = self._machine()
        if machine is not None and machine.state == "running":
            self.world.machines["vm-1"] = replace(machine, state="stopping", due=self.world.now_at + CHANGE)
            # A stop that was sent may have had its effect, whatever was answered: then whose it is cannot be told.
            records = self.world.records.values()
            ours = any(isinstance(record.call, Stop) for record in records)
            closed = self.world.action is not None and self.world.action.closed
            self.world.stopped_by_hand, self.world.down_by_hand = not ours or closed, True
            self.world.live()

    @precondition(lambda self: self.world.scenario.target.kind == "vm")
    @rule()
    def a_person_starts_the_machine(self) -> None:
        machine = self._machine()
        if machine is not None and machine.state == "stopped":
            self.world.machines["vm-1"] = replace(machine, state="pending", due=self.world.now_at + CHANGE)
            self.world.stopped_by_hand, self.world.down_by_hand, self.world.ours_since = False, False, None

    @precondition(lambda self: self.world.scenario.target.kind == "vm")
    @rule(wanted=st.sampled_from([SMALL, LARGE]))
    def a_person_changes_the_type(self, wanted: object) -> None:
        machine = self._machine()
        if machine is not None and machine.state == "stopped":
            self.world.machines["vm-1"] = replace(machine, offer=wanted)  # type: ignore[arg-type]

    @precondition(lambda self: self.world.scenario.target.kind == "vm" and not self.world.deleted_by_hand)
    @rule(sure=st.integers(0, 3))
    def a_person_deletes_the_machine(self, sure: int) -> None:
        machine = self._machine()
        if machine is not None and sure == 0:
            self.world.machines["vm-1"] = Machine("terminated", machine.offer)
            self.world.deleted_by_hand, self.world.ours_since = True, None
            self.world.live()

    @precondition(lambda self: self.world.scenario.target.kind == "group")
    @rule(more=st.booleans())
    def a_person_resizes_the_group(self, more: bool) -> None:
        world = self.world
        if more and world.desired < max(SIZES):
            world.desired += 1
            world.machines[f"p-{world.desired}"] = Machine("pending", SIZES[1], world.now_at + CHANGE)

    # People at the daemon.

    @rule()
    def a_policy_is_edited(self) -> None:
        """Under the new policy something else is decided at once, whatever is under way."""
        world = self.world
        if self.removed or world.action is None:
            return
        self.decisions += 1
        before = world.action
        other = replace(world.decision, id=f"decision-{self.decisions}")
        try:
            world.plan, world.trace = {}, []
            world.operator.intend(other, world.registered, world.status(), world.describe_quietly())
        except Conflict:
            assert not world.action.closed
            return
        except NotFound:
            return  # the machine is not shown yet: nothing is intended then
        world.decision, world.records, world.settled, world.launched = other, {}, None, {}
        self.notes.append(f"{before.stage} {before.note}")

    @rule()
    def the_job_is_deleted(self) -> None:
        self.deleting = True
        self._remove()

    def _remove(self) -> None:
        """Remove the job as the loop does: not before its action has come to its end."""
        action = self.world.action
        if self.deleting and action is not None and action.closed and self.world.settled is not None:
            self.removed = True

    # What always holds.

    @invariant()
    def nothing_is_launched_twice(self) -> None:
        if hasattr(self, "world"):
            assert len(self.world.launched) <= 1

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for _ in range(300):
            if self.removed or world.over:
                break
            self._turn({})
        assert world.over or self.removed, "it never ends"
        for _ in range(3):
            world.now_at += CHANGE
            world.live()
        self._nothing_is_left_behind()

    def _nothing_is_left_behind(self) -> None:
        world, action = self.world, self.world.action
        assert action is not None
        notes = [*self.notes, f"{action.stage} {action.note}"]
        for name in (name for name in world.machines if name.startswith("new-")):
            told = any(name in note or "scaleahead-" in note for note in notes)
            assert name == world.job.on or world.state_of(name) == "terminated" or told, f"{name} belongs to nobody"
        let_go = action.stage == "released" or any(note.startswith("released") for note in self.notes)
        gone = world.down_by_hand or world.deleted_by_hand or let_go
        assert world.job.on or gone or action.stage == "needs_human", f"{action.stage}: the job runs nowhere"


TestMeddling = Meddling.TestCase
TestMeddling.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
