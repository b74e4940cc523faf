"""An EKS node group: one update at a time, what EKS and Auto Scaling tell, and nodes emptied before they go."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from botocore import session

from providers.aws.client import Client
from providers.aws.issues import KINDS
from providers.aws.provider import Aws
from providers.aws.scaling import classed
from providers.budget import Budget
from providers.catalog import Catalog, with_nodes
from providers.clock import VirtualClock
from providers.errors import AnswerLost, Busy, Incompatible, Invalid, NotPermitted, Unavailable, WrongState
from providers.kubernetes import MARK, Clusters
from providers.types import Grow, Keep, Operation, Remove, Resize, Target
from tests.emulators.aws import MUTATIONS, Emulator, Fault
from tests.emulators.kubernetes import Kubernetes
from tests.providers.aws.conftest import LARGE, NOW, SMALL
from tests.providers.test_kubernetes import written

THREE = with_nodes(replace(SMALL, zone="us-east-1a"), 3)
POOL = Target("aws", "pool", "research/gpus", "us-east-1")


class Research:
    """A cluster with a node group of two nodes, of one to four."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(NOW)
        self.emulator, self.cluster = Emulator(self.clock), Kubernetes(self.clock)
        self.emulator.start()
        self.cluster.machines = self.emulator.machines
        self.cluster.start()
        template = {"ImageId": self.emulator.image(), "InstanceType": SMALL.machine_type}
        self.emulator.client("ec2").create_launch_template(LaunchTemplateName="train", LaunchTemplateData=template)
        self.pool = self.emulator.pool("research", "gpus", "train", 2, (1, 4), tags={"scaleahead": "managed"})
        self.clock.advance(60)
        budget = Budget(self.clock)
        file = written(folder, self.cluster.url, {"token": "secret"})
        self.clusters = Clusters(str(file), {}, budget, self.clock)
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        client = Client("us-east-1", budget, self.emulator.url, keys)
        known = Catalog({one.id: one for one in (SMALL, LARGE)})
        self.aws = Aws("aws", client, client, known, self.clock, self.clusters)
        self.bare = Aws("aws", client, client, known, self.clock)
        self.eks = self.emulator.client("eks")
        self.emulator.calls.clear()

    def nodes(self) -> list[str]:
        return [node.id for node in self.aws.describe(POOL).nodes]

    def mutations(self) -> list[str]:
        return [call.action for call in self.emulator.calls if call.action in MUTATIONS]

    def wait(self, seconds: float) -> None:
        """Let time pass in small steps: the emulator acts on what is due when it is asked."""
        while seconds > 0:
            self.clock.advance(min(seconds, 10.0))
            self.eks.describe_nodegroup(clusterName="research", nodegroupName="gpus")
            seconds -= 10.0

    def after(self, seconds: float, operation: Operation) -> Operation:
        self.wait(seconds)
        return self.aws.poll(operation)

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


def test_growing_is_one_update_followed_by_its_id(research: Research):
    operation = research.aws.perform(Resize(POOL, 3), "grow-1")
    assert research.aws.describe(POOL).state == "pending"
    assert research.after(19, operation).state == "running"
    assert research.after(1, operation).state == "running"  # the update is through, the node still boots
    assert research.after(30, operation).state == "done"
    (update,) = (call for call in research.emulator.calls if call.action == "UpdateNodegroupConfig")
    assert update.parameters["clientRequestToken"] == "grow-1"
    assert update.parameters["scalingConfig"] == {"desiredSize": 3}  # type: ignore[comparison-overlap]
    assert research.mutations() == ["UpdateNodegroupConfig"]


def test_a_node_counts_once_it_is_ready_in_its_cluster(research: Research):
    operation = research.aws.perform(Resize(POOL, 3), "g")
    research.wait(50)
    research.cluster.pass_time()
    fresh = list(research.cluster.nodes.values())[-1]
    fresh.ready = False
    assert research.aws.poll(operation).state == "running"
    assert [node.state for node in research.aws.describe(POOL).nodes] == ["running", "running", "pending"]
    fresh.ready = True
    assert research.aws.poll(operation).state == "done"


