"""The traps of EC2 that the contract suite does not know of."""

from dataclasses import replace

import pytest

from providers.aws.rules import TOKEN_TAG
from providers.errors import Incompatible, NoCapacity, NotFound, NotPermitted, Throttled, Unavailable
from providers.types import InPlace, Launch, Modify, Offer, Replace, Same, Start, Stop, Terminate
from tests.emulators.aws import Fault
from tests.providers.aws.conftest import ARM, LARGE, RECIPE, SMALL, Account, offer


def test_offers_of_the_region_stand_for_the_zone_and_only_of_this_architecture(account: Account):
    here = account.aws.describe(account.vm)
    assert here.offer.id == "aws/us-east-1a/m7i.2xlarge"
    assert here.offer.price == SMALL.price
    found = {one.id for one in account.aws.offers(account.vm)}
    assert found == {"aws/us-east-1a/m7i.2xlarge", "aws/us-east-1a/m7i.4xlarge"}
    assert account.aws.route(here, here.offer) == Same()
    assert account.aws.route(here, replace(LARGE, zone="us-east-1a")) == InPlace(("machine_type",))
    assert account.aws.route(here, LARGE) == InPlace(("machine_type",))


@pytest.mark.fault("C9")
def test_an_image_that_cannot_run_there_is_refused_before_anything_stops(account: Account):
    with pytest.raises(Incompatible, match=r"the image is x86_64 and m7g\.2xlarge runs arm64"):
        account.aws.route(account.aws.describe(account.vm), ARM)
    with pytest.raises(Incompatible, match=r"us-east-1 has no instance type m9z\.huge"):
        account.aws.route(account.aws.describe(account.vm), offer("m9z.huge", 1.0, 8, 32))
    assert account.actions() == []


def test_a_type_that_is_not_on_sale_in_the_zone_is_refused(account: Account):
    elsewhere = offer("p4d.24xlarge", 32.0, 96, 1152)
    with pytest.raises(Incompatible, match="not on sale in us-east-1f"):
        account.aws.route(account.aws.describe(account.vm), replace(elsewhere, zone="us-east-1f"))


@pytest.mark.parametrize(
    ("to", "why"),
    [
        (replace(LARGE, zone="us-east-1b"), "cannot move to us-east-1b"),
        (replace(LARGE, buying="spot"), "a spot instance is bought anew"),
        (offer("p4d.24xlarge", 32.0, 96, 1152), "EC2 does not change p4d instances"),
    ],
)
def test_what_cannot_be_in_place_needs_a_new_machine(account: Account, to: Offer, why: str):
    route = account.aws.route(account.aws.describe(account.vm), to)
    assert isinstance(route, Replace)
    assert why in route.reason


@pytest.mark.parametrize(("tagged", "kind"), [("true", InPlace), ("", Replace)])
def test_what_lies_on_a_machines_own_disks_is_lost_only_where_its_owner_lets_it(
    account: Account, tagged: str, kind: type
):
    ec2, gpu = account.emulator.client("ec2"), offer("g5.2xlarge", 1.2, 8, 32)
    made = ec2.run_instances(LaunchTemplate={"LaunchTemplateName": "trainer"}, InstanceType="g4dn.xlarge", MinCount=1,
                             MaxCount=1)["Instances"][0]["InstanceId"]  # fmt: skip
    ec2.create_tags(Resources=[made], Tags=[{"Key": "scaleahead:scratch", "Value": tagged}])
    account.wait()
    route = account.aws.route(account.aws.describe(replace(account.vm, id=made)), replace(gpu, zone="us-east-1a"))
    assert isinstance(route, kind)
    assert tagged or "tag it scaleahead:scratch=true" in getattr(route, "reason", "")


def test_a_member_of_a_group_is_never_stopped(account: Account):
    account.emulator.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName="g", MinSize=1, MaxSize=2, DesiredCapacity=1, AvailabilityZones=["us-east-1a"],
        LaunchTemplate={"LaunchTemplateName": "trainer"},
    )  # fmt: skip
    account.wait()
    (node,) = account.aws.describe(replace(account.vm, kind="group", id="g")).nodes
    member = replace(account.vm, id=node.id)
    route = account.aws.route(account.aws.describe(member), LARGE)
    assert isinstance(route, Replace)
    assert "belongs to the group g" in route.reason


