"""Edge: the emulated Compute Engine with power in its machines: see ``tests.emulators.power``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.cloud import compute_v1

from api.demo.machine import Task
from providers import catalog
from providers.clock import ScaledClock, SystemClock
from providers.gcp import rules
from providers.shelf import Shelf
from tests.emulators.gce import Body, Emulator, Query
from tests.emulators.power import Power, What

HAVE_POWER = ("RUNNING", "STOPPING")


class PoweredGce(Emulator):
    """A strict Compute Engine in real time whose machines run ``tasks``, by the name of their template or group."""

    def __init__(
        self, clock: ScaledClock, disks: Path, tasks: Mapping[str, Task], bytes_per_gib: int, **more: Any
    ) -> None:
        super().__init__(SystemClock(), **more)
        self._shelf = Shelf("gcp", catalog.load())
        self._templates: dict[str, str] = {}
        self.launched: list[str] = []
        self.power = Power(self, clock, disks, tasks, bytes_per_gib)

    def start(self, port: int = 0) -> None:
        """Begin to serve, with the power on."""
        super().start(port)
        self.power.start()

    def close(self) -> None:
        """Stop serving and end every process."""
        self.power.close()
        super().close()

    def launch(self, name: str, zone: str, machine_type: str, template: str) -> None:
        """Set up an instance that runs, as if it were from a template."""
        with self._lock:
            self._templates[name] = template
            self.instance(name, zone, machine_type)

    def running(self) -> dict[str, str]:
        """Give what the instances are that cost money, by name: their type, with their attached GPUs."""
        with self._lock:
            return {name: _kind(one) for (_, name), one in self.instances.items() if one["status"] != "TERMINATED"}

    def powered(self) -> dict[str, bool]:
        """Let what is due happen; say of every instance whether it has power: one that is stopping still has."""
        with self._lock:
            self._pass_time()
            return {name: one["status"] in HAVE_POWER for (_, name), one in self.instances.items()}

    def what(self, machine: str) -> What:
        """Say what an instance is."""
        with self._lock:
            zone, instance = next((zone, one) for (zone, name), one in self.instances.items() if name == machine)
            group = rules.manager(_read(instance))
            return What(self._shelf.offer(_kind(instance), zone), self._templates.get(machine, ""), group)

    def _insert(self, names: list[str], query: Query, body: Body) -> dict[str, Any]:
        answer: dict[str, Any] = super()._insert(names, query, body)
        zone, name = names[1], str(body["name"])
        self.launched.append(_kind(self.instances[zone, name]))
        self._templates[name] = query["sourceInstanceTemplate"].rpartition("/")[2]
        return answer


def _read(instance: Mapping[str, Any]) -> compute_v1.Instance:
    return compute_v1.Instance.from_json(json.dumps(dict(instance)))


def _kind(instance: Mapping[str, Any]) -> str:
    return rules.kind(_read(instance))
