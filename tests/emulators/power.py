"""Edge: power in the emulated machines: what an emulated cloud starts and stops are real processes.

A single machine runs the task that is named as the template it was launched from; its processes are killed when its
memory limit is passed, by ``api.demo.machine``. A group's job is one process, as rank 0 under an elastic launcher: it
is started again whenever a node of the group goes, for as long as one is left.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from api.demo.machine import Machines, Task
from providers.clock import ScaledClock
from providers.types import Offer

TICK_SECONDS = 0.02


class Power:
    """What runs on the machines of one emulated cloud. ``tick`` lets the cloud's time pass also while nobody asks.

    ``clock`` is the one that the tasks share with the daemon; ``disks`` holds a folder for each machine.
    """

    def __init__(
        self, clock: ScaledClock, disks: Path, tasks: Mapping[str, Task], bytes_per_gib: int, tick: Callable[[], None]
    ) -> None:
        self._tick = tick
        self._groups: dict[str, str] = {}
        self._nodes: dict[str, tuple[str, Offer]] = {}
        self._ending = threading.Event()
        self._ticker = threading.Thread(target=self._pass_time, name="emulated time", daemon=True)
        self.machines = Machines(clock, disks, {}, tasks, lambda *_: None, clock.rate, clock.origin, bytes_per_gib)

    def start(self) -> None:
        """Begin to run what is on."""
        self.machines.start()
        self._ticker.start()

    def close(self) -> None:
        """End every process."""
        self._ending.set()
        self._ticker.join()
        self.machines.close()

    def man(self, group: str, task: str) -> None:
        """Let the nodes of a group, from now on, run a task together."""
        self._groups[group] = task

    def on(self, machine: str, offer: Offer, template: str = "", group: str = "") -> None:
        """A machine runs now: one that was launched from a template, or a node of a group."""
        task = self._groups.get(group)
        if task is None:
            self.machines.machine_running(machine, offer, template)
            return
        first = not any(of == task for of, _ in self._nodes.values())
        self._nodes[machine] = (task, offer)
        if first:
            self.machines.machine_running(task, offer, task)

    def off(self, machine: str, gone: bool) -> None:
        """A machine is without power, and if it is gone without a disk."""
        task, _ = self._nodes.pop(machine, ("", None))
        if not task:
            self.machines.machine_off(machine, gone)
            return
        left = [offer for of, offer in self._nodes.values() if of == task]
        self.machines.machine_off(task, not left)
        if left:
            self.machines.machine_running(task, left[0], task)

    def _pass_time(self) -> None:
        while not self._ending.wait(TICK_SECONDS):
            self._tick()
