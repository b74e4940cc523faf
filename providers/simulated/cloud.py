"""Edge: a simulated cloud that threads share: a world under a clock, with its faults, its memory and its witnesses."""

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from providers.clock import Clock
from providers.errors import Invalid, NotFound, ProviderError, WrongState
from providers.simulated import routes, rules, wire
from providers.simulated.base import Runner
from providers.simulated.state import (
    Barrier,
    Delays,
    Fault,
    Group,
    Lag,
    Line,
    Machine,
    Quota,
    Record,
    Shortage,
    State,
)
from providers.simulated.world import World
from providers.types import Allocation, Call, Notice, Offer, Operation, Route, Target

RECORDS_KEPT = 50_000

Ask = Callable[[str, Call], str | None]
"""Asked before each mutation with its token: ``None`` if a committed intent is there, else the complaint."""


class NoIntent(AssertionError):
    """A mutation came without a committed intent. Not an error of the cloud: a defect of whoever called."""


class Cloud:
    """A cloud of VMs and node groups. Safe for threads; deterministic for a given clock, seed and order of calls.

    The methods up to ``labelled`` follow the laws of ``providers.base``; the rest are the operator's. With
    ``state_path`` everything is written there before a mutation returns, so that a new ``Cloud`` on the same file goes
    on where this one was, tokens included. ``sleep`` carries out scripted latency.
    """

    def __init__(
        self,
        clock: Clock,
        offers: Sequence[Offer],
        seed: int = 0,
        delays: Delays | None = None,
        state_path: Path | None = None,
        name: str = "simulated",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.ask: Ask | None = None
        self.complaints: list[str] = []
        self._clock = clock
        self._latest = clock.now()
        self._world = World(name, offers, seed, delays or Delays())
        self._path = state_path
        self._sleep = sleep
        self._faults: list[Fault] = []
        self._lags: list[Lag] = []
        self._records: deque[Record] = deque(maxlen=RECORDS_KEPT)
        self._lock = threading.RLock()
        self._telling = threading.RLock()
        self._runner: Runner | None = None
        self._saved = self._world.changes
        if state_path and state_path.exists():
            self._restore(state_path)

    # What a provider asks.

    def describe(self, target: Target) -> Allocation:
        """Say what a target is now, or was a scripted lag ago."""
        with self._entry("describe", target.id) as now:
            return self._world.describe(target, now, self._lag(target.id, now))

    def offers(self, target: Target) -> list[Offer]:
        """List what a target could become."""
        with self._entry("offers", target.id):
            return routes.choices(self._world, target)

    def route(self, current: Allocation, offer: Offer) -> Route:
        """Find the way to an offer, from what the target truly is now."""
        with self._entry("route", current.target.id):
            return routes.route(self._world, current.target, offer)

    def perform(self, call: Call, token: str) -> Operation:
        """Make one mutation. Raises ``NoIntent`` if ``ask`` knows of no committed intent for it."""
        complaint = self.ask(token, call) if self.ask else None
        if complaint is not None:
            with self._lock:
                self.complaints.append(complaint)
            raise NoIntent(complaint)
        kind = type(call).__name__.lower()
        with self._entry(kind, rules.subject(call), token) as now:
            doom = self._take(kind, rules.subject(call), "operation")
            message = doom and (doom.message or f"{doom.error}: the {kind} failed (scripted)")
            return self._world.perform(call, token, now, message or "")

    def poll(self, operation: Operation) -> Operation:
        """Ask how an operation stands."""
        with self._entry("poll", operation.id):
            order = self._world.orders.get(operation.id)
            if order is None:
                raise NotFound(f"there is no operation {operation.id}")
            return order.operation

    def labelled(self, key: str, value: str | None = None) -> list[Allocation]:
        """List what carries a label."""
        with self._entry("labelled", key) as now:
            return self._world.labelled(key, value, now, self._lag("*", now))

    # What its operator does. No fault touches these.

    def tick(self) -> None:
        """Let everything happen that was due up to now, and tell the runner of it."""
        with self._quiet():
            pass

    def add_machine(
        self, machine: str, offer: str, labels: Mapping[str, str] | None = None, template: str = ""
    ) -> Target:
        """Set up a VM that runs now, by the id of its offer. One that exists already is left as it is."""
        with self._quiet() as now:
            if machine not in self._world.machines:
                kind = self._offer(offer)
                scheduling = rules.needed_scheduling(kind)
                new = Machine(machine, machine, kind, "stopped", now, labels or {}, template, scheduling=scheduling)
                self._world.begin(rules.turned(new, "running", now), now)
            return self._world.target(self._world.machines[machine])

    def add_group(
        self,
        group: str,
        offer: str,
        nodes: int,
        bounds: tuple[int, int] = (1, 100),
        labels: Mapping[str, str] | None = None,
    ) -> Target:
        """Set up a group with all its nodes running, by the id of one node's offer. One that exists is left alone."""
        if not 1 <= bounds[0] <= nodes <= bounds[1]:
            raise Invalid(f"group {group} of {nodes} nodes is bounded to {bounds} - bounds start at 1 and enclose it")
        with self._quiet() as now:
            if group not in self._world.groups:
                self._world.begin(Group(group, self._offer(offer), nodes, *bounds, labels or {}), now)
            return self._world.target(self._world.groups[group])

    def bill(self, target: str) -> list[Line]:
        """List what a machine, or all nodes that a group ever had, have cost up to now, oldest first."""
        with self._quiet() as now:
            if target in self._world.groups:
                return rules.bill([m for m in self._world.machines.values() if m.group == target], now)
            return rules.bill([self._found(target)], now)

    def state(self) -> State:
        """Show everything."""
        with self._quiet() as now:
            return replace(self._world.state(now), faults=tuple(self._faults), lags=tuple(self._lags))

    def machine(self, machine: str) -> Machine:
        """Show the truth about one machine or node. Raises ``NotFound``."""
        with self._quiet():
            return self._found(machine)

    def group(self, group: str) -> Group:
        """Show the truth about one group, its scaling activities included. Raises ``NotFound``."""
        with self._quiet():
            if group not in self._world.groups:
                raise NotFound(f"there is no group {group}")
            return self._world.groups[group]

    def records(self) -> list[Record]:
        """List the calls made since this process began, oldest first; the newest 50,000 are kept."""
        with self._lock:
            return list(self._records)

    def meddle(self, call: Call) -> Operation:
        """Do something as another user of the account would: no token, no intent, no fault, no record."""
        with self._quiet() as now:
            return self._world.perform(call, f"(meddled) {self._world.number} {now.isoformat()}", now)

    def notice(self, machine: str, notice: Notice) -> None:
        """Post a notice on a machine."""
        with self._quiet() as now:
            self._world.put(rules.noticed(self._found(machine), notice), now)

    def reclaim(self, machine: str) -> None:
        """Announce the reclaim of a spot machine or node. Raises ``WrongState`` for one that cannot be reclaimed."""
        with self._quiet() as now:
            found = self._found(machine)
            if found.offer.buying != "spot" or found.state not in ("pending", "running"):
                raise WrongState(
                    f"machine {machine} is {found.offer.buying} and {found.state} - reclaim a running spot"
                )
            if found.reclaim_at is None:
                self._world.put(replace(found, notice_at=now), now)
                self._world.advance(now)

    def fault(self, fault: Fault) -> None:
        """Script a fault."""
        wire.error_named(fault.error)
        with self._quiet():
            self._faults.append(fault)

    def shortage(self, shortage: Shortage) -> None:
        """Let offers run out."""
        with self._quiet():
            self._world.shortages.append(shortage)
            self._world.changes += 1

    def relieve(self, offers: str) -> None:
        """End the shortages that were set with this very glob."""
        with self._quiet():
            self._world.shortages = [short for short in self._world.shortages if short.offers != offers]
            self._world.changes += 1

    def quota(self, quota: Quota) -> None:
        """Set a quota; one of the same name is replaced."""
        with self._quiet():
            self._world.quotas[quota.name] = quota
            self._world.changes += 1

    def barrier(self, barrier: Barrier) -> None:
        """Forbid a change of machine type in place."""
        with self._quiet():
            if barrier not in self._world.barriers:
                self._world.barriers.append(barrier)
                self._world.changes += 1

    def lag(self, lag: Lag) -> None:
        """Let reads show an older state."""
        with self._quiet():
            self._lags.append(lag)

    def attach(self, runner: Runner) -> None:
        """Let something run on the machines. It is told at once of every machine that runs."""
        with self._telling:
            with self._quiet():
                self._runner = runner
                self._world.turns.clear()
                running = [machine for machine in self._world.live() if machine.state == "running"]
            for machine in running:
                runner.machine_running(machine.id, machine.offer, machine.template)

    # Inside.

    @contextmanager
    def _quiet(self) -> Iterator[datetime]:
        """Hold the cloud at this moment: time first, then the body, then the disk, then the runner."""
        with self._lock:
            try:
                self._latest = max(self._latest, self._clock.now())
                self._world.advance(self._latest)
                yield self._latest
            finally:
                self._save()
        self._tell()

    @contextmanager
    def _entry(self, kind: str, subject: str, token: str = "") -> Iterator[datetime]:
        """Do the same for a provider's call, with its scripted faults before and after, and keep a record of it."""
        outcome = "ok"
        try:
            if wait := self._take(kind, subject, "latency"):
                self._sleep(self._clock.real_seconds(wait.seconds))
            self._raise(self._take(kind, subject, "before"), kind, subject)
            with self._quiet() as now:
                yield now
            self._raise(self._take(kind, subject, "after_applied"), kind, subject)
        except ProviderError as error:
            outcome = type(error).__name__
            raise
        finally:
            with self._lock:
                self._records.append(Record(self._latest, kind, subject, token, outcome))

    def _take(self, kind: str, subject: str, when: str) -> Fault | None:
        """Use up one occurrence of the first scripted fault that matches."""
        with self._lock:
            for place, fault in enumerate(self._faults):
                if fault.when == when and fnmatchcase(kind, fault.call) and fnmatchcase(subject, fault.target):
                    left = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    self._faults[place : place + 1] = left
                    return fault
        return None

    def _raise(self, fault: Fault | None, kind: str, subject: str) -> None:
        if fault:
            raise wire.error_named(fault.error)(fault.message or f"{fault.error}: {kind} of {subject} (scripted)")

    def _lag(self, subject: str, now: datetime) -> timedelta:
        lags = (lag for lag in self._lags if lag.until is None or now < lag.until)
        return timedelta(seconds=max((lag.seconds for lag in lags if fnmatchcase(subject, lag.target)), default=0.0))

    def _found(self, machine: str) -> Machine:
        if machine not in self._world.machines:
            raise NotFound(f"there is no machine {machine}")
        return self._world.machines[machine]

    def _offer(self, name: str) -> Offer:
        if name not in self._world.offers:
            raise Invalid(f"this cloud has no offer {name} - it has {', '.join(sorted(self._world.offers)[:5])} ...")
        return self._world.offers[name]

    def _tell(self) -> None:
        """Hand the transitions that have happened to the runner, in order, with no lock on the cloud."""
        with self._telling:
            while turn := self._next_turn():
                if self._runner:
                    _tell_turn(self._runner, *turn)

    def _next_turn(self) -> tuple[Machine | None, Machine] | None:
        with self._lock:
            return self._world.turns.popleft() if self._world.turns else None

    def _save(self) -> None:
        if self._path is None or self._saved == self._world.changes:
            return
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps(wire.encode(self._world.state(self._latest)), allow_nan=False))
        os.replace(scratch, self._path)
        self._saved = self._world.changes

    def _restore(self, path: Path) -> None:
        state: State = wire.decode(State, json.loads(path.read_text()), path.name)
        self._world.restore(state)
        self._latest = max(self._latest, state.at)


def _tell_turn(runner: Runner, before: Machine | None, after: Machine) -> None:
    if after.state == "running":
        runner.machine_running(after.id, after.offer, after.template)
    elif after.state == "stopping":
        runner.machine_stopping(after.id)
    elif after.state in ("stopped", "terminated") and before is not None:
        runner.machine_off(after.id, after.state == "terminated")
