"""``scaleahead serve`` on the emulated Compute Engine: a real process goes up the ladder of GPUs and down again."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.demo.machine import Task
from api.demo.stage import free_port
from daemon.speed import LEAST_ROWS
from providers.clock import ScaledClock
from tests.e2e.cloud_host import CloudHost, asked_for_intents, no_step_is_lost, opened
from tests.e2e.control_host import RATE, ROOT, until
from tests.emulators.gce import MUTATIONS
from tests.emulators.gce_machines import PoweredGce

ZONE = "us-central1-a"
LADDER = ("n1-standard-8", "n1-standard-8+1xT4", "n1-standard-8+4xT4", "g2-standard-12", "a2-highgpu-1g")
"""Cheapest first, by the policy below."""
POLICIES = f"""\
scaleahead: 1
policies:
  default:
    kind: threshold
    limits: {{offers: {{allow: [{", ".join(f'"gcp/us-central1/{rung}"' for rung in LADDER)}]}}}}
    prices: {{override: {{gcp/us-central1-a/g2-standard-12: 2.0}}}}
    moves: {{max_per_hour: 60, cooldown_minutes: 0}}
    mode: {{default: auto}}
"""


class Project:
    """An instance without a GPU that runs a job, and how to say what the job uses."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.origin, self.port = folder, time.time(), free_port()
        self.use(0.7)
        env = {
            "SCALEAHEAD_JOB": "job", "SCALEAHEAD_CHECKPOINTS": str(folder / "job"),
            "TINY_USAGE": str(folder / "use.json"), "TINY_STEP_SECONDS": "0.3",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'api/client'}",
        }  # fmt: skip
        task = Task((sys.executable, "-m", "tests.e2e.alone", "tests.e2e.tiny_job"), env, self.port)
        clock, quick = ScaledClock(RATE, self.origin), {"stop_seconds": 0.1, "boot_seconds": 0.1, "change_seconds": 0.1}
        self.gce = PoweredGce(clock, folder / "disks", {"job": task}, 2**28, **quick)

    def __enter__(self) -> "Project":
        self.gce.start()
        self.gce.template("job", LADDER[0])
        self.gce.launch("vm-1", ZONE, LADDER[0], "job")
        return self

    def __exit__(self, *_: object) -> None:
        self.gce.close()

    def use(self, gpu: float) -> None:
        """Let the job say how busy its GPUs are."""
        fresh = self.folder / "fresh.json"
        fresh.write_text(json.dumps({"gpu_util": gpu, "gpu_memory_gib": 3.0, "memory_gib": 6.0}))
        fresh.rename(self.folder / "use.json")

    def host(self) -> CloudHost:
        timing = {
            "poll_seconds": 0.5, "turn_seconds": 0.5, "look_seconds": 0.25, "repeat_seconds": 1.0,
            "stop_seconds": 0.1, "boot_seconds": 0.1, "checkpoint_seconds": 0.1, "restore_seconds": 0.5,
        }  # fmt: skip
        settings = {
            "clock": {"rate": RATE, "origin": self.origin}, "development": True,
            "timing": {name: seconds * RATE for name, seconds in timing.items()} | {"patience": 4.0},
        }  # fmt: skip
        provider = {"project": self.gce.project, "endpoint": self.gce.url}
        return CloudHost(self.folder, {"gcp": provider}, POLICIES, settings)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project(tmp_path) as made:
        yield made


@pytest.mark.slow
def test_a_job_gets_gpus_attached_then_machines_of_other_families_and_comes_back(project: Project) -> None:
    with project.host() as host:
        host.start_daemon()
        until(host.ready, 60, "the daemon is ready", host)
        host.add(
            name="job", hook=f"http://127.0.0.1:{project.port}/", recipe={"template": "job"},
            target={"provider": "gcp", "kind": "vm", "id": "vm-1", "place": ZONE},
        )  # fmt: skip
        until(lambda: _steps_on(host, LADDER[0]) > LEAST_ROWS, 60, "it has shown how it runs without a GPU", host)
        with asked_for_intents(project.gce, host):
            for use, rung in ((0.95, LADDER[-1]), (0.3, LADDER[0])):
                project.use(use)
                until(lambda rung=rung: _settled_on(project, host, rung), 180, f"it has come to {rung}", host)
        _only_the_recorded_calls_were_made(project)
        no_step_is_lost(host, "job")


def _steps_on(host: CloudHost, rung: str) -> int:
    with opened(host) as store:
        offers = store.telemetry.histories(["job"])["job"].offers
    return sum(offer.endswith(f"/{rung}") for offer in offers)


def _settled_on(project: Project, host: CloudHost, rung: str) -> bool:
    """Whether the job's machine is the only one left, and the move there is closed."""
    return list(project.gce.running().values()) == [rung] and host.decisions("job")[0]["status"] in (
        "done",
        "no_change",
    )


def _only_the_recorded_calls_were_made(project: Project) -> None:
    attach = ["setScheduling", "setMachineResources"]
    change, replacement = ["setMachineResources"], ["insert", "stop", "delete"]
    up = [*_in_place(attach), *_in_place(change), *replacement, *replacement]
    down = [*replacement, *replacement, *_in_place(change), *_in_place(attach[::-1])]
    made = [call for call in project.gce.calls if call.method in MUTATIONS]
    assert [call.method for call in made] == up + down
    assert {call.outcome for call in made} == {"ok"}
    assert len({call.query["requestId"] for call in made}) == len(made)
    assert project.gce.launched == [*LADDER[3:], *LADDER[3:1:-1]]


def _in_place(changes: list[str]) -> list[str]:
    return ["stop", *changes, "start"]
