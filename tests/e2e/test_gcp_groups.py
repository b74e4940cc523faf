"""``scaleahead serve`` on the emulated Google Cloud: a managed group and a node pool, each with a real job on it.

They are watched first, then grow, then lose the nodes that are named.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.demo.machine import Task
from api.demo.stage import free_port
from providers.clock import ScaledClock, SystemClock
from tests.e2e.cloud_host import CloudHost, asked_for_intents, no_step_is_lost
from tests.e2e.control_host import RATE, ROOT, until
from tests.emulators.gce import MUTATIONS
from tests.emulators.gce_machines import PoweredGce
from tests.emulators.kubernetes import MUTATIONS as KUBE_MUTATIONS
from tests.emulators.kubernetes import Kubernetes
from tests.providers.test_kubernetes import written

ZONE, NODE = "us-central1-a", "g2-standard-12"
GROUPS = {"group": "research", "pool": "gke-research-gpus-a-grp"}
"""The managed group of each job: that of a node pool is GKE's own."""
TARGETS = {"group": "research", "pool": "research/gpus"}
POLICIES = """\
scaleahead: 1
policies:
  default:
    kind: threshold
    limits: {{offers: {{allow: ["gcp/*/2x {node}", "gcp/*/3x {node}"]}}}}
    moves: {{max_per_hour: 60, cooldown_minutes: 0}}
    mode: {{default: {mode}}}
"""


