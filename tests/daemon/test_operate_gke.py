"""Acting on a node pool of GKE and in its cluster: crashes at every committed step, shortage, and held-back pods."""

from pathlib import Path

import pytest

from providers.budget import Budget
from providers.catalog import Catalog, with_nodes
from providers.gcp.client import Client
from providers.gcp.provider import Gcp
from providers.kubernetes import Clusters
from providers.types import Target
from tests.daemon.test_operate import begun
from tests.daemon.test_operate_eks import crashed_everywhere, opened
from tests.daemon.test_operate_gcp import CALLS, OnGcp
from tests.emulators.gce import Emulator, Fault
from tests.emulators.kubernetes import Kubernetes
from tests.providers.gcp.conftest import KNOWN, N1, ZONE
from tests.providers.test_kubernetes import written

CALLED = {**CALLS, "setSize": ("Resize",), "PATCH": ("Remove", "Keep"), "POST": ("Remove",)}
GROWN, DELETED = "setSize", "deleteInstances"


class OnGkePool(OnGcp):
    """The same daemon, and a job on the last of the two nodes of a node pool, in a Job's pod."""

    offers = (with_nodes(N1, 2), with_nodes(N1, 3))

    def __init__(self, path: Path, account: "OnGkePool | None" = None) -> None:
        """Take the folder only: making a project anew is quick, so that none is shared with another world."""
        self.folder = path.parent
        super().__init__(path)

    def _enter_cloud(self) -> None:
        self.emulator = Emulator(self.clock, stop_seconds=6, boot_seconds=6, operation_seconds=4)
        self.emulator.start()
        self.cluster = Kubernetes(self.clock, page=100)
        self.cluster.machines = self.emulator.machines
        self.cluster.returns = False
        self.cluster.start()
        self.pool = self.emulator.pool("research", "gpus", [ZONE], "n1-standard-8", 2)
        self.target = Target("gcp", "pool", "research/gpus", ZONE)
        budget = Budget(self.clock)
        file = written(self.folder, self.cluster.url, {"token": "secret"})
        self.clusters = Clusters(str(file), {}, budget, self.clock)
        client = Client(self.emulator.project, budget, self.emulator.url)
        self.provider = Gcp("gcp", client, Catalog({one.id: one for one in KNOWN}), clusters=self.clusters)
        self.kept, self.runs_on = self._running()
        self.cluster.pass_time()
        self.cluster.run("train", self.runs_on, owner="Job", app="train", grace_seconds=20)
        self.emulator.ask = self._intended
        self.cluster.ask = self._intended

    def _intended(self, method: str, name: str) -> str | None:
        """Ask the store: neither takes a token that could be compared, so the kind of call must do."""
        for one in self.store.actions.unfinished():
            if any(type(record.call).__name__ in CALLED[method] for record in self.store.actions.calls(one.id)):
                return None
        return f"no committed intent for {method} of {name}"

    def size(self) -> int:
        """Give the wanted size by the truth of the cloud."""
        return int(self.emulator.groups[self.pool.groups[0]]["targetSize"])

    def evicted(self) -> int:
        return sum(call.method == "POST" and call.status == 201 for call in self.cluster.calls)

    def cordoned(self) -> list[str]:
        return [name for name, node in self.cluster.nodes.items() if node.unschedulable]

    async def turn(self, seconds: float = 15.0):
        """Look less often than at a machine: a drain has nothing to show for half a minute."""
        return await super().turn(seconds)

    def complaints(self) -> list[str]:
        return [*self.emulator.complaints, *self.cluster.complaints]

    def close(self) -> None:
        self.clusters.close()
        self.cluster.close()
        super().close()


class OnShrinkingPool(OnGkePool):
    """The same, to lose the node that the job runs on."""

    offers = (with_nodes(N1, 2), N1)


async def test_a_growth_ends_well_wherever_it_is_cut_off_with_one_operation(tmp_path: Path) -> None:
    with opened(OnGkePool, tmp_path) as world:
        await crashed_everywhere(world, "grow", tmp_path)
        assert world.effects() == {GROWN: 1}


