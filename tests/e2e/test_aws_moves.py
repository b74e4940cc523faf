"""``scaleahead serve`` on the emulated AWS with real training processes on its machines: watching, then moving them."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from api.demo.machine import Task
from api.demo.stage import free_port
from providers.aws.rules import SCRATCH_TAG, TOKEN_TAG
from providers.clock import ScaledClock, SystemClock
from tests.e2e.cloud_host import KEYS, CloudHost, asked_for_intents, no_step_is_lost
from tests.e2e.control_host import RATE, ROOT, until
from tests.emulators.aws import MUTATIONS, Called
from tests.emulators.aws_machines import PoweredAws
from tests.emulators.kubernetes import MUTATIONS as KUBE_MUTATIONS
from tests.emulators.kubernetes import Kubernetes
from tests.providers.test_kubernetes import written

ZONE = "us-east-1a"
SMALL, LARGE, HUGE = "g4dn.xlarge", "g5.2xlarge", "p4d.24xlarge"
BYTES_PER_GIB = 32 * 2**20
END = "TerminateInstanceInAutoScalingGroup"
READS = frozenset({
    "DescribeInstances", "DescribeInstanceTypes", "DescribeInstanceTypeOfferings", "GetServiceQuota",
    "DescribeAutoScalingGroups", "DescribeScalingActivities", "DescribeNodegroup", "DescribeUpdate",
    "DescribeLaunchTemplateVersions", "DescribeSpotInstanceRequests", "DescribeSpotPriceHistory", "GetProducts",
})  # fmt: skip
POLICIES = """\
scaleahead: 1
policies:
  model:
    kind: cost_per_progress
    value_of_time_usd_per_hour: 0.5
    limits: {{usd_per_hour: {cap}, offers: {{allow: ["aws/*/{small}", "aws/*/{large}", "aws/*/{huge}"]}}}}
    safety: {{memory_margin: {margin}}}
    moves: {{max_per_hour: 60, cooldown_minutes: 0}}
    mode: {{default: {mode}}}
  busy:
    kind: threshold
    moves: {{max_per_hour: 60, cooldown_minutes: 0}}
    mode: {{default: {groups}}}