def test_a_second_update_waits_for_the_first(research: Research):
    research.aws.perform(Resize(POOL, 3), "one")
    with pytest.raises(Busy, match="has an update in progress"):
        research.aws.perform(Resize(POOL, 4), "two")
    with pytest.raises(Busy, match="is UPDATING"):
        research.aws.perform(Remove(POOL, (research.nodes()[0],)), "three")
    research.wait(60)
    assert research.aws.perform(Resize(POOL, 4), "four").state == "running"


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_lost_update_is_sent_again_under_its_token(research: Research, forgetful: bool):
    """Where EKS has forgotten the token, it answers that an update is in progress: the next look finds its effect."""
    research.emulator.fault(Fault("UpdateNodegroupConfig", "", after=True))
    with pytest.raises(AnswerLost):
        research.aws.perform(Resize(POOL, 3), "g")
    research.emulator.eks.forgetful = forgetful
    if forgetful:
        with pytest.raises(Busy):
            research.aws.perform(Resize(POOL, 3), "g")
        research.clock.advance(60)
    operation = research.aws.perform(Resize(POOL, 3), "g")
    assert research.after(60, operation).state == "done"
    assert len(research.pool.updates) == 1


def test_an_update_that_fails_says_why(research: Research):
    research.emulator.eks.spoil("NodeCreationFailure", "Instances failed to join the kubernetes cluster")
    operation = research.after(20, research.aws.perform(Resize(POOL, 3), "g"))
    assert operation.state == "failed"
    assert "failed: NodeCreationFailure: Instances failed to join" in (operation.error or "")
    assert len(research.nodes()) == 2


def test_a_shortage_is_told_by_its_class_and_the_size_can_be_given_back(research: Research):
    research.emulator.exhaust("m7i.*")
    operation = research.after(30, research.aws.perform(Resize(POOL, 3), "g"))
    assert operation.state == "failed"
    assert (operation.error or "").startswith("NoCapacity: We currently do not have sufficient m7i.2xlarge capacity")
    assert research.aws.describe(POOL).state == "pending"
    operation = research.aws.perform(Resize(POOL, 2), "back")
    assert research.after(30, operation).state == "done"
    assert research.aws.describe(POOL).state == "running"


def test_an_issue_that_was_there_before_does_not_fail_the_next_growth(research: Research):
    research.pool.issues["InsufficientFreeAddresses"] = "subnet-1 has no free addresses"
    operation = research.after(25, research.aws.perform(Resize(POOL, 3), "g"))
    assert operation.state == "running"  # the update is through, the node boots
    assert research.after(60, operation).state == "done"


def test_a_new_issue_fails_a_growth(research: Research):
    operation = research.aws.perform(Resize(POOL, 3), "g")
    research.clock.advance(21)
    research.pool.issues["InsufficientFreeAddresses"] = "subnet-1 has no free addresses"
    operation = research.aws.poll(operation)
    assert (operation.state, operation.error) == (
        "failed", "NoCapacity: InsufficientFreeAddresses: subnet-1 has no free addresses",
    )  # fmt: skip


def test_what_only_a_person_can_mend_refuses_growth_beforehand(research: Research):
    here = research.aws.describe(POOL)
    assert research.aws.route(here, THREE) == Grow(3)
    for code, kind in (("Ec2LaunchTemplateNotFound", Incompatible), ("AccessDenied", NotPermitted)):
        research.pool.issues = {code: "a text"}
        with pytest.raises(kind, match=f"is DEGRADED: {code}: a text"):
            research.aws.route(here, THREE)
    research.pool.issues, research.pool.status = {}, "DELETING"
    with pytest.raises(Incompatible, match="is DELETING"):
        research.aws.route(here, THREE)


