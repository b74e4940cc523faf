"""Pure decisions: the whole simulated cloud as a state machine whose every method is told the time.

It moves only by what is due: ``advance`` applies each transition at the very moment it was due, however late it is
called, so bills and states do not depend on how often anyone looks. It is not for several threads; ``Cloud`` is.
"""

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import assert_never

from providers.catalog import with_nodes
from providers.errors import Invalid, NoCapacity, NoPrice, NotFound, QuotaExceeded, WrongState
from providers.simulated import rules
from providers.simulated.state import (
    BILLED,
    Activity,
    Barrier,
    Delays,
    Group,
    Machine,
    Ordered,
    Quota,
    Shortage,
    State,
)
from providers.types import (
    Allocation,
    Call,
    Keep,
    Launch,
    MachineState,
    Modify,
    Node,
    Offer,
    Operation,
    Remove,
    Resize,
    Start,
    Stop,
    Target,
    Terminate,
)

NEVER = datetime.max.replace(tzinfo=UTC)
NEVER_YET = datetime.min.replace(tzinfo=UTC)
SHORTAGE = "(shortage)"
SEEN_KEPT = 64
ACTIVITIES_KEPT = 200


class World:
    """Machines, groups, accepted calls, quotas and shortages, and the laws they follow."""

    def __init__(self, name: str, offers: Iterable[Offer], seed: int, delays: Delays) -> None:
        self.name = name
        self.offers = {offer.id: offer for offer in offers if offer.nodes == 1}
        self.seed = seed
        self.delays = delays
        self.machines: dict[str, Machine] = {}
        self.groups: dict[str, Group] = {}
        self.orders: dict[str, Ordered] = {}
        self.quotas: dict[str, Quota] = {}
        self.barriers: list[Barrier] = []
        self.shortages: list[Shortage] = []
        self.number = 0
        self.changes = 0
        self.turns: deque[tuple[Machine | None, Machine]] = deque()
        self._seen: dict[str, list[tuple[datetime, Machine | Group]]] = {}
        self._tokens: dict[str, str] = {}
        self._calm = -1
        self._next = NEVER

    # Time.

    def advance(self, now: datetime) -> None:
        """Let everything happen that was due up to now, in order of time, then of name."""
        if self._calm == self.changes and now < self._next:
            return
        while (due := min(self._dues(), default=(NEVER, ""))) and due[0] <= now:
            at, name = due
            if name == SHORTAGE:
                self.shortages = [short for short in self.shortages if not short.until or short.until > at]
                self.changes += 1
            elif name in self.machines:
                self.put(rules.advanced(self.machines[name], at, self.delays, self._life), at)
            elif name in self.groups:
                self._fill(replace(self.groups[name], retry_at=None), at)
            else:
                self._settle([self.orders[name]], at)
        self._calm, self._next = self.changes, due[0]

    def _dues(self) -> Iterable[tuple[datetime, str]]:
        for machine in self.machines.values():
            if at := rules.next_due(machine):
                yield at, machine.id
        yield from ((group.retry_at, group.id) for group in self.groups.values() if group.retry_at)
        for order in self.orders.values():
            if order.fails_at and order.operation.state == "running":
                yield order.fails_at, order.operation.id
        yield from ((short.until, SHORTAGE) for short in self.shortages if short.until)

    def put(self, thing: Machine | Group, at: datetime) -> None:
        """Put a new value in the place of the old one, and let everything follow that hangs on it."""
        self.changes += 1
        seen = self._seen.setdefault(thing.id, [])
        seen.append((at, thing))
        del seen[:-SEEN_KEPT]
        if isinstance(thing, Group):
            self.groups[thing.id] = thing
        else:
            before = self.machines.get(thing.id)
            self.machines[thing.id] = thing
            if before is None or before.state != thing.state:
                self.turns.append((before, thing))
                if thing.group and thing.state == "terminated":
                    self._ended(thing, at)
        self._settle([order for order in self.orders.values() if order.operation.state == "running"], at)

    def _settle(self, orders: Iterable[Ordered], at: datetime) -> None:
        for order in orders:
            operation = rules.judged(order, at, self._parts(order.subject), self.groups.get(order.subject))
            if operation != order.operation:
                self.changes += 1
                self.orders[operation.id] = replace(order, operation=operation)

    def _parts(self, subject: str) -> list[Machine]:
        if subject in self.machines:
            return [self.machines[subject]]
        return [machine for machine in self.machines.values() if machine.group == subject]

    def _draw(self, seconds: float) -> timedelta:
        """Draw a delay. It hangs on the seed and on how many were drawn before, so a restart goes on alike."""
        self.number += 1
        spread = random.Random(f"{self.seed}/{self.number}").uniform(-1, 1)
        return timedelta(seconds=seconds * (1 + self.delays.jitter * spread))

    def _life(self) -> timedelta | None:
        """Draw how long a spot machine will run until its reclaim is announced."""
        if not self.delays.reclaims_per_hour:
            return None
        self.number += 1
        hours = random.Random(f"{self.seed}/{self.number}").expovariate(self.delays.reclaims_per_hour)
        return timedelta(hours=hours)

    def _name(self, kind: str) -> str:
        self.number += 1
        return f"{kind}-{self.number:06d}"

    # Groups.

    def _fill(self, group: Group, at: datetime) -> None:
        """Start the nodes that a group lacks; at the first that cannot be had, note it and try again later."""
        live = [m for m in self._parts(group.id) if m.state in ("pending", "running")]
        for _ in range(group.wanted - len(live)):
            node = self._name(f"{group.id}-node")
            refusal = self._refusal(group.offer)
            entry = Activity(at, node, "start", bool(refusal), str(refusal or ""))
            group = replace(group, activities=(*group.activities, entry)[-ACTIVITIES_KEPT:])
            if refusal:
                group = replace(group, retry_at=at + timedelta(seconds=self.delays.retry_seconds))
                break
            machine = Machine(node, node, group.offer, "stopped", at, labels=group.labels, group=group.id)
            machine = rules.turned(machine, "pending", at)
            self.put(replace(machine, then="running", due=at + self._draw(self.delays.node_seconds)), at)
        self.put(group, at)

    def _ended(self, node: Machine, at: datetime) -> None:
        group = self.groups[node.group]
        entry = Activity(at, node.id, "end", message=node.failing)
        self._fill(replace(group, activities=(*group.activities, entry)[-ACTIVITIES_KEPT:]), at)

    def _refusal(self, offer: Offer) -> QuotaExceeded | NoCapacity | NoPrice | None:
        """Say why one more machine of an offer cannot be had now, using up one attempt of a shortage."""
        if offer.price is None:
            return NoPrice(f"no price is known for {offer.id} - take a priced offer")
        if over := rules.over_quota(self.quotas.values(), self.machines.values(), offer):
            return QuotaExceeded(f"{over} - ask the cloud for more or take a smaller offer")
        if short := self._short(offer, late=False):
            self._use(short)
            return NoCapacity(f"no capacity for {offer.id} now - try another offer or later")
        return None

    def _short(self, offer: Offer, late: bool) -> Shortage | None:
        return next((s for s in self.shortages if s.late == late and fnmatchcase(offer.id, s.offers)), None)

    def _use(self, shortage: Shortage) -> None:
        self.changes += 1
        if shortage.times is None:
            return
        place = self.shortages.index(shortage)
        self.shortages[place : place + 1] = [replace(shortage, times=shortage.times - 1)] if shortage.times > 1 else []

    # Mutations.

    def perform(self, call: Call, token: str, at: datetime, doom: str = "") -> Operation:
        """Accept one call, or give back what its token began before. With ``doom`` its operation will fail by that."""
        if token in self._tokens:
            order = self.orders[self._tokens[token]]
            if rules.digest(order.call) != rules.digest(call):
                raise Invalid(f"token {token} was used for another call - use a new one for each call")
            return order.operation
        subject = self._apply(call, at, doom)
        made = self.target(self.machines[subject]) if isinstance(call, Launch) else None
        order = Ordered(token, call, subject, at, Operation(self._name("op"), self.name, "running", made=made))
        if doom and not isinstance(call, Launch | Start):
            order = replace(order, fails_at=at + timedelta(seconds=self.delays.modify_seconds), doom=doom)
        self.orders[order.operation.id] = order
        self._tokens[token] = order.operation.id
        self.changes += 1
        self._settle([order], at)
        return self.orders[order.operation.id].operation

    def _apply(self, call: Call, at: datetime, doom: str) -> str:
        """Do what a call asks; give the id of the machine or group it is about."""
        match call:
            case Launch():
                return self._launch(call, at, doom)
            case Resize() | Remove() | Keep():
                group = self.group(call.target)
                if not doom and isinstance(call, Resize):
                    self._resize(group, call.nodes, at)
                elif not doom and isinstance(call, Remove):
                    self._remove(group, call.victims, at)
            case Start():
                self._start(self.machine(call.target), at, doom)
            case Stop() | Modify() | Terminate():
                before = self.machine(call.target)
                after = self._told(call, before, at)
                if after is not before and not doom:
                    self.put(after, at)
            case _:
                assert_never(call)
        return call.target.id

    def _told(self, call: Stop | Modify | Terminate, machine: Machine, at: datetime) -> Machine:
        match call:
            case Stop():
                return rules.stopped(machine, at, self.delays, self._draw)
            case Modify():
                self.known(call.offer)
                return rules.modified(machine, call, at, self.delays, self.barriers, self.own)
            case Terminate():
                return rules.terminated(machine, at, self._draw(self.delays.stop_seconds))
            case _:
                assert_never(call)

    def _launch(self, call: Launch, at: datetime, doom: str) -> str:
        offer = self.known(call.offer)
        for machine in self.machines.values():
            if machine.name == call.name and machine.state != "terminated" and not machine.group:
                if machine.offer.id != offer.id:
                    raise Invalid(f"a machine {call.name} of {machine.offer.id} exists - launch under another name")
                return machine.id
        if refusal := self._refusal(offer):
            raise refusal
        doom = doom or self._doomed(offer)
        labels = {"name": call.name, **call.recipe.labels}
        machine = Machine(self._name("vm"), call.name, offer, "stopped", at, labels, call.recipe.template)
        machine = replace(machine, scheduling=rules.needed_scheduling(offer))
        due = at + self._draw(self.delays.boot_seconds)
        booting = replace(rules.turned(machine, "pending", at), due=due, then="terminated" if doom else "running")
        self.put(replace(booting, failing=doom), at)
        return machine.id

    def _start(self, machine: Machine, at: datetime, doom: str) -> None:
        after = rules.started(machine, at, self.delays, self._draw)
        if after is machine:
            return
        if refusal := self._refusal(machine.offer):
            raise refusal
        if doom := doom or self._doomed(machine.offer):
            after = replace(after, then="stopped", failing=doom)
        self.put(after, at)

    def _doomed(self, offer: Offer) -> str:
        if short := self._short(offer, late=True):
            self._use(short)
            return f"no capacity for {offer.id} after all - try another offer or later"
        return ""

    def _resize(self, group: Group, nodes: int, at: datetime) -> None:
        live = sum(m.state in ("pending", "running") for m in self._parts(group.id))
        if not group.min_nodes <= nodes <= group.max_nodes:
            raise Invalid(f"group {group.id} is bounded to {group.min_nodes}..{group.max_nodes} nodes, not {nodes}")
        if nodes < live:
            raise WrongState(f"group {group.id} has {live} nodes - remove named ones instead of resizing it to {nodes}")
        if nodes != group.wanted:
            self._fill(replace(group, wanted=nodes, retry_at=None), at)

    def _remove(self, group: Group, victims: Sequence[str], at: datetime) -> None:
        nodes = {m.id: m for m in self._parts(group.id) if m.state in ("pending", "running")}
        going = [nodes[victim] for victim in dict.fromkeys(victims) if victim in nodes]
        if not going:
            return
        if group.wanted - len(going) < group.min_nodes:
            raise Invalid(f"group {group.id} keeps at least {group.min_nodes} nodes - lower that bound first")
        self.put(replace(group, wanted=group.wanted - len(going)), at)
        for node in going:
            self.put(rules.terminated(node, at, self._draw(self.delays.remove_seconds)), at)

    # Finding.

    def machine(self, target: Target) -> Machine:
        """Find a VM by its target. Raises ``NotFound``."""
        machine = self.machines.get(target.id)
        if machine is None or machine.group or target.kind != "vm" or target.place != machine.place:
            raise NotFound(f"there is no {target.kind} {target.id} in {target.place}")
        return machine

    def group(self, target: Target) -> Group:
        """Find a group by its target. Raises ``NotFound``."""
        group = self.groups.get(target.id)
        if group is None or target.kind != "group" or target.place != group.place:
            raise NotFound(f"there is no {target.kind} {target.id} in {target.place}")
        return group

    def known(self, offer: Offer) -> Offer:
        """Find this cloud's own value of an offer, at its own price. Raises ``Invalid`` for one it does not have."""
        if offer.id not in self.offers:
            raise Invalid(f"this cloud has no offer {offer.id} - list its offers for what it has")
        return self.offers[offer.id]

    def own(self, offer: Offer) -> Offer:
        """Find this cloud's own value of an offer; one that it does not have is given back as it is."""
        return self.offers.get(offer.id, offer)

    def target(self, thing: Machine | Group) -> Target:
        """Name a machine or group as others do."""
        return Target(self.name, "group" if isinstance(thing, Group) else "vm", thing.id, thing.place)

    # Reads.

    def seen(self, name: str, at: datetime) -> Machine | Group | None:
        """Give what a machine or group was at a time, ``None`` before it was there."""
        return next((thing for since, thing in reversed(self._seen.get(name, [])) if since <= at), None)

    def describe(self, target: Target, now: datetime, lag: timedelta) -> Allocation:
        """Say what a target was ``lag`` ago. Raises ``NotFound`` as ``machine`` does, and for what is long gone."""
        self.machine(target) if target.kind == "vm" else self.group(target)
        thing = self.seen(target.id, now - lag)
        gone = isinstance(thing, Machine) and self._forgotten(thing, now)
        if thing is None or gone:
            raise NotFound(f"there is no {target.kind} {target.id} in {target.place}")
        return self.allocation(thing, now, lag)

    def _forgotten(self, machine: Machine, now: datetime) -> bool:
        shown = timedelta(seconds=self.delays.forget_seconds)
        return machine.state == "terminated" and now - machine.since > shown

    def allocation(self, thing: Machine | Group, now: datetime, lag: timedelta = timedelta()) -> Allocation:
        """Write a machine or group as an allocation."""
        if isinstance(thing, Machine):
            node = Node(thing.id, thing.state, thing.since)
            return Allocation(self.target(thing), thing.state, thing.offer, (node,), thing.notices, thing.labels)
        past = (self.seen(machine.id, now - lag) for machine in self._parts(thing.id))
        there = [m for m in past if isinstance(m, Machine) and m.state != "terminated"]
        settled = sum(m.state == "running" for m in there) == thing.wanted == len(there)
        nodes = tuple(Node(m.id, m.state, m.since) for m in there)
        notices = tuple(notice for m in there for notice in m.notices)
        offer = with_nodes(thing.offer, thing.wanted)
        state: MachineState = "running" if settled else "pending"
        return Allocation(self.target(thing), state, offer, nodes, notices, thing.labels)

    def labelled(self, key: str, value: str | None, now: datetime, lag: timedelta) -> list[Allocation]:
        """List machines and groups with a label as they were ``lag`` ago, those terminated left out."""
        names = [m.id for m in self.machines.values() if not m.group] + list(self.groups)
        things = [thing for thing in (self.seen(name, now - lag) for name in names) if thing]
        return [
            self.allocation(thing, now, lag)
            for thing in things
            if key in thing.labels
            and value in (None, thing.labels[key])
            and not (isinstance(thing, Machine) and thing.state == "terminated")
        ]

    # The whole.

    def state(self, at: datetime) -> State:
        """Write everything down."""
        return State(
            at,
            self.number,
            tuple(self.machines.values()),
            tuple(self.groups.values()),
            tuple(self.orders.values()),
            tuple(self.quotas.values()),
            tuple(self.barriers),
            tuple(self.shortages),
        )

    def restore(self, state: State) -> None:
        """Take everything up again as it was written down. Turns that were not handed on are given up."""
        self.number = state.number
        self._seen = {group.id: [(NEVER_YET, group)] for group in state.groups}
        self._seen |= {machine.id: [(machine.since, machine)] for machine in state.machines}
        self.machines = {machine.id: machine for machine in state.machines}
        self.groups = {group.id: group for group in state.groups}
        self.orders = {order.operation.id: order for order in state.orders}
        self._tokens = {order.token: order.operation.id for order in state.orders}
        self.quotas = {quota.name: quota for quota in state.quotas}
        self.barriers = list(state.barriers)
        self.shortages = list(state.shortages)
        self.changes += 1

    def live(self) -> list[Machine]:
        """List the machines that are paid for now."""
        return [machine for machine in self.machines.values() if machine.state in BILLED]

    def begin(self, thing: Machine | Group, at: datetime) -> None:
        """Set up a machine as given, or a group with all its nodes running, free of quota and shortage."""
        self.put(thing, at)
        for _ in range(thing.wanted if isinstance(thing, Group) else 0):
            node = self._name(f"{thing.id}-node")
            machine = Machine(node, node, thing.offer, "stopped", at, labels=thing.labels, group=thing.id)
            self.put(rules.turned(machine, "running", at), at)
