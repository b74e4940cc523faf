"""Node pools of GKE: sizes a zone, one operation a cluster, errors inside operations, nodes that are emptied first."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from google.cloud import container_v1

from providers.budget import Budget
from providers.catalog import Catalog, with_nodes
from providers.clock import VirtualClock
from providers.errors import (
    AnswerLost,
    Busy,
    Incompatible,
    Invalid,
    NotPermitted,
    QuotaExceeded,
    Unavailable,
    WrongState,
)
from providers.gcp.client import Client
from providers.gcp.issues import KINDS
from providers.gcp.provider import Gcp
from providers.kubernetes import MARK, Clusters
from providers.types import Grow, Keep, Operation, Remove, Resize, Same, Shrink, Target
from tests.emulators.gce import MUTATIONS, Emulator, Fault
from tests.emulators.kubernetes import Kubernetes
from tests.providers.gcp.conftest import KNOWN, N1, NOW, ZONE
from tests.providers.test_kubernetes import written

POOL = Target("gcp", "pool", "research/gpus", "us-central1")
WIDE = Target("gcp", "pool", "research/wide", "us-central1")
LABELS = {"scaleahead": "managed"}
ZONES = (ZONE, "us-central1-b")


class Research:
    """A cluster with a node pool of two nodes in one zone, and one of two nodes over two zones."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(NOW)
        self.emulator, self.cluster = Emulator(self.clock), Kubernetes(self.clock)
        self.emulator.start()
        self.cluster.machines = self.emulator.machines
        self.cluster.start()
        self.pool = self.emulator.pool("research", "gpus", [ZONE], "n1-standard-8", 2, "us-central1", labels=LABELS)
        self.wide = self.emulator.pool("research", "wide", ZONES, "n1-standard-8", 1)
        budget = Budget(self.clock)
        file = written(folder, self.cluster.url, {"token": "secret"})
        self.clusters = Clusters(str(file), {}, budget, self.clock)
        client = Client(self.emulator.project, budget, self.emulator.url)
        known = Catalog({one.id: one for one in KNOWN})
        self.gcp, self.bare = Gcp("gcp", client, known, 6, self.clusters), Gcp("gcp", client, known, 6)

    def nodes(self, target: Target = POOL) -> list[str]:
        return [node.id for node in self.gcp.describe(target).nodes]

    def mutations(self) -> list[str]:
        return [call.method for call in self.emulator.calls if call.method in MUTATIONS]

    def sizes(self, pool: str = "wide") -> list[int]:
        groups = self.emulator.gke.pools["research", pool].groups
        return [self.emulator.groups[group]["targetSize"] for group in groups]

    def after(self, seconds: float, operation: Operation) -> Operation:
        self.clock.advance(seconds)
        return self.gcp.poll(operation)

    def close(self) -> None:
        self.clusters.close()
        self.cluster.close()
        self.emulator.close()


