"""A real job of several workers, under torchrun on every node of a group: resized 2 -> 4 -> 2, and no step is lost."""

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from api.demo.stage import free_port
from tests.docs.commands import blocks
from tests.e2e.control_host import SMALL, ControlHost, until

POLICY = """\
scaleahead: 1
policies:
  default:
    kind: threshold
    limits: {offers: {allow: ["aws/us-east-1/2x m5.xlarge", "aws/us-east-1/4x m5.xlarge"]}}
    moves: {max_per_hour: 60, cooldown_minutes: 0}
    mode: {default: auto}
"""
PROGRAM = Path(__file__).parents[2] / "api" / "client" / "tests" / "programs" / "train_group.py"


class GroupHost(ControlHost):
    """Cloud, daemon, and a job on a group of two nodes, each of which starts torchrun once the job lets it join."""

    target = {"kind": "group", "id": "nodes"}  # noqa: RUF012

    def cloud_config(self) -> dict[str, Any]:
        """Say what the cloud is: the group, whose nodes share a disk."""
        (told,) = blocks("how-to/frameworks.md", "sh")
        setting, command = told.replace("\\\n", " ").splitlines()
        # As the document has it, with one worker a node and nodes that are missed soon.
        timing = "--rdzv-conf=last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=6"
        torchrun = f"{sys.executable} -m torch.distributed.run --monitor-interval=0.1 --local-addr=127.0.0.1 {timing}"
        for word, here in (
            ("python -m", f"{sys.executable} -m"), ("node0:8700", f"127.0.0.1:{self.hook_port}"),
            ("torchrun", torchrun), ("node0:29400", f"127.0.0.1:{free_port()}"),
            ("--nproc-per-node=8", "--nproc-per-node=1"), ("train.py", str(PROGRAM)),
        ):  # fmt: skip
            assert command.count(word) == 1
            command = command.replace(word, here)
        shared = self.directory / "shared"
        shared.mkdir()
        env = dict(word.split("=", 1) for word in setting.split()[1:]) | {
            "SCALEAHEAD_JOB": "tiny",
            "GROUP_DISK": str(shared),
        }
        return {
            "rate": super().cloud_config()["rate"], "origin": self.origin, "offers": [SMALL],
            "disks": str(self.directory / "disks"), "bytes_per_gib": 2**28, "restart_seconds": 5.0,
            "delays": {"node_seconds": 4.0, "remove_seconds": 1.0},
            "groups": [{"id": "nodes", "offer": SMALL, "nodes": 2, "min_nodes": 2, "max_nodes": 4}],
            "templates": {"": {"command": command.split(), "env": env, "hook_port": self.hook_port}},
        }  # fmt: skip


@pytest.mark.slow
def test_two_workers_become_four_and_two_again_and_no_step_is_lost(tmp_path: Path) -> None:
    with GroupHost(tmp_path, POLICY) as host:
        host.start_daemon()
        until(host.ready, 60, "the daemon is ready", host)
        host.register()
        result, story = tmp_path / "shared" / "result.json", tmp_path / "shared" / "story.jsonl"
        until(result.exists, 60, "the job has ended", host)
        assert host.effects() == ["resize", "remove"]
        decided = host.ask("GET", "/v1/jobs/tiny/decisions")[1]["decisions"]
        assert [one["status"] for one in decided if one["status"] != "no_change"] == ["done", "done"]
    said = json.loads(result.read_text())
    told = [json.loads(line) for line in story.read_text().splitlines()]
    assert [one["step"] for one in told] == list(range(1, said["steps"] + 1))
    assert [world for world, _ in groupby(told, key=lambda one: one["world"])] == [2, 4, 2]
    assert said["errors"] == 0
    assert said["losses"] == pytest.approx(_unmoved(said["steps"]), rel=1e-4)


def _unmoved(steps: int) -> list[float]:
    """Train the same nets on the same global batches in one process that nobody moves."""
    import torch

    from api.client.tests.programs import train_group as program

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pair = program.Pair(program.net(), program.net())
    optimizer = program.optimizer_of(pair)
    for step in range(1, steps + 1):
        program.train_step(pair, optimizer, step)
    torch.set_num_threads(threads)
    return [float(loss) for loss in program.final_losses(pair)]
