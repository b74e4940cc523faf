"""``scaleahead serve`` pointed at the strict AWS emulator: what it says at its start, and that it looks and no more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.types import Job
from providers.clock import SystemClock
from providers.types import LaunchRecipe, Target
from tests.e2e.cloud_host import KEYS, CloudHost
from tests.e2e.control_host import until
from tests.emulators.aws import MUTATIONS, Emulator
from tests.providers.aws.conftest import SMALL


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    made = Emulator(SystemClock(), boot_seconds=0)
    made.start()
    try:
        yield made
    finally:
        made.close()


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
    with CloudHost(tmp_path, {"aws": {"region": "us-east-1", "endpoint": emulator.url}}) as host:
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