def test_nodes_are_emptied_before_they_are_ended(research: Research):
    keep, victim = research.nodes()
    research.cluster.run("train-1", victim, owner="Job")
    call = Remove(POOL, (victim,))
    with pytest.raises(Busy, match=r"1 pods have still to leave .*default/train-1: it was asked to leave"):
        research.aws.perform(call, "r")
    assert research.mutations() == []
    (leaving,) = (node for node in research.aws.describe(POOL).nodes if node.leaving)
    assert (leaving.id, research.cluster.nodes[victim].annotations) == (victim, {MARK: "r"})
    research.clock.advance(30)
    operation = research.aws.perform(call, "r")
    assert research.mutations() == ["TerminateInstanceInAutoScalingGroup"]
    assert research.after(60, operation).state == "done"
    assert research.nodes() == [keep]
    assert research.cluster.on(keep) == ["train-1-again"]


def test_a_removal_can_be_taken_back(research: Research):
    keep, victim = research.nodes()
    research.cluster.nodes[keep].unschedulable = True  # by a person
    research.cluster.run("web-1", victim)
    research.cluster.budgets["web"] = 1
    with pytest.raises(Busy, match="violate the pod's disruption budget"):
        research.aws.perform(Remove(POOL, (keep, victim)), "r")
    operation = research.aws.perform(Keep(POOL, (keep, victim)), "k")
    assert research.aws.poll(operation).state == "done"
    assert [node.leaving for node in research.aws.describe(POOL).nodes] == [False, False]
    assert [node.unschedulable for node in research.cluster.nodes.values()] == [True, False]
    assert research.cluster.on(victim) == ["web-1"]


def test_without_a_kubeconfig_nodes_are_ended_and_the_cluster_is_never_asked(research: Research):
    keep, victim = (node.id for node in research.bare.describe(POOL).nodes)
    operation = research.bare.perform(Remove(POOL, (victim,)), "r")
    assert research.mutations() == ["TerminateInstanceInAutoScalingGroup"]
    research.clock.advance(60)
    assert research.bare.poll(operation).state == "done"
    assert [node.id for node in research.bare.describe(POOL).nodes] == [keep]
    assert research.cluster.calls == []


def test_a_group_of_a_node_group_is_no_target_of_its_own(research: Research):
    group = Target("aws", "group", research.pool.group, "us-east-1")
    with pytest.raises(Incompatible, match="belongs to an EKS node group - name the pool research/gpus"):
        research.aws.route(research.aws.describe(group), with_nodes(SMALL, 3))
    assert [one.target for one in research.aws.labelled("scaleahead", "managed")] == [POOL]
    assert research.aws.labelled("scaleahead", "other") == []


def test_one_that_is_being_made_is_not_there_yet_and_a_bad_id_is_refused(research: Research):
    research.pool.status = "CREATING"
    with pytest.raises(Unavailable, match="is CREATING, of 0 groups"):
        research.aws.describe(POOL)
    with pytest.raises(Invalid, match="its cluster's name, a slash and its own, not 'gpus'"):
        research.aws.describe(Target("aws", "pool", "gpus", "us-east-1"))


def test_a_size_below_the_nodes_is_refused_unsent(research: Research):
    with pytest.raises(WrongState, match="has 2 nodes - name those to be removed"):
        research.aws.perform(Resize(POOL, 1), "r")
    assert research.mutations() == []


def test_a_spot_node_group_is_priced_on_the_spot_market(research: Research):
    research.pool.spot = True
    assert research.aws.describe(POOL).offer.id == "aws/us-east-1a/2x m7i.2xlarge@spot"


def test_every_issue_that_eks_documents_has_a_class():
    documented = session.get_session().get_service_model("eks").shape_for("NodegroupIssueCode").enum
    assert {code for codes in KINDS.values() for code in codes} == set(documented)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("We currently do not have sufficient p4d.24xlarge capacity in the Availability Zone you requested.",
         "NoCapacity"),
        ("Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity.", "NoCapacity"),
        ("You have requested more vCPU capacity than your current vCPU limit of 0 allows.", "QuotaExceeded"),
        ("Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded.",
         "QuotaExceeded"),
        ("The image id '[ami-1]' does not exist. Launching EC2 instance failed.", None),
    ],
)  # fmt: skip
def test_a_failed_launch_is_told_by_its_class(message: str, kind: str | None):
    assert classed(message) == (f"{kind}: {message}" if kind else message)