@pytest.fixture
def research(tmp_path: Path) -> Iterator[Research]:
    made = Research(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_growing_is_one_operation_followed_by_its_name(research: Research):
    operation = research.gcp.perform(Resize(POOL, 3), "grow-1")
    assert research.gcp.describe(POOL).state == "pending"
    (name,) = research.emulator.gke.operations
    assert name in operation.id
    assert research.after(19, operation).state == "running"
    assert research.after(1, operation).state == "running"  # the operation is through, the node still boots
    assert research.after(30, operation).state == "done"
    assert research.mutations() == ["setSize"]
    assert research.gcp.perform(Resize(POOL, 3), "grow-1").state == "done"
    assert research.mutations() == ["setSize"]


def test_a_size_counts_nodes_in_every_zone(research: Research):
    here = research.gcp.describe(WIDE)
    assert (here.offer.id, here.state) == ("gcp/us-central1/2x n1-standard-8", "running")
    counts = [offer.nodes for offer in research.gcp.offers(WIDE)]
    assert counts == [1, 2, 4, 6]
    with pytest.raises(Incompatible, match="cannot have 3 nodes: its 2 zones have as many each"):
        research.gcp.route(here, with_nodes(here.offer, 3))
    assert research.gcp.route(here, with_nodes(here.offer, 4)) == Grow(4)
    research.after(60, research.gcp.perform(Resize(WIDE, 4), "g"))
    assert research.sizes() == [2, 2]
    assert len(research.nodes(WIDE)) == 4


def test_zones_made_uneven_by_named_removals_can_grow_to_an_even_size_and_take_it_back(research: Research):
    research.after(60, research.gcp.perform(Resize(WIDE, 6), "g"))
    there = research.nodes(WIDE)
    research.after(120, research.gcp.perform(Remove(WIDE, tuple(n for n in there if "-b-" in n)[:2]), "r"))
    assert research.sizes() == [3, 1]
    here = research.gcp.describe(WIDE)
    assert research.gcp.route(here, with_nodes(here.offer, 3)) == Shrink(1)
    assert research.gcp.route(here, with_nodes(here.offer, 6)) == Grow(6)
    research.emulator.exhaust("n1-*")
    operation = research.after(60, research.gcp.perform(Resize(WIDE, 6), "g2"))
    assert (operation.state, research.sizes()) == ("failed", [3, 3])
    back = research.gcp.perform(Resize(WIDE, 4), "back")
    assert research.after(60, back).state == "done"
    assert research.sizes() == [3, 1]
    assert len(research.nodes(WIDE)) == 4


def test_a_node_counts_once_it_is_ready_in_its_cluster(research: Research):
    operation = research.gcp.perform(Resize(POOL, 3), "g")
    research.clock.advance(50)
    research.cluster.pass_time()
    fresh = next(node for node in research.cluster.nodes.values() if node.name == research.nodes()[-1])
    fresh.ready = False
    assert research.gcp.poll(operation).state == "running"
    assert [node.state for node in research.gcp.describe(POOL).nodes] == ["running", "running", "pending"]
    fresh.ready = True
    assert research.gcp.poll(operation).state == "done"


def test_an_operation_already_running_on_the_cluster_is_waited_for(research: Research):
    """Also one of another node pool, or of the cluster itself: the cluster makes one at a time."""
    research.emulator.gke.occupy("research", 60)
    with pytest.raises(Busy, match="running incompatible operation operation-"):
        research.gcp.perform(Resize(WIDE, 4), "one")
    with pytest.raises(Busy, match="is RECONCILING"):
        research.gcp.perform(Resize(POOL, 3), "two")
    with pytest.raises(Busy, match="is RECONCILING"):
        research.gcp.perform(Remove(POOL, (research.nodes()[0],)), "three")
    research.clock.advance(60)
    assert research.gcp.perform(Resize(WIDE, 4), "one").state == "running"
    assert research.sizes() == [2, 2]


@pytest.mark.parametrize("after", [True, False])
def test_a_lost_answer_is_repeated_by_the_size_which_is_absolute(research: Research, after: bool):
    research.emulator.fault(Fault("setSize", after=after))
    with pytest.raises(AnswerLost):
        research.gcp.perform(Resize(POOL, 3), "g")
    operation = research.gcp.perform(Resize(POOL, 3), "g")
    assert research.after(60, operation).state == "done"
    assert (len(research.nodes()), len(research.emulator.gke.operations)) == (3, 1)


def test_an_operation_that_is_done_with_an_error_inside_has_failed(research: Research):
    told = {8: "Insufficient regional quota to satisfy request: resource CPUS", 7: "Permission denied on the network"}
    kinds = {8: "QuotaExceeded", 7: "NotPermitted"}
    for code, message in told.items():
        research.emulator.gke.spoil(code, message)
        operation = research.after(20, research.gcp.perform(Resize(POOL, 3), "g"))
        assert (operation.state, operation.error) == ("failed", f"{kinds[code]}: {message}")
    assert len(research.nodes()) == 2


@pytest.mark.parametrize("quiet", [True, False])
def test_a_stock_out_is_told_by_its_class_and_the_size_can_be_given_back(research: Research, quiet: bool):
    """Whether GKE tells of it inside the operation, or only the managed group on its last attempts."""
    research.emulator.gke.quiet = quiet
    research.emulator.exhaust("n1-*")
    operation = research.after(30, research.gcp.perform(Resize(POOL, 3), "g"))
    assert operation.state == "failed"
    assert (operation.error or "").startswith("NoCapacity: ")
    operation = research.gcp.perform(Resize(POOL, 2), "back")
    assert research.after(30, operation).state == "done"
    assert research.gcp.describe(POOL).state == "running"
    assert research.sizes("gpus") == [2]


def test_a_quota_is_found_before_anything_is_asked_for(research: Research):
    research.emulator.limit("CPUS", 32)
    here = research.gcp.describe(POOL)
    with pytest.raises(QuotaExceeded, match="quota CPUS of us-central1 allows 32: 32 in use, 8 more"):
        research.gcp.route(here, with_nodes(here.offer, 3))


def test_what_only_a_person_can_mend_refuses_growth_beforehand(research: Research):
    here = research.gcp.describe(POOL)
    three = with_nodes(here.offer, 3)
    assert research.gcp.route(here, three) == Grow(3)
    codes = (("CLOUD_KMS_KEY_DESTROYED", Incompatible), ("GKE_SERVICE_ACCOUNT_DELETED", NotPermitted))
    for code, kind in codes:
        research.pool.conditions = [(code, "a text")]
        with pytest.raises(kind, match=f"is RUNNING: {code}: a text"):
            research.gcp.route(here, three)
    research.pool.conditions = [("GCE_STOCKOUT", "it may have passed")]
    assert research.gcp.route(here, three) == Grow(3)
    research.pool.status = "STOPPING"
    with pytest.raises(Incompatible, match="is STOPPING"):
        research.gcp.route(here, three)


def test_a_pool_with_autoscaling_is_left_to_it(research: Research):
    research.pool.autoscaling = True
    here = research.gcp.describe(POOL)
    with pytest.raises(Incompatible, match="has autoscaling"):
        research.gcp.route(here, with_nodes(here.offer, 3))


def test_nodes_are_emptied_before_they_are_deleted(research: Research):
    keep, victim = research.nodes()
    research.cluster.pass_time()
    research.cluster.run("train-1", victim, owner="Job")
    call = Remove(POOL, (victim,))
    with pytest.raises(Busy, match=r"1 pods have still to leave .*default/train-1: it was asked to leave"):
        research.gcp.perform(call, "r")
    assert research.mutations() == []
    (leaving,) = (node for node in research.gcp.describe(POOL).nodes if node.leaving)
    assert (leaving.id, research.cluster.nodes[victim].annotations) == (victim, {MARK: "r"})
    research.clock.advance(30)
    operation = research.gcp.perform(call, "r")
    assert research.mutations() == ["deleteInstances"]
    assert research.after(60, operation).state == "done"
    assert research.nodes() == [keep]


def test_a_removal_can_be_taken_back(research: Research):
    keep, victim = research.nodes()
    research.cluster.pass_time()
    research.cluster.nodes[keep].unschedulable = True  # by a person
    research.cluster.run("web-1", victim)
    research.cluster.budgets["web"] = 1
    with pytest.raises(Busy, match="violate the pod's disruption budget"):
        research.gcp.perform(Remove(POOL, (keep, victim)), "r")
    operation = research.gcp.perform(Keep(POOL, (keep, victim)), "k")
    assert research.gcp.poll(operation).state == "done"
    assert [node.leaving for node in research.gcp.describe(POOL).nodes] == [False, False]
    assert [research.cluster.nodes[name].unschedulable for name in (keep, victim)] == [True, False]


def test_without_a_kubeconfig_nodes_are_deleted_and_the_cluster_is_never_asked(research: Research):
    keep, victim = (node.id for node in research.bare.describe(POOL).nodes)
    operation = research.bare.perform(Remove(POOL, (victim,)), "r")
    research.clock.advance(60)
    assert research.bare.poll(operation).state == "done"
    assert [node.id for node in research.bare.describe(POOL).nodes] == [keep]
    assert research.cluster.calls == []


def test_a_pool_resized_or_emptied_by_hand_is_seen_as_it_is(research: Research):
    zone, name = research.pool.groups[0]
    research.emulator.set_size(zone, name, 4)
    here = research.gcp.describe(POOL)
    assert (here.offer.nodes, here.state) == (4, "pending")
    assert research.gcp.route(here, here.offer) == Same()
    with pytest.raises(WrongState, match="has 4 nodes - name those to be removed"):
        research.gcp.perform(Resize(POOL, 3), "r")
    research.clock.advance(60)
    victims = tuple(research.nodes()[:2])
    research.emulator.vanish(zone, victims[0])  # its group makes it again, under the same name
    operation = research.gcp.perform(Remove(POOL, victims), "v")
    assert research.after(120, operation).state == "done"


def test_a_group_of_a_node_pool_is_no_target_of_its_own(research: Research):
    zone, name = research.pool.groups[0]
    group = Target("gcp", "group", name, zone)
    with pytest.raises(Incompatible, match="belongs to a GKE node pool - name the pool research/gpus"):
        research.gcp.route(research.gcp.describe(group), with_nodes(N1, 3))
    assert [one.target for one in research.gcp.labelled("scaleahead", "managed")] == [POOL]
    assert research.gcp.labelled("scaleahead", "other") == []


def test_a_list_that_leaves_a_zone_out_is_no_list(research: Research):
    research.emulator.gke.missing_zones = ["us-central1-c"]
    with pytest.raises(Unavailable, match="does not tell of the clusters in us-central1-c"):
        research.gcp.labelled("scaleahead")


def test_where_gke_is_not_turned_on_there_are_no_pools_but_a_missing_permission_is_told(research: Research):
    research.emulator.fault(
        Fault("clusters/list", "PERMISSION_DENIED", 403, message="SERVICE_DISABLED: not used before")
    )
    assert research.gcp.labelled("scaleahead") == []
    research.emulator.fault(
        Fault("clusters/list", "PERMISSION_DENIED", 403, message="container.clusters.list required")
    )
    with pytest.raises(NotPermitted, match=r"container\.clusters\.list required"):
        research.gcp.labelled("scaleahead")


def test_a_bad_id_and_a_size_below_the_nodes_are_refused_unsent(research: Research):
    with pytest.raises(Invalid, match="its cluster's name, a slash and its own, not 'gpus'"):
        research.gcp.describe(replace(POOL, id="gpus"))
    with pytest.raises(WrongState, match="has 2 nodes - name those to be removed"):
        research.gcp.perform(Resize(POOL, 1), "r")
    assert research.mutations() == []


def test_a_spot_pool_is_priced_on_the_spot_market(research: Research):
    research.pool.spot = True
    assert research.gcp.describe(POOL).offer.id == f"gcp/{ZONE}/2x n1-standard-8@spot"


def test_every_condition_that_gke_documents_has_a_class():
    assert set(KINDS) == {one.name for one in container_v1.StatusCondition.Code}
