"""A spot machine of the emulated AWS is told that it is taken back: its job saves, and the daemon hears of both."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from api.client.tests.metadata import Metadata
from api.demo.machine import Task
from api.demo.stage import free_port
from providers.clock import ScaledClock
from tests.e2e.cloud_host import KEYS, CloudHost
from tests.e2e.control_host import ROOT, until
from tests.emulators.aws import MUTATIONS
from tests.emulators.aws_machines import PoweredAws

NOTICE_TO_CHECKPOINT_SECONDS = 10.0
SPOT = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}}


@dataclass
class Machine:
    """A spot instance, the emulated AWS it is in, its metadata service, and where its job's hook answers."""

    aws: PoweredAws
    metadata: Metadata
    id: str
    port: int

    def interrupt(self) -> datetime:
        """Give notice, as EC2 does, to the machine and in the spot request; say when that was."""
        at = datetime.now(UTC)
        self.metadata.reclaim(self.aws.interrupt(self.id).timestamp())
        return at


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    metadata, port = Metadata(), free_port()
    env = {
        "SCALEAHEAD_JOB": "tiny", "SCALEAHEAD_SPOT": "aws", "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'api/client'}",
    }  # fmt: skip
    tasks = {"tiny": Task((sys.executable, "-m", "tests.e2e.tiny_job"), env, port)}
    aws = PoweredAws(ScaledClock(1.0, time.time()), tmp_path / "disks", tasks, 2**28, boot_seconds=0)
    aws.start()
    try:
        aws.template("tiny", "g4dn.xlarge")
        identity = aws.launch("tiny", "g4dn.xlarge", InstanceMarketOptions=SPOT)
        aws.calls.clear()
        yield Machine(aws, metadata, identity, port)
    finally:
        aws.close()
        metadata.close()


@pytest.mark.slow
def test_a_checkpoint_is_there_within_ten_seconds_of_the_notice(tmp_path: Path, machine: Machine) -> None:
    settings = {"development": True, "timing": {"poll_seconds": 0.5, "turn_seconds": 1.0}}
    provider = {"region": "us-east-1", "endpoint": machine.aws.url}
    with CloudHost(tmp_path, {"aws": provider}, settings=settings) as host:
        host.start_daemon(**KEYS)
        until(host.ready, 60, "the daemon is ready", host)
        host.add(
            name="tiny", hook=f"http://127.0.0.1:{machine.port}/", mode="observe",
            target={"provider": "aws", "kind": "vm", "id": machine.id, "place": "us-east-1a"},
        )  # fmt: skip

        def status() -> dict[str, Any]:
            found: dict[str, Any] = host.ask("GET", "/v1/jobs/tiny")[1]["status"]
            return found

        until(lambda: status()["training"] == "training", 60, "the job trains", host)
        at = machine.interrupt()
        until(lambda: status()["training"] == "ready", 60, "the job has saved", host)
        took = datetime.now(UTC) - at
        assert took.total_seconds() < NOTICE_TO_CHECKPOINT_SECONDS
        known = status()["checkpoint"]
        found = host.ask("GET", "/v1/jobs/tiny/history?rows=1")[1]
        saved = json.loads((tmp_path / "disks" / machine.id / "step.json").read_text())
        assert known["step"] == saved["step"] == found["step"][-1]

        def looked() -> bool:
            asked = [call for call in machine.aws.calls if call.action == "DescribeSpotInstanceRequests"]
            return any(call.at > at and "SpotInstanceRequestId.1" in call.parameters for call in asked)

        until(looked, 30, "the daemon looks at the spot request", host)
        assert not [call for call in machine.aws.calls if call.action in MUTATIONS and call.outcome == "ok"]