"""


def policies(mode: str, groups: str = "", cap: float = 5, margin: float = 0.08) -> str:
    return POLICIES.format(
        mode=mode, groups=groups or mode, margin=margin, cap=cap, small=SMALL, large=LARGE, huge=HUGE
    )


class Account:
    """An instance with the demonstration's language model, a group and a node group with a job each, and their host."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.origin = folder, time.time()
        self.ports = {name: free_port() for name in ("model", "group", "pool")}
        tasks = {name: self._task(name) for name in self.ports}
        clock = ScaledClock(RATE, self.origin)
        quick = {"stop_seconds": 0.3, "boot_seconds": 0.3, "update_seconds": 0.3}
        self.aws = PoweredAws(clock, folder / "disks", tasks, BYTES_PER_GIB, **quick)
        self.cluster = Kubernetes(SystemClock())

    def _task(self, name: str) -> Task:
        module = ("tests.e2e.alone", "api.demo.train_language_model") if name == "model" else ("tests.e2e.tiny_job",)
        use = self.folder / f"{name}-use.json"
        use.write_text(json.dumps({"gpu_util": 0.95}))
        env = {
            "SCALEAHEAD_JOB": name, "SCALEAHEAD_CHECKPOINTS": str(self.folder / name), "TINY_USAGE": str(use),
            "SCALEAHEAD_STEPS": "600", "SCALEAHEAD_STEP_SECONDS": "0.17", "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'api/client'}",
        }  # fmt: skip
        (self.folder / name).mkdir()
        return Task((sys.executable, "-m", *module), env, self.ports[name])

    def __enter__(self) -> "Account":
        self.aws.power.man("research", "group")
        self.aws.power.man("eks-gpus-*", "pool")
        self.aws.start()
        self.cluster.start()
        self.aws.template("model", SMALL)
        self.aws.template("node", SMALL)
        scratch = {"ResourceType": "instance", "Tags": [{"Key": SCRATCH_TAG, "Value": "true"}]}
        self.vm = self.aws.launch("model", SMALL, TagSpecifications=[scratch])
        self.aws.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName="research", MinSize=2, MaxSize=3, DesiredCapacity=2, AvailabilityZones=[ZONE],
            LaunchTemplate={"LaunchTemplateName": "node"},
        )  # fmt: skip
        pool = self.aws.pool("research", "gpus", "node", 2, (2, 3))
        self.groups = {"group": "research", "pool": pool.group}
        self.began = {name: self.aws.members(group) for name, group in self.groups.items()}
        self.cluster.machines = lambda: [f"aws:///{ZONE}/{one}" for one in self.aws.up(pool.group)]
        self.aws.calls.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self.aws.close()
        self.cluster.close()

    def host(self) -> CloudHost:
        timing = {
            "poll_seconds": 1.0, "turn_seconds": 1.0, "look_seconds": 0.5, "repeat_seconds": 1.0, "stop_seconds": 0.3,
            "boot_seconds": 70.0, "checkpoint_seconds": 0.1, "restore_seconds": 3.0, "restart_seconds": 1.0,
            "forecast_seconds": 60.0,
        }  # fmt: skip
        kubeconfig = written(self.folder, self.cluster.url, {"token": "secret"})
        provider = {"region": "us-east-1", "endpoint": self.aws.url, "kubeconfig": str(kubeconfig)}
        settings = {
            "clock": {"rate": RATE, "origin": self.origin}, "development": True,
            "forecaster": "daemon.forecast.ensemble:Recurrent",
            "timing": {name: seconds * RATE for name, seconds in timing.items()} | {"patience": 4.0},
        }  # fmt: skip
        return CloudHost(self.folder, {"aws": provider}, policies("observe"), settings)

    def register(self, host: CloudHost) -> None:
        aims = {
            "model": ("vm", self.vm, ZONE), "group": ("group", "research", "us-east-1"),
            "pool": ("pool", "research/gpus", "us-east-1"),
        }  # fmt: skip
        for name, (kind, identity, place) in aims.items():
            host.add(
                name=name, hook=f"http://127.0.0.1:{self.ports[name]}/", recipe={"template": "model"},
                policy="model" if name == "model" else "busy",
                target={"provider": "aws", "kind": kind, "id": identity, "place": place},
            )  # fmt: skip

    def use(self, name: str, gpu: float) -> None:
        """Let a group's job say how busy its GPUs are."""
        fresh = self.folder / f"{name}-fresh.json"
        fresh.write_text(json.dumps({"gpu_util": gpu}))
        fresh.rename(self.folder / f"{name}-use.json")

    def changes(self) -> list[Called]:
        """The mutations that were asked of AWS, dry runs left out."""
        return [call for call in self.aws.calls if call.action in MUTATIONS and call.outcome != "DryRunOperation"]

    def cordoned(self) -> list[str]:
        """The mutations that were asked of the cluster."""
        return [f"{call.method} {call.path}" for call in self.cluster.calls if call.method in KUBE_MUTATIONS]


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with Account(tmp_path) as made:
        yield made


@pytest.mark.slow
def test_jobs_are_watched_then_moved_by_the_recorded_calls_and_no_others(account: Account) -> None:
    with account.host() as host:
        host.start_daemon(**KEYS)
        until(host.ready, 60, "the daemon is ready", host)
        account.register(host)
        _nothing_is_changed_without_trust(account, host)
        with asked_for_intents(account.aws, host):
            host.policy.write_text(policies("auto"))
            _finished(host, 1, "model", "group", "pool")
            victims = {name: account.aws.members(group)[-1] for name, group in account.groups.items()}
            account.cluster.run("loader", victims["pool"], grace_seconds=0.2)
            for name in account.groups:
                account.use(name, 0.3)
            host.policy.write_text(policies("approve", "auto", cap=30, margin=2.0))
            until(lambda: host.decisions("model")[0]["status"] == "waiting", 120, "the largest is wished for", host)
            assert host.ask("POST", f"/v1/decisions/{host.decisions('model')[0]['id']}/approve")[0] == 200
            _finished(host, 2, "model", "group", "pool")
        _only_the_recorded_calls_were_made(account, victims)
        _each_change_was_looked_at_first(account)
        _the_end_is_as_wished(account)
        for name in account.ports:
            no_step_is_lost(host, name)


