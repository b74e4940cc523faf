"""Edge: power in the emulated machines: what an emulated cloud starts and stops are real processes.

A single machine runs the task that is named as the template it was launched from; its processes are killed when its
memory limit is passed, by ``api.demo.machine``. A group's job is one process, as rank 0 under an elastic launcher: it
is started again whenever a node of the group goes, for as long as one is left.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from api.demo.machine import Machines, Task
from providers.clock import ScaledClock
from providers.types import Offer

TICK_SECONDS = 0.02


@dataclass(frozen=True)
class What:
    """What a machine is: its offer, the template that it was launched from, and the group that it is a node of."""

    offer: Offer
    template: str = ""
    group: str = ""


class Powered(Protocol):
    """An emulated cloud, as far as power is concerned."""

    def powered(self) -> Mapping[str, bool]:
        """Let what is due happen; then say of every machine that exists whether it has power."""

    def what(self, machine: str) -> What:
        """Say what a machine is."""


class Power:
    """What runs on the machines of one emulated cloud, also while nobody asks it.

    ``clock`` is the one that the tasks share with the daemon; ``disks`` holds a folder for each machine.
    """

    def __init__(
        self, cloud: Powered, clock: ScaledClock, disks: Path, tasks: Mapping[str, Task], bytes_per_gib: int
    ) -> None:
        self._cloud = cloud
        self._before: Mapping[str, bool] = {}
        self._groups: dict[str, str] = {}
        self._nodes: dict[str, tuple[str, Offer]] = {}
        self._ending = threading.Event()
        self._looker = threading.Thread(target=self._look, name="emulated power", daemon=True)
        self.machines = Machines(clock, disks, {}, tasks, lambda *_: None, clock.rate, clock.origin, bytes_per_gib)

    def start(self) -> None:
        """Begin to run what is on."""
        self.machines.start()
        self._looker.start()

    def close(self) -> None:
        """End every process."""
        self._ending.set()
        self._looker.join()
        self.machines.close()

    def man(self, group: str, task: str) -> None:
        """Let the nodes of a group (glob) run a task together. To be said before the group is made."""
        self._groups[group] = task

    def _look(self) -> None:
        while not self._ending.wait(TICK_SECONDS):
            now = self._cloud.powered()
            for machine in sorted(self._before.keys() | now.keys()):
                on = now.get(machine, False)
                if on and not self._before.get(machine, False):
                    self._on(machine, self._cloud.what(machine))
                elif not on and self._before.get(machine, False):
                    self._off(machine, machine not in now)
            self._before = now

    def _on(self, machine: str, what: What) -> None:
        task = next((task for group, task in self._groups.items() if fnmatchcase(what.group, group)), None)
        if task is None:
            self.machines.machine_running(machine, what.offer, what.template)
            return
        first = not any(of == task for of, _ in self._nodes.values())
        self._nodes[machine] = (task, what.offer)
        if first:
            self.machines.machine_running(task, what.offer, task)

    def _off(self, machine: str, gone: bool) -> None:
        task, _ = self._nodes.pop(machine, ("", None))
        if not task:
            self.machines.machine_off(machine, gone)
            return
        left = [offer for of, offer in self._nodes.values() if of == task]
        self.machines.machine_off(task, not left)
        if left:
            self.machines.machine_running(task, left[0], task)
