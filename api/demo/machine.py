"""Edge: what runs on the demonstration's simulated machines: real processes, whose memory limit is enforced for real.

Each machine has a directory as its disk and one command, kept alive as a service manager would keep it. A watcher
reads from ``/proc`` how much memory the processes hold and kills them above the machine's limit, as a kernel does.
"""

import atexit
import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from providers.clock import Clock
from providers.types import Notice, Offer

BYTES_PER_GIB = 32 * 1024 * 1024
"""Real bytes that stand for one simulated GiB."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LOOK_SECONDS = 0.015
FAMILY_LOOKS = 16
"""Every so many looks the processes of each session are listed anew; in between, known ones are read."""

# The child asks the kernel to be killed when the thread that made it ends, checks that it was not too late for that,
# and only then becomes the command. Doing so in a launcher is safe beside threads; between fork and exec it is not.
LAUNCH = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); "
    "os.getppid() == int(sys.argv[1]) or os._exit(1); os.execvp(sys.argv[2], sys.argv[2:])"
)


@dataclass(frozen=True, slots=True)
class Task:
    """What a machine runs: a command, its environment beside the machine's own, and the port of its hook.

    ``hook_port`` 0 takes a free one when the machine is first seen; it then stays.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    hook_port: int = 0


@dataclass(slots=True)
class _Host:
    """One machine as the watcher knows it; only the watcher's thread touches it."""

    id: str
    task: Task
    offer: Offer
    powered: bool = False
    process: subprocess.Popen[bytes] | None = None
    family: tuple[int, ...] = ()
    restart_at: float | None = None
    last_exit: str = ""
    done: bool = False
    starts: int = 0
    out_of_memory: int = 0
    crashes: int = 0
    peak_bytes: int = 0


