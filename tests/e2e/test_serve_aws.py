"""``scaleahead serve`` pointed at the strict AWS emulator: what it says at its start, and that it looks and no more."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from api.demo.stage import end
from daemon.store.open import open_store
from daemon.types import Job
from providers.clock import SystemClock
from providers.types import LaunchRecipe, Target
from tests.e2e.control_host import POLICY, ControlHost, until
from tests.emulators.aws import MUTATIONS, Emulator
from tests.providers.aws.conftest import SMALL

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    made = Emulator(SystemClock(), boot_seconds=0)
    made.start()
    try:
        yield made
    finally:
        made.close()


class Host(ControlHost):
    """A daemon whose one provider is the emulator, with jobs on record before it starts."""

    def __init__(self, directory: Path, cloud: Emulator) -> None:
        super().__init__(directory, POLICY.replace("aws/us-east-1/m5.xlarge", "aws/*"))
        self._cloud = cloud

    def __enter__(self) -> "Host":
        config = {
            "port": self.port, "state_directory": str(self.directory), "policies": [str(self.policy)],
            "providers": {"aws": {"region": "us-east-1", "endpoint": self._cloud.url}}, "log": "json",
            "forecaster": "daemon.forecast.persist:Persist", "timing": {"turn_seconds": 1.0},
        }  # fmt: skip
        with (self.directory / "config.yaml").open("w") as file:
            YAML().dump(config, file)
        return self

    def __exit__(self, *_: object) -> None:
        end(self.daemon)

    def keep(self, *jobs: Job) -> None:
        """Put jobs on record."""
        store = open_store(self.directory / "scaleahead.sqlite", SystemClock())
        for job in jobs:
            store.jobs.add(job)
        store.close()


@pytest.mark.slow
def test_it_names_what_it_lacks_and_reads_a_node_group_without_changing_anything(
    tmp_path: Path, emulator: Emulator
) -> None:
    ec2, now = emulator.client("ec2"), SystemClock().now()
    template = {"ImageId": emulator.image(), "InstanceType": SMALL.machine_type}
    ec2.create_launch_template(LaunchTemplateName="train", LaunchTemplateData=template)
    made = ec2.run_instances(LaunchTemplate={"LaunchTemplateName": "train"}, MinCount=1, MaxCount=1,
                             InstanceType=SMALL.machine_type)["Instances"][0]["InstanceId"]  # fmt: skip
    emulator.pool("research", "gpus", "train", 2, (1, 4))
    emulator.denied.append("TerminateInstances")
    emulator.calls.clear()
    vm = Target("aws", "vm", made, "us-east-1a")
    pool = Target("aws", "pool", "research/gpus", "us-east-1")
    with Host(tmp_path, emulator) as host:
        host.keep(Job("bert", now, "default", target=vm, recipe=LaunchRecipe("train")),
                  Job("gpt", now, "default", target=pool))  # fmt: skip
        host.start_daemon(**KEYS)
        until(lambda: "permissions are missing" in host.log(), 60, "the start's check", host)
        assert f'"missing": ["ec2:TerminateInstances on {made}"]' in host.log()
        until(host.ready, 60, "the daemon is ready", host)
        until(lambda: any(call.action == "DescribeNodegroup" for call in emulator.calls), 30, "a look", host)
        assert host.ask("GET", "/v1/jobs/gpt")[1]["target"]["kind"] == "pool"
    changes = [call for call in emulator.calls if call.action in MUTATIONS]
    assert len(changes) >= 6
    assert {call.outcome for call in changes} == {"DryRunOperation", "UnauthorizedOperation"}