class Project:
    """A managed group and a node pool of two nodes each, with a job on both, and how to say what the jobs use."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.origin = folder, time.time()
        self.ports = {name: free_port() for name in GROUPS}
        tasks = {name: self._task(name) for name in GROUPS}
        clock, quick = ScaledClock(RATE, self.origin), {"stop_seconds": 0.1, "boot_seconds": 0.1}
        self.gce = PoweredGce(clock, folder / "disks", tasks, 2**28, operation_seconds=0.1, **quick)
        self.cluster = Kubernetes(SystemClock())

    def _task(self, name: str) -> Task:
        self.use(name, 0.95)
        env = {
            "SCALEAHEAD_JOB": name, "SCALEAHEAD_CHECKPOINTS": str(self.folder / name), "TINY_STEP_SECONDS": "0.1",
            "TINY_USAGE": str(self.folder / f"{name}-use.json"), "PYTHONPATH": f"{ROOT}:{ROOT / 'api/client'}",
        }  # fmt: skip
        (self.folder / name).mkdir()
        return Task((sys.executable, "-m", "tests.e2e.tiny_job"), env, self.ports[name])

    def use(self, name: str, gpu: float) -> None:
        """Let a job say how busy its GPUs are."""
        fresh = self.folder / f"{name}-fresh.json"
        fresh.write_text(json.dumps({"gpu_util": gpu}))
        fresh.rename(self.folder / f"{name}-use.json")

    def __enter__(self) -> "Project":
        for name, group in GROUPS.items():
            self.gce.power.man(group, name)
        self.gce.template("node", NODE)
        self.gce.group("research", ZONE, "node", 2)
        self.gce.pool("research", "gpus", [ZONE], NODE, 2)
        self.cluster.machines = self.gce.machines
        self.gce.start()
        self.cluster.start()
        self.began = {name: self.members(name) for name in GROUPS}
        return self

    def __exit__(self, *_: object) -> None:
        self.gce.close()
        self.cluster.close()

    def host(self) -> CloudHost:
        timing = {
            "poll_seconds": 0.5, "turn_seconds": 0.5, "look_seconds": 0.25, "repeat_seconds": 1.0,
            "stop_seconds": 0.1, "boot_seconds": 0.1, "checkpoint_seconds": 0.1, "restart_seconds": 0.5,
        }  # fmt: skip
        settings = {
            "clock": {"rate": RATE, "origin": self.origin}, "development": True,
            "timing": {name: seconds * RATE for name, seconds in timing.items()} | {"patience": 4.0},
        }  # fmt: skip
        kubeconfig = written(self.folder, self.cluster.url, {"token": "secret"})
        provider = {"project": self.gce.project, "endpoint": self.gce.url, "kubeconfig": str(kubeconfig)}
        return CloudHost(self.folder, {"gcp": provider}, policies("observe"), settings)

    def members(self, name: str) -> list[str]:
        """Name the nodes of a job, the oldest first."""
        return list(self.gce.groups[ZONE, GROUPS[name]]["members"])

    def changes(self) -> list[tuple[str, str]]:
        """The mutations that Google was asked for: the method, and what it is about."""
        return [(call.method, call.name) for call in self.gce.calls if call.method in MUTATIONS]

    def deleted(self) -> list[list[str]]:
        """Name the machines of each request to delete members."""
        asked = [
            json.loads(body) for _, path, body in self.gce.sent if path.partition("?")[0].endswith("/deleteInstances")
        ]
        return [[address.rpartition("/")[2] for address in one["instances"]] for one in asked]

    def cordoned(self) -> list[str]:
        """The mutations that the cluster was asked for."""
        return [f"{call.method} {call.path}" for call in self.cluster.calls if call.method in KUBE_MUTATIONS]


def policies(mode: str) -> str:
    return POLICIES.format(mode=mode, node=NODE)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project(tmp_path) as made:
        yield made


@pytest.mark.slow
def test_a_managed_group_and_a_node_pool_are_watched_then_grow_and_lose_named_nodes(project: Project) -> None:
    with project.host() as host:
        host.start_daemon()
        until(host.ready, 60, "the daemon is ready", host)
        for name, identity in TARGETS.items():
            target = {"provider": "gcp", "kind": name, "id": identity, "place": ZONE}
            host.add(name=name, hook=f"http://127.0.0.1:{project.ports[name]}/", target=target)
        _nothing_is_changed_without_trust(project, host)
        with asked_for_intents(project.gce, host), asked_for_intents(project.cluster, host):
            host.policy.write_text(policies("auto"))
            _moved(host, 1)
            victims = {name: project.members(name)[-1] for name in GROUPS}
            project.cluster.run("loader", victims["pool"], grace_seconds=0.2)
            for name in GROUPS:
                project.use(name, 0.3)
            _moved(host, 2)
        _only_the_recorded_calls_were_made(project, victims)
        for name in GROUPS:
            assert project.members(name) == project.began[name]
            no_step_is_lost(host, name)


def _nothing_is_changed_without_trust(project: Project, host: CloudHost) -> None:
    for mode, status in (("observe", "observed"), ("recommend", "recommended")):
        host.policy.write_text(policies(mode))
        wished = (status, f"gcp/{ZONE}/3x {NODE}")

        def said(wished: tuple[str, str] = wished) -> bool:
            newest = [host.decisions(name)[:1] for name in GROUPS]
            return all(bool(found) and (found[0]["status"], found[0]["chosen"]) == wished for found in newest)

        until(said, 60, f"every job's move is {status}", host)
        assert project.changes() == []
        assert project.cordoned() == []


def _moved(host: CloudHost, times: int) -> None:
    def done() -> bool:
        return all(sum(one["status"] == "done" for one in host.decisions(name)) == times for name in GROUPS)

    until(done, 60, f"{times} moves of each job are done", host)


def _only_the_recorded_calls_were_made(project: Project, victims: dict[str, str]) -> None:
    """In the order of each resource; what the two have to do runs side by side."""
    made = [call for call in project.gce.calls if call.method in MUTATIONS]
    assert {call.outcome for call in made} == {"ok"}
    about = {"group": ["research"], "pool": ["gpus", GROUPS["pool"]]}
    found = {name: [call for call in project.changes() if call[1] in about[name]] for name in GROUPS}
    assert found == {
        "group": [("resize", "research"), ("deleteInstances", "research")],
        "pool": [("setSize", "gpus"), ("deleteInstances", GROUPS["pool"])],
    }
    assert len(made) == 4
    assert [call.query["size"] for call in made if call.method == "resize"] == ["3"]
    assert sorted(project.deleted()) == sorted([victim] for victim in victims.values())
    cordon, *evictions = project.cordoned()
    assert cordon == f"PATCH /api/v1/nodes/{victims['pool']}"
    assert set(evictions) == {"POST /api/v1/namespaces/default/pods/loader/eviction"}