class Machines:
    """Runs the tasks of machines: a ``Runner`` for the simulated cloud.

    ``placed`` names what known machines run, ``templates`` what launched ones do; others run nothing. ``tell`` posts a
    notice on a machine. ``rate`` and ``origin`` are handed to the processes, so that they share the clock.
    """

    def __init__(
        self,
        clock: Clock,
        disks: Path,
        placed: Mapping[str, Task],
        templates: Mapping[str, Task],
        tell: Callable[[str, Notice], None],
        rate: float = 1.0,
        origin: float = 0.0,
        bytes_per_gib: int = BYTES_PER_GIB,
        restart_seconds: float = 60.0,
    ) -> None:
        self._clock = clock
        self._disks = disks.resolve()
        self._placed, self._templates = dict(placed), dict(templates)
        self._tell = tell
        self._bytes_per_gib = bytes_per_gib
        self._restart_seconds = restart_seconds
        self._shared = {
            "SCALEAHEAD_TIME_RATE": repr(rate),
            "SCALEAHEAD_TIME_ORIGIN": repr(origin),
            "SCALEAHEAD_BYTES_PER_GIB": str(bytes_per_gib),
        }
        self._hosts: dict[str, _Host] = {}
        self._turns: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="machines", daemon=True)

    def start(self) -> None:
        """Begin to watch. The processes end with this one, however it ends."""
        atexit.register(self.close)
        self._watcher.start()

    def close(self) -> None:
        """Kill every process and stop watching. May be called again."""
        self._closing.set()
        if self._watcher.is_alive():
            self._watcher.join()
        atexit.unregister(self.close)

    # Told by the cloud. The watcher does it, because a child dies with the thread that made it.

    def machine_running(self, machine: str, offer: Offer, template: str) -> None:
        """Switch a machine on: its command starts on its disk as it was left."""
        self._turns.put(lambda: self._power_on(machine, offer, template))

    def machine_stopping(self, machine: str) -> None:
        """Let it run on until the power is off."""

    def machine_off(self, machine: str, gone: bool) -> None:
        """Switch a machine off: everything on it is killed. If it is gone, so is its disk."""
        self._turns.put(lambda: self._power_off(machine, gone))

    def report(self) -> dict[str, dict[str, object]]:
        """Say of each machine whether its process runs or is done, how often it started and died, and its peak."""
        return {
            host.id: {
                "running": host.process is not None,
                "done": host.done,
                "starts": host.starts,
                "out_of_memory": host.out_of_memory,
                "crashes": host.crashes,
                "peak_gib": host.peak_bytes / self._bytes_per_gib,
                "limit_gib": host.offer.resources.memory_gib,
                "hook_port": host.task.hook_port,
                "disk": str(self._disks / host.id),
            }
            for host in list(self._hosts.values())
        }

    # The watcher's thread.

    def _watch(self) -> None:
        looks = 0
        while not self._closing.wait(LOOK_SECONDS):
            with contextlib.suppress(queue.Empty):
                while True:
                    self._turns.get_nowait()()
            if looks % FAMILY_LOOKS == 0:
                there = processes()
                for host in self._hosts.values():
                    host.family = family(host.process.pid, there) if host.process else ()
            looks += 1
            for host in self._hosts.values():
                self._look(host)
        for host in self._hosts.values():
            self._kill(host)

    def _power_on(self, machine: str, offer: Offer, template: str) -> None:
        host = self._hosts.get(machine)
        if host is None:
            task = self._placed.get(machine) or self._templates.get(template)
            if task is None:
                return
            task = task if task.hook_port else replace(task, hook_port=free_port())
            host = self._hosts[machine] = _Host(machine, task, offer)
        if not host.powered:
            host.powered, host.offer, host.done = True, offer, False
            self._start(host)

    def _power_off(self, machine: str, gone: bool) -> None:
        host = self._hosts.get(machine)
        if host is None:
            return
        if host.process:
            self._kill(host)
            host.last_exit = "stopped"
        host.powered, host.restart_at = False, None
        if gone:
            shutil.rmtree(self._disks / machine, ignore_errors=True)

    def _start(self, host: _Host) -> None:
        disk = self._disks / host.id
        disk.mkdir(parents=True, exist_ok=True)
        own = {
            "SCALEAHEAD_MACHINE": host.id,
            "SCALEAHEAD_OFFER": host.offer.id,
            "SCALEAHEAD_HOOK_PORT": str(host.task.hook_port),
            "SCALEAHEAD_DISK": str(disk),
            "SCALEAHEAD_LAST_EXIT": host.last_exit,
        }
        with (self._disks / f"{host.id}.log").open("ab") as log:
            host.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", LAUNCH, str(os.getpid()), *host.task.command],
                cwd=disk,
                env={**os.environ, **self._shared, **host.task.env, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        host.family = (host.process.pid,)
        host.restart_at = None
        host.starts += 1

    def _look(self, host: _Host) -> None:
        """See whether the process ended, whether it is time to start it again, and whether it holds too much."""
        if host.process is None:
            if host.restart_at is not None and self._clock.monotonic() >= host.restart_at:
                self._start(host)
            return
        code = host.process.poll()
        if code is not None:
            self._kill(host)
            self._ended(host, code)
            return
        held = sum(map(resident_bytes, host.family))
        host.peak_bytes = max(host.peak_bytes, held)
        if held > host.offer.resources.memory_gib * self._bytes_per_gib:
            self._kill(host)
            self._out_of_memory(host, held)

    def _ended(self, host: _Host, code: int) -> None:
        if code == 0:
            host.done, host.last_exit = True, "done"
            return
        host.crashes += 1
        host.last_exit = "crashed"
        host.restart_at = self._clock.monotonic() + self._restart_seconds

    def _out_of_memory(self, host: _Host, held: int) -> None:
        host.out_of_memory += 1
        host.last_exit = "out_of_memory"
        host.restart_at = self._clock.monotonic() + self._restart_seconds
        limit = host.offer.resources.memory_gib
        detail = f"killed at {held / self._bytes_per_gib:.2f} GiB on a machine of {limit:g} GiB"
        self._tell(host.id, Notice("out_of_memory", self._clock.now(), detail))

    def _kill(self, host: _Host) -> None:
        """Kill the process and all that it started; what has lost its parent would not be found any more."""
        process, host.process = host.process, None
        if process is None:
            return
        known = {*host.family, *family(process.pid, processes())}
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for pid in known | set(family(process.pid, processes())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        host.family = ()


def resident_bytes(pid: int) -> int:
    """Read how much real memory a process holds, shared pages included; 0 once it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


def processes() -> dict[int, tuple[int, int]]:
    """List the processes of this host with their parent and session."""
    found: dict[int, tuple[int, int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The name of a process may hold spaces and brackets; its last bracket ends it.
                rest = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if len(rest) > 3:
            found[int(name)] = int(rest[1]), int(rest[3])
    return found


def family(root: int, there: Mapping[int, tuple[int, int]]) -> tuple[int, ...]:
    """List a leader of a session, all of its session, and all that they started, in whatever session that is."""
    found: set[int] = {root}
    sessions = {root}
    grown = True
    while grown:
        more = {pid for pid, (parent, session) in there.items() if parent in found or session in sessions} - found
        found |= more
        sessions |= {there[pid][1] for pid in more}
        grown = bool(more)
    return tuple(sorted(found))


def free_port() -> int:
    """Find a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
