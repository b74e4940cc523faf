"""The cloud of the small world, and the job on it: strict, with every read and every call a site of faults."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from daemon.types import Action, Checkpoint, JobStatus
from providers import errors
from providers.types import (
    Allocation,
    Call,
    Grow,
    InPlace,
    Launch,
    MachineState,
    Modify,
    Node,
    Offer,
    Operation,
    Remove,
    Replace,
    Resize,
    Route,
    Same,
    Shrink,
    Start,
    Stop,
    Target,
    Terminate,
)
from tests.daemon.proof.scenarios import (
    CALL,
    CHANGE,
    HIDDEN,
    NEXT,
    NOW,
    READ,
    SAVING,
    SIZES,
    VM,
    Broken,
    JobNow,
    Machine,
    Scenario,
)


class Cloud:
    """Machines, nodes and the training process. ``plan`` says which of the sites of a turn fail, and how.

    At site ``pause_at`` the process stands still for as long as ``interlude`` runs. ``shown`` is what reads see until
    ``shown_until``, where an effect is not visible yet; ``ours_since`` is since when a machine stands stopped by us.
    """

    name = "simulated"

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.trace: list[tuple[str, tuple[str, ...]]] = []
        self.plan: Mapping[int, str] = {}
        self.now_at: datetime = NOW
        self.refused: list[str] = []
        self.pause_at = -1
        self.interlude: Callable[[], None] | None = None
        self.action: Action | None = None
        self.desired = 0
        self.launched: dict[str, str] = {}
        self.shown: tuple[dict[str, Machine], int] | None = None
        self.shown_until = NOW
        self.ours_since: datetime | None = None
        self.machines = {"vm-1": Machine("running", scenario.old)}
        self.job = JobNow("vm-1")
        if scenario.target.kind == "group":
            self.desired = scenario.old.nodes
            self.machines = {f"n-{number}": Machine("running", SIZES[1]) for number in range(self.desired)}
            self.job = JobNow("n-0")

    def site(self, name: str, kinds: tuple[str, ...]) -> str | None:
        """Pass a place where something may fail; give what fails there now."""
        self.trace.append((name, kinds))
        number = len(self.trace) - 1
        if self.interlude is not None and number == self.pause_at:
            interlude, self.interlude = self.interlude, None
            interlude()
        fault = self.plan.get(number)
        return fault if fault in kinds else None

    def lawful(self, call: Call, token: str) -> None:
        """Ask what must hold of a call when it is made."""

    # The job.

    def live(self) -> None:
        """Let machines and the job come to where they are at this moment."""
        now = self.now_at
        for name, machine in list(self.machines.items()):
            if machine.due is not None and machine.due <= now:
                self._pass(name, machine)
        if self.shown is not None and now >= self.shown_until:
            self.shown = None
        if self.job.on and self.state_of(self.job.on) != "running":
            self.job = replace(self.job, on="", state="training", asked_at=None, until=None)
        up = [name for name, machine in self.machines.items() if machine.state == "running"]
        if not self.job.on:
            if not up:
                return
            self.job = replace(
                self.job, on=up[-1] if self.scenario.target.kind == "vm" else up[0], run=self.job.run + 1
            )
        asked, until = self.job.asked_at, self.job.until
        if asked is not None and not self.scenario.deaf and self.job.state == "training" and now >= asked + SAVING:
            self.job = replace(self.job, state="ready", saved_at=now)
        if until is not None and now >= until:
            self.go_on()
        self.job = replace(self.job, heard_at=now)

    def _pass(self, name: str, machine: Machine) -> None:
        after = NEXT[machine.state]
        if self.scenario.target.kind == "group" and after == "stopped":
            del self.machines[name]
        elif machine.state == "stopping" and name in self.launched.values():
            self.machines[name] = Machine("terminated", machine.offer)
        else:
            self.machines[name] = Machine(after, machine.offer)

    def state_of(self, name: str) -> MachineState:
        """Give a machine's state."""
        return self.machines[name].state if name in self.machines else "terminated"

    def go_on(self) -> None:
        """Let the job train on."""
        self.job = replace(self.job, state="training", asked_at=None, until=None)

    def status(self) -> JobStatus:
        """Give what the daemon knows of the job."""
        job = self.job
        saved = Checkpoint(f"c-{job.run}", 1, 5.0) if job.saved_at else None
        return JobStatus(
            heard_at=job.heard_at, run=f"run-{job.run}", state=job.state, checkpoint=saved, checkpoint_at=job.saved_at
        )

    # The cloud's part: reads.

    def _read(self, what: str) -> None:
        match self.site(what, READ):
            case "throttled":
                raise errors.Throttled("too many requests")
            case "unavailable":
                raise errors.Unavailable("a fault of its own")

    def _seen(self) -> tuple[dict[str, Machine], int]:
        if self.shown is not None and self.now_at < self.shown_until:
            return self.shown
        return self.machines, self.desired

    def describe(self, target: Target) -> Allocation:
        self._read("describe")
        machines, desired = self._seen()
        if target.kind == "group":
            nodes = tuple(Node(name, machine.state) for name, machine in machines.items())
            return Allocation(target, "running", SIZES[desired], nodes)
        if target.id not in machines:
            raise errors.NotFound(f"there is no {target.id}")
        machine = machines[target.id]
        return Allocation(target, machine.state, machine.offer)

    def route(self, current: Allocation, wanted: Offer) -> Route:
        self._read("route")
        if current.offer.id == wanted.id:
            return Same()
        if current.target.kind == "group":
            there = current.offer.nodes
            return Grow(wanted.nodes) if wanted.nodes > there else Shrink(there - wanted.nodes)
        return Replace("families differ") if self.scenario.route == "replace" else InPlace(("machine_type",))

    def poll(self, operation: Operation) -> Operation:
        self._read("poll")
        name = operation.id.partition(":")[2]
        busy = name in self.machines and self.machines[name].due is not None
        return operation if busy else replace(operation, state="done")

    # The cloud's part: calls.

    def perform(self, call: Call, token: str) -> Operation:
        self.lawful(call, token)
        fault = self.site(f"call {type(call).__name__}", CALL)
        if fault in READ:
            self.refused.append(token)
            raise errors.Throttled("too many requests") if fault == "throttled" else errors.Unavailable("its own fault")
        before = dict(self.machines), self.desired
        try:
            operation = self.effect(call, token)
        except errors.ProviderError:
            self.refused.append(token)
            raise
        if fault == "lost":
            raise errors.AnswerLost("no answer came")
        if fault == "delayed":
            self.shown, self.shown_until = before, self.now_at + HIDDEN
        return operation

    def effect(self, call: Call, token: str) -> Operation:
        """Do what a call asks for, as strictly as a cloud does."""
        match call:
            case Stop(target):
                return self._stop(target.id)
            case Start(target):
                return self._start(target.id)
            case Modify(target, wanted):
                return self._modify(target.id, wanted)
            case Launch():
                return self._launch(call.offer, token)
            case Terminate(target):
                return self._terminate(target.id)
            case Resize(_, nodes):
                return self._resize(nodes)
            case Remove(_, victims):
                return self._remove(victims)

    def _operation(self, call: str, subject: str, made: Target | None = None) -> Operation:
        return Operation(f"{call}:{subject}", "simulated", "running", made=made)

    def _lose(self, name: str) -> None:
        """Take a machine from under the job: the law of work."""
        required = self.action is not None and self.action.checkpoint_required
        if self.job.on == name and required and not self.job.safe:
            raise Broken(f"work is lost: {name} was taken away while the job trained")

    def _stop(self, name: str) -> Operation:
        machine = self.machines[name]
        if machine.state in ("stopping", "stopped"):
            return Operation("stop", "simulated", "done")
        if machine.state != "running":
            raise errors.WrongState(f"{name} is {machine.state}")
        self._lose(name)
        self.machines[name] = Machine("stopping", machine.offer, self.now_at + CHANGE)
        self.ours_since = self.now_at
        self.live()
        return self._operation("stop", name)

    def _start(self, name: str) -> Operation:
        machine = self.machines[name]
        if machine.state in ("pending", "running"):
            return Operation("start", "simulated", "done")
        if machine.state != "stopped":
            raise errors.WrongState(f"{name} is {machine.state}")
        if machine.offer.machine_type in self.scenario.lacking:
            raise errors.NoCapacity(f"no capacity for {machine.offer.machine_type}")
        self.machines[name] = Machine("pending", machine.offer, self.now_at + CHANGE)
        self.ours_since = None
        return self._operation("start", name)

    def _modify(self, name: str, wanted: Offer) -> Operation:
        machine = self.machines[name]
        if machine.state != "stopped":
            raise errors.WrongState(f"{name} is {machine.state}")
        if self.scenario.refuses and wanted.id == self.scenario.new.id:
            raise errors.Incompatible("this change is not allowed")
        self.machines[name] = replace(machine, offer=wanted)
        return Operation("modify", "simulated", "done")

    def _launch(self, wanted: Offer, token: str) -> Operation:
        if token not in self.launched:
            name = f"new-{len(self.machines)}"
            self.launched[token] = name
            self.machines[name] = Machine("pending", wanted, self.now_at + CHANGE)
        name = self.launched[token]
        return self._operation("launch", name, replace(VM, id=name))

    def _terminate(self, name: str) -> Operation:
        if name not in self.machines:
            raise errors.NotFound(f"there is no {name}")
        if self.job.on == name:
            raise Broken(f"the machine with the work, {name}, was deleted")
        self.machines[name] = Machine("terminated", self.machines[name].offer)
        if name == "vm-1":
            self.ours_since = None
        return Operation("terminate", "simulated", "done")

    def _resize(self, nodes: int) -> Operation:
        there = [name for name, machine in self.machines.items() if machine.state in ("pending", "running")]
        if nodes < len(there):
            raise Broken(f"{len(there)} nodes and a size of {nodes}: the cloud would choose which of them to end")
        self.desired = nodes
        number = len(there)
        for name in (f"m-{number}" for number in range(9)):
            if number >= min(nodes, self.scenario.stock):
                break
            if name not in self.machines:
                self.machines[name] = Machine("pending", SIZES[1], self.now_at + CHANGE)
                number += 1
        return Operation("resize", "simulated", "done")

    def _remove(self, victims: tuple[str, ...]) -> Operation:
        for name in victims:
            if name in self.machines and self.machines[name].state != "stopping":
                if name.startswith("n-"):
                    # It trains on all nodes it began with: without one of them it must begin again.
                    self._lose(self.job.on)
                    self.job = replace(self.job, on="", state="training", asked_at=None, until=None)
                self.machines[name] = Machine("stopping", SIZES[1], self.now_at + CHANGE)
                self.desired -= 1
        self.live()
        return Operation("remove", "simulated", "done")