def _nothing_is_changed_without_trust(account: Account, host: CloudHost) -> None:
    for mode, status in (("observe", "observed"), ("recommend", "recommended")):
        host.policy.write_text(policies(mode))
        wished = {"model": f"{ZONE}/{LARGE}", "group": f"{ZONE}/3x {SMALL}", "pool": f"{ZONE}/3x {SMALL}"}

        def said(status: str = status, wished: dict[str, str] = wished) -> bool:
            newest = {name: host.decisions(name)[:1] for name in wished}
            return all(
                bool(found) and (found[0]["status"], found[0]["chosen"]) == (status, f"aws/{wished[name]}")
                for name, found in newest.items()
            )

        until(said, 120, f"every job's move is {status}", host)
        assert account.changes() == []
        assert account.cordoned() == []
        assert account.aws.running()[account.vm] == SMALL


def _finished(host: CloudHost, times: int, *names: str) -> None:
    def done() -> bool:
        return all(sum(one["status"] == "done" for one in host.decisions(name)) >= times for name in names)

    until(done, 120, f"{times} moves of {', '.join(names)} are done", host)


def _only_the_recorded_calls_were_made(account: Account, victims: Mapping[str, str]) -> None:
    """In the order of each resource; what the three have to do runs side by side."""
    vm, group = account.vm, account.groups["group"]
    made = account.changes()
    assert {call.outcome for call in made} == {"ok"}
    assert {call.action for call in account.aws.calls} - MUTATIONS <= READS
    new = next(one for one, kind in account.aws.running().items() if kind == HUGE)
    change = [
        ("StopInstances", vm), ("CreateTags", vm, f"{TOKEN_TAG}stop"), ("ModifyInstanceAttribute", vm, LARGE),
        ("StartInstances", vm), ("CreateTags", vm, f"{TOKEN_TAG}start"),
    ]  # fmt: skip
    replacement = [
        ("RunInstances", HUGE, "model"), ("StopInstances", vm), ("CreateTags", vm, f"{TOKEN_TAG}stop"),
        ("TerminateInstances", vm),
    ]  # fmt: skip
    resized = [("SetDesiredCapacity", group, "3"), (END, victims["group"], "true")]
    pooled = [("UpdateNodegroupConfig", "gpus", "3"), (END, victims["pool"], "true")]
    found = [_gist(call) for call in made]
    for wanted in (change + replacement, resized, pooled):
        mine = [one for one in found if one in wanted]
        assert mine == wanted
    assert len(found) == len(change + replacement + resized + pooled), found
    assert new != vm
    cordon, *evictions = account.cordoned()
    assert cordon == f"PATCH /api/v1/nodes/{victims['pool']}"
    assert set(evictions) == {"POST /api/v1/namespaces/default/pods/loader/eviction"}


def _gist(call: Called) -> tuple[str, ...]:
    """Name a call's action, what it is about, and what it asks for."""
    told = call.parameters
    about = ("InstanceId", "InstanceId.1", "ResourceId.1", "AutoScalingGroupName", "nodegroupName")
    asks = ("InstanceType.Value", "InstanceType", "Tag.1.Key", "LaunchTemplate.LaunchTemplateName", "DesiredCapacity",
            "ShouldDecrementDesiredCapacity")  # fmt: skip
    size = told.get("scalingConfig", {})
    sized = [str(size["desiredSize"])] if isinstance(size, dict) and size else []
    return (call.action, *(str(told[key]) for key in (*about, *asks) if key in told), *sized)


def _each_change_was_looked_at_first(account: Account) -> None:
    """What can be checked was checked before anything stopped, and every call followed a look at what it changes."""
    names = [(call.action, json.dumps(dict(call.parameters))) for call in account.aws.calls]
    for kind, first in ((LARGE, "StopInstances"), (HUGE, "RunInstances")):
        place = next(at for at, (action, _) in enumerate(names) if action == first)
        for asked in ("DescribeInstanceTypes", "DescribeInstanceTypeOfferings"):
            assert any(action == asked and kind in told for action, told in names[:place]), (kind, asked)
    looked = False
    for action, told in names:
        if account.vm in told:
            assert looked or action in ("DescribeInstances", "CreateTags"), action
            looked = action == "DescribeInstances"


def _the_end_is_as_wished(account: Account) -> None:
    running = account.aws.running()
    assert account.vm not in running
    assert sorted(running.values()) == [SMALL] * 4 + [HUGE]
    for name, group in account.groups.items():
        assert account.aws.members(group) == account.began[name]
    assert {told["out_of_memory"] for told in account.aws.power.machines.report().values()} == {0}
