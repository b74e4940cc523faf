"""Every schedule of up to so many faults, counted; each distinct state of the world is visited once.

A schedule says at which site of which turn what goes wrong. Two schedules that lead to the same state, as far as
anything later can tell (``World.key``), have the same future: it is run once and its schedules are counted for both.
So the count is of schedules, and none is left out; the work is that of the distinct states.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from tests.daemon.proof.scenarios import Broken, Scenario
from tests.daemon.proof.world import World

Plan = dict[int, str]


@dataclass
class Explorer:
    """``schedules`` of the whole are given by ``run``; ``states`` and ``turns`` say what that took."""

    world: World
    states: dict[Any, int] = field(default_factory=dict)
    turns: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    _open: set[Any] = field(default_factory=set)

    def run(self, faults: int) -> int:
        """Count the schedules of at most ``faults`` faults. Raises ``Broken``, which names the schedule."""
        return self._from(self.world.save_all(), faults, faults, [])

    def _from(self, start: tuple[Any, ...], left: int, most: int, path: list[str]) -> int:
        world = self.world
        world.restore(start)
        if world.over:
            self._ended(left < most, path)
            return 1
        key = (world.key(), left, left < most)
        if key in self.states:
            return self.states[key]
        if key in self._open or len(path) > 400:
            raise Broken(f"it never ends: {_told(path)}")
        self._open.add(key)
        total = 0
        for plan, trace, after in self._outcomes(start, left, path):
            met = [f"{trace[site][0]} {kind} (site {site})" for site, kind in plan.items()]
            total += self._from(after, left - len(plan), most, [*path, "; ".join(met)])
        self._open.discard(key)
        self.states[key] = total
        return total

    def _ended(self, disturbed: bool, path: list[str]) -> None:
        assert self.world.action is not None
        self.ends[self.world.action.stage] += 1
        try:
            self.world.check_end(disturbed)
        except Broken as fault:
            raise Broken(f"{fault} - after {_told(path)}") from None

    def _outcomes(
        self, start: tuple[Any, ...], left: int, path: list[str]
    ) -> Iterator[tuple[Plan, list[tuple[str, tuple[str, ...]]], tuple[Any, ...]]]:
        """Run one turn under every plan of at most ``left`` faults within it."""
        plans: list[Plan] = [{}]
        while plans:
            plan = plans.pop()
            self.world.restore(start)
            self.turns += 1
            try:
                self.world.turn(plan)
            except Broken as fault:
                raise Broken(f"{fault} - after {_told([*path, str(plan)])}") from None
            trace = self.world.trace
            if len(plan) < left:
                first = max(plan, default=-1) + 1
                plans += [{**plan, site: kind} for site in range(first, len(trace)) for kind in trace[site][1]]
            yield plan, trace, self.world.save_all()


def _told(path: list[str]) -> str:
    return ", ".join(f"turn {number}: {met}" for number, met in enumerate(path) if met) or "no fault"


def explore(scenario: Scenario, module: ModuleType, faults: int) -> tuple[int, Explorer]:
    """Enumerate one scenario over one copy of the operator."""
    explorer = Explorer(World(scenario, module))
    return explorer.run(faults), explorer
