"""Edge: the demonstration's cloud: ``python -m api.demo.cloud --config FILE`` serves a cloud whose machines run.

Its configuration is that of the simulated cloud, with ``rate`` and ``origin`` of the clock, and what is named here.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from api.demo.machine import BYTES_PER_GIB, Machines, Task
from providers.errors import Invalid
from providers.simulated import config, wire
from providers.simulated.server import Server, clock_of


@dataclass(frozen=True, slots=True)
class Placed:
    """A machine that runs from the beginning, and its command."""

    id: str
    offer: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    hook_port: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What stands in the configuration beside the cloud's own: machines with commands, and where their disks are.

    ``templates`` says by name what a launched machine runs. ``bytes_per_gib`` real bytes stand for a simulated GiB.
    """

    disks: str
    machines: tuple[Placed, ...] = ()
    templates: Mapping[str, Task] = field(default_factory=dict)
    bytes_per_gib: int = BYTES_PER_GIB
    restart_seconds: float = 60.0


class DemoCloud:
    """A cloud, what runs on it, and its server, to start and close as one. Raises ``Invalid`` when misconfigured."""

    def __init__(self, options: Mapping[str, Any], port: int = 0) -> None:
        plain = dict(options)
        plain.setdefault("origin", time.time())
        rate, origin = wire.decode(float, plain.setdefault("rate", 1.0), "rate"), plain["origin"]
        clock = clock_of(plain)
        own = {name.name: plain.pop(name.name) for name in fields(Demonstration) if name.name in plain}
        demo: Demonstration = wire.decode(Demonstration, own)
        self.cloud = config.build("simulated", config.read(plain), clock)
        for one in demo.machines:
            self.cloud.add_machine(one.id, one.offer, one.labels)
        self.machines = Machines(
            clock,
            Path(demo.disks),
            {one.id: Task(one.command, one.env, one.hook_port) for one in demo.machines},
            demo.templates,
            self.cloud.notice,
            rate,
            origin,
            demo.bytes_per_gib,
            demo.restart_seconds,
        )
        self.server = Server(self.cloud, port, {"processes": lambda: wire.encode(self.machines.report())})
        self.url = self.server.url

    def __enter__(self) -> Self:
        self.machines.start()
        self.cloud.attach(self.machines)
        self.server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.close()
        self.machines.close()


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted or told to end; the first line printed is the address."""
    parser = argparse.ArgumentParser(prog="python -m api.demo.cloud", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a JSON file")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    given = parser.parse_args(arguments)
    try:
        demo = DemoCloud(json.loads(given.config.read_text()), given.port)
    except (OSError, ValueError, Invalid) as error:
        sys.stderr.write(f"demonstration's cloud: {given.config}: {error}\n")
        return 2
    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: end.set())
    with demo:
        sys.stdout.write(f"{demo.url}\n")
        sys.stdout.flush()
        end.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
