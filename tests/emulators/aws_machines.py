"""Edge: the emulated AWS with power in its machines: see ``tests.emulators.power``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

from api.demo.machine import Task
from providers import catalog
from providers.clock import ScaledClock, SystemClock
from providers.shelf import Shelf
from tests.emulators.aws import Emulator, _Request
from tests.emulators.power import Power, What


class PoweredAws(Emulator):
    """A strict AWS in real time whose machines run ``tasks``, by the name of their launch template or group."""

    def __init__(
        self, clock: ScaledClock, disks: Path, tasks: Mapping[str, Task], bytes_per_gib: int, **more: Any
    ) -> None:
        super().__init__(SystemClock(), **more)
        self._shelf = Shelf("aws", catalog.load())
        self._templates: dict[str, str] = {}
        self.power = Power(self, clock, disks, tasks, bytes_per_gib)

    def start(self, port: int = 0) -> None:
        """Begin to serve, with the power on."""
        super().start(port)
        self.power.start()

    def close(self) -> None:
        """Stop serving and end every process."""
        self.power.close()
        super().close()

    def template(self, name: str, machine_type: str) -> None:
        """Make a launch template."""
        data = {"ImageId": self.image(), "InstanceType": machine_type}
        self.client("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)

    def launch(self, template: str, machine_type: str, **more: Any) -> str:
        """Start an instance, as another user of the account; give its id."""
        made = self.client("ec2").run_instances(
            LaunchTemplate={"LaunchTemplateName": template}, MinCount=1, MaxCount=1, InstanceType=machine_type,
            Placement={"AvailabilityZone": f"{self.region}a"}, **more,
        )  # fmt: skip
        return str(made["Instances"][0]["InstanceId"])

    def members(self, group: str) -> list[str]:
        """Name the nodes of a group of Auto Scaling, the oldest first."""
        with self._lock:
            found = autoscaling_backends[DEFAULT_ACCOUNT_ID][self.region].autoscaling_groups[group]
            return [str(member.instance.id) for member in found.instance_states]

    def up(self, group: str) -> list[str]:
        """Name the nodes of a group that run."""
        return [one for one in self.members(group) if one in {up.id for up in self._all() if up.state == "running"}]

    def running(self) -> dict[str, str]:
        """Give the types of the instances that cost money, by id."""
        return {one.id: one.instance_type for one in self._all() if one.state in ("pending", "running", "stopping")}

    def powered(self) -> dict[str, bool]:
        """Let what is due happen; say of every instance whether it has power: one that is stopping still has."""
        with self._lock:
            self._pass_time(self.region)
            there = [one for one in self._all() if one.state != "terminated"]
            return {one.id: one.state in ("running", "stopping", "shutting-down") for one in there}

    def what(self, machine: str) -> What:
        """Say what an instance is."""
        with self._lock:
            kind = next(one.instance_type for one in self._all() if one.id == machine)
            groups = autoscaling_backends[DEFAULT_ACCOUNT_ID][self.region].autoscaling_groups
            group = next((name for name in groups if machine in self.members(name)), "")
            return What(self._shelf.offer(kind, f"{self.region}a"), self._templates.get(machine, ""), group)

    def _all(self) -> list[Any]:
        with self._lock:
            return list(ec2_backends[DEFAULT_ACCOUNT_ID][self.region].all_instances())

    def _do_run_instances(self, request: _Request):
        known = {one.id for one in self._all()}
        answer = super()._do_run_instances(request)
        for one in self._all():
            if one.id not in known:
                self._templates[one.id] = request.parameters.get("LaunchTemplate.LaunchTemplateName", "")
        return answer