async def test_a_shrink_ends_well_wherever_it_is_cut_off_with_one_eviction_and_one_deletion(tmp_path: Path) -> None:
    with opened(OnShrinkingPool, tmp_path) as world:
        await crashed_everywhere(world, "shrink", tmp_path)
        assert world.effects() == {DELETED: 1}
        assert world.evicted() == 1


async def test_the_named_node_goes_once_it_is_empty_and_no_other(tmp_path: Path) -> None:
    with opened(OnShrinkingPool, tmp_path) as world:
        await begun(world, "shrink")
        await world.settle()
        assert [call.method for call in world.cluster.calls if call.method != "GET"] == ["PATCH", "POST"]
        assert world._running() == [world.kept]
        (end,) = (call for call in world.emulator.calls if call.method == DELETED)
        assert end.at >= world.asked[0]


@pytest.mark.parametrize(
    ("route", "method", "reason", "after"),
    [
        ("grow", GROWN, "", True), ("grow", GROWN, "INTERNAL", False), ("grow", GROWN, "INTERNAL", True),
        ("grow", GROWN, "RESOURCE_EXHAUSTED", False), ("grow", "containerOperations/get", "UNAVAILABLE", False),
        ("shrink", DELETED, "", True), ("shrink", DELETED, "internalError", False),
        ("shrink", "nodePools/get", "UNAVAILABLE", False),
    ],
)  # fmt: skip
async def test_a_lost_or_failed_answer_of_any_call_has_one_effect(
    tmp_path: Path, route: str, method: str, reason: str, after: bool
) -> None:
    with opened(OnGkePool if route == "grow" else OnShrinkingPool, tmp_path) as world:
        await begun(world, route)
        world.emulator.fault(Fault(method, reason, 500, after))
        await world.settle()
        assert world.stage() == "done"
        assert len(world._running()) == world.size() == world.offers[1].nodes


async def test_an_operation_already_running_on_the_cluster_is_waited_out(tmp_path: Path) -> None:
    with opened(OnGkePool, tmp_path) as world:
        world.emulator.gke.occupy("research", 45)
        await begun(world, "grow")
        await world.settle()
        assert world.stage() == "done"
        assert world.effects() == {GROWN: 1}
        assert world.size() == 3


@pytest.mark.parametrize("quiet", [True, False])
async def test_a_growth_that_finds_no_stock_gets_its_old_size_back_at_once(tmp_path: Path, quiet: bool) -> None:
    with opened(OnGkePool, tmp_path) as world:
        world.emulator.gke.quiet = quiet
        world.emulator.exhaust("n1-*")
        begun_at = world.clock.now()
        await begun(world, "grow")
        await world.settle()
        assert world.stage() == "rolled_back"
        assert (world.size(), len(world._running())) == (2, 2)
        assert world.effects() == {GROWN: 1, "resize": 1} or world.effects() == {GROWN: 2}
        assert (world.clock.now() - begun_at).total_seconds() < 300
        assert "no capacity for n1-standard-8" in world.closed_with()


@pytest.mark.parametrize(("code", "message"), [(8, "Insufficient quota: GPUS_ALL_REGIONS"), (13, "Internal error.")])
async def test_an_operation_done_with_an_error_inside_leaves_the_old_size(
    tmp_path: Path, code: int, message: str
) -> None:
    with opened(OnGkePool, tmp_path) as world:
        world.emulator.gke.spoil(code, message)
        await begun(world, "grow")
        await world.settle()
        assert world.stage() == "rolled_back"
        assert (world.size(), len(world._running())) == (2, 2)
        assert message in world.closed_with()


async def test_a_budget_that_never_gives_way_leaves_the_node_at_work(tmp_path: Path) -> None:
    with opened(OnShrinkingPool, tmp_path) as world:
        world.cluster.run("web-1", world.runs_on, app="web")
        world.cluster.budgets["web"] = 1
        await begun(world, "shrink")
        await world.settle(600)
        assert world.stage() == "rolled_back"
        assert world.effects() == {}
        assert (len(world._running()), world.cordoned()) == (2, [])
        assert world.complaints() == []