def test_a_spot_machine_is_launched_once_only_and_cannot_be_stopped(account: Account):
    spot = replace(LARGE, zone="us-east-1a", buying="spot")
    made = account.aws.perform(Launch(RECIPE, spot, "next"), "t").made
    assert made is not None
    account.wait()
    found = account.aws.describe(made)
    assert (found.offer.buying, found.state) == ("spot", "running")
    call = next(call for call in account.emulator.calls if call.action == "RunInstances")
    assert call.parameters["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"
    assert call.parameters["ClientToken"] == "t"
    with pytest.raises(Incompatible, match="one-time"):
        account.aws.perform(Stop(made), "s")


def test_a_spot_notice_is_told_until_the_machine_is_taken_back(account: Account):
    made = account.aws.perform(Launch(RECIPE, replace(LARGE, zone="us-east-1a", buying="spot"), "next"), "t").made
    assert made is not None
    account.wait()
    assert account.aws.describe(made).notices == ()
    at = account.clock.now()
    account.emulator.interrupt(made.id)
    account.wait(60)
    (notice,) = account.aws.describe(made).notices
    assert (notice.kind, notice.at) == ("spot_reclaim", at)
    assert "marked for termination" in notice.detail
    account.wait(61)
    assert account.aws.describe(made).state == "stopping"
    account.wait()
    assert account.aws.describe(made).state == "terminated"
    assert account.aws.describe(made).notices == ()


def test_a_boot_that_comes_to_nothing_is_a_failed_operation_with_its_reason(account: Account):
    account.aws.perform(Stop(account.vm), "s")
    account.wait()
    account.emulator.exhaust("m7i.*", late=True)
    started = account.aws.perform(Start(account.vm), "t")
    assert account.aws.poll(started).state == "running"
    account.wait()
    over = account.aws.poll(started)
    assert over.state == "failed"
    assert "InsufficientInstanceCapacity" in (over.error or "")
    launched = account.aws.perform(Launch(RECIPE, LARGE, "next"), "l")
    account.wait()
    assert account.aws.poll(launched).state == "failed"


@pytest.mark.fault("C6")
def test_a_launch_that_is_not_shown_yet_is_still_under_way(account: Account):
    account.emulator._visible = account.emulator._boot * 4
    launched = account.aws.perform(Launch(RECIPE, LARGE, "next"), "l")
    assert launched.made is not None
    with pytest.raises(NotFound):
        account.aws.describe(launched.made)
    assert account.aws.poll(launched).state == "running"
    account.wait()
    assert account.aws.poll(launched).state == "done"


def test_a_lack_of_capacity_is_told_at_once_and_never_retried(account: Account):
    """EC2 tells it as a server error, which the SDK would otherwise repeat blindly."""
    account.aws.perform(Stop(account.vm), "s")
    account.wait()
    account.emulator.exhaust("m7i.*")
    with pytest.raises(NoCapacity):
        account.aws.perform(Start(account.vm), "t")
    assert account.actions().count("StartInstances") == 1


def test_what_is_deleted_already_is_done(account: Account):
    gone = replace(account.vm, id="i-0123456789abcdef0")
    assert account.aws.perform(Terminate(gone), "x").state == "done"
    assert account.actions() == []


def test_only_the_machine_type_is_ever_modified(account: Account):
    account.aws.perform(Stop(account.vm), "s")
    account.wait()
    account.aws.perform(Modify(account.vm, LARGE, "machine_type"), "m")
    (call,) = (call for call in account.emulator.calls if call.action == "ModifyInstanceAttribute")
    sent = set(call.parameters) - {"Action", "Version"}
    assert sent == {"InstanceId", "InstanceType.Value"}


def test_a_throttled_api_is_left_alone_for_a_while_each_time_longer(account: Account):
    account.emulator.fault(Fault("StopInstances", "RequestLimitExceeded", 503, times=2))
    for seconds in (2.5, 3.0):
        with pytest.raises(Throttled):
            account.aws.perform(Stop(account.vm), "s")
        with pytest.raises(Throttled, match="is closed"):
            account.aws.perform(Stop(account.vm), "s")
        account.wait(seconds)
    with pytest.raises(Throttled, match="is closed for 1 s more"):
        account.aws.perform(Stop(account.vm), "s")
    assert account.actions().count("StopInstances") == 2
    account.wait(4)
    account.aws.perform(Stop(account.vm), "s")
    assert account.aws.describe(account.vm).state == "stopping"


def test_the_token_stays_on_the_machine_and_is_no_label(account: Account):
    account.aws.perform(Stop(account.vm), "s")
    tags = account.emulator.client("ec2").describe_tags()["Tags"]
    assert (TOKEN_TAG + "stop", "s") in {(tag["Key"], tag["Value"]) for tag in tags}


def test_without_leave_to_tag_a_stop_is_still_a_stop(account: Account):
    account.emulator.fault(Fault("CreateTags", "UnauthorizedOperation", 403, times=9))
    assert account.aws.perform(Stop(account.vm), "s").state == "running"
    account.wait()
    assert account.aws.describe(account.vm).state == "stopped"


def test_a_refusal_names_what_is_missing(account: Account):
    account.emulator.fault(Fault("StopInstances", "UnauthorizedOperation", 403, message="You are not authorized"))
    with pytest.raises(NotPermitted, match="stop_instances: UnauthorizedOperation: You are not authorized - grant it"):
        account.aws.perform(Stop(account.vm), "s")


@pytest.mark.fault("C21")
def test_a_list_that_goes_round_is_no_list(account: Account):
    class Round:
        def describe(self, **_: object) -> dict[str, object]:
            return {"Things": [1], "NextToken": "again"}

    client = account.aws._vms._client
    client._made["round", False] = Round()
    with pytest.raises(Unavailable, match="last page"):
        list(client.pages("round", "describe", "Things"))
