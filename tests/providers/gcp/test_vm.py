"""The traps of Compute Engine that the contract suite does not know of."""

import uuid
from dataclasses import replace

import pytest

from providers.errors import AnswerLost, Incompatible, Invalid, NotFound, QuotaExceeded, Throttled, WrongState
from providers.gcp.rules import malformed
from providers.types import InPlace, Launch, LaunchRecipe, Modify, Offer, Replace, Same, Start, Stop, Terminate
from tests.emulators.gce import Fault
from tests.providers.gcp.conftest import A2, N1, N1_BIG, N1_BIG_T4, N1_T4, ZONE, Project, offer


def become(project: Project, wanted: Offer) -> list[str]:
    """Stop, change what is missing in the order the provider names, start; give the order."""
    gcp, vm, fresh = project.gcp, project.vm, f"{len(project.emulator.calls)} {wanted.id}"
    gcp.perform(Stop(vm), f"stop {fresh}")
    project.wait()
    order = []
    while isinstance(way := gcp.route(gcp.describe(vm), wanted), InPlace):
        order.append(way.aspects[0])
        gcp.perform(Modify(vm, wanted, way.aspects[0]), f"{fresh} {way.aspects[0]}")
        project.wait()
    assert way == Same()
    gcp.perform(Start(vm), f"start {fresh}")
    project.wait()
    found = gcp.describe(vm)
    assert (found.offer.id, found.state) == (wanted.id, "running")
    return order


def test_gpus_go_on_after_the_scheduling_and_come_off_before_the_type(project: Project):
    """The emulator refuses any other order, and a start with GPUs that may migrate."""
    assert become(project, N1_BIG_T4) == ["machine_type", "scheduling", "accelerators"]
    assert become(project, N1_T4) == ["machine_type"]
    assert become(project, N1) == ["accelerators", "scheduling"]
    assert become(project, N1_T4) == ["scheduling", "accelerators"]


def test_the_rest_of_the_scheduling_stays_as_it_was(project: Project):
    instance = project.emulator.instances[ZONE, "vm-1"]
    instance["scheduling"]["automaticRestart"] = False
    become(project, N1_T4)
    assert instance["scheduling"] == {"onHostMaintenance": "TERMINATE", "automaticRestart": False}
    sent = [call for call in project.emulator.calls if call.method == "setScheduling"]
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("more", "to", "why"),
    [
        ({}, A2, "n1 does not become a2 in place: GPUs belong to the type"),
        ({}, offer("c4-standard-8", 8), "n1 does not become c4 in place: disks are of another kind"),
        ({}, replace(N1_BIG, zone="us-central1-b"), "cannot move to us-central1-b in place"),
        ({}, replace(N1_BIG, buying="spot"), "does not become spot in place"),
        ({"disks": [{"type": "SCRATCH"}]}, N1_BIG, "local SSDs"),
        ({"minCpuPlatform": "Intel Skylake"}, N1_BIG, "Intel Skylake"),
        (
            {"metadata": {"items": [{"key": "created-by", "value": "projects/1/zones/z/instanceGroupManagers/pool"}]}},
            N1_BIG, "belongs to the managed group pool",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_in_place_needs_a_new_machine(project: Project, more: dict[str, object], to: Offer, why: str):
    from tests.emulators import gce

    gce.TYPES.setdefault("c4-standard-8", (8, 30720))
    project.emulator.instance("vm-1", ZONE, "n1-standard-8", **more)
    route = project.gcp.route(project.gcp.describe(project.vm), to)
    assert isinstance(route, Replace)
    assert why in route.reason
    assert project.methods() == []


def test_what_can_never_be_is_refused(project: Project):
    here = project.gcp.describe(project.vm)
    with pytest.raises(Incompatible, match="another processor architecture"):
        project.gcp.route(here, offer("t2a-standard-8", 8))
    with pytest.raises(Incompatible, match="GPUs can be attached to N1 machine types only"):
        project.gcp.route(here, offer("n2-standard-8", 8, 1, "T4", 1))
    with pytest.raises(Incompatible, match="n1-standard-96 is not on sale in us-central1-a"):
        project.gcp.route(here, offer("n1-standard-96", 96))


def test_a_quota_of_gpus_is_found_before_anything_stops(project: Project):
    project.emulator.limit("NVIDIA_T4_GPUS", 0)
    with pytest.raises(QuotaExceeded, match="quota NVIDIA_T4_GPUS of us-central1 allows 0: 0 in use, 1 more"):
        project.gcp.route(project.gcp.describe(project.vm), N1_T4)
    # A machine that changes in place gives back what it uses: 16 of 16 is enough.
    project.emulator.limit("CPUS", 16)
    assert project.gcp.route(project.gcp.describe(project.vm), N1_BIG) == InPlace(("machine_type",))
    project.emulator.limit("CPUS", 15)
    with pytest.raises(QuotaExceeded, match="CPUS"):
        project.gcp.route(project.gcp.describe(project.vm), N1_BIG)


def test_an_operation_that_is_done_with_an_error_inside_has_failed(project: Project):
    project.gcp.perform(Stop(project.vm), "s")
    project.wait()
    project.emulator.exhaust("n1-*")
    started = project.gcp.perform(Start(project.vm), "t")
    project.wait()
    over = project.gcp.poll(started)
    assert over.state == "failed"
    assert (over.error or "").startswith("NoCapacity: ZONE_RESOURCE_POOL_EXHAUSTED: The zone")
    assert project.gcp.describe(project.vm).state == "stopped"


def test_a_changed_machine_is_refused_by_google_too(project: Project):
    with pytest.raises(WrongState, match="only a stopped one can be modified"):
        project.gcp.perform(Modify(project.vm, N1_BIG, "machine_type"), "m")
    with pytest.raises(Invalid, match="has no aspect 'disk'"):
        project.gcp.perform(Modify(project.vm, N1_BIG, "disk"), "m")


def test_a_spot_machine_is_launched_as_one_that_may_be_taken_and_then_is_stopped(project: Project):
    spot = replace(N1_BIG, buying="spot")
    made = project.gcp.perform(Launch(LaunchRecipe("trainer", {"job": "bert"}), spot, "next"), "l").made
    assert made is not None
    project.wait()
    found = project.gcp.describe(made)
    assert (found.offer.buying, found.state, found.labels) == ("spot", "running", {"job": "bert"})
    scheduling = project.emulator.instances[ZONE, "next"]["scheduling"]
    assert (scheduling["provisioningModel"], scheduling["instanceTerminationAction"]) == ("SPOT", "STOP")


def test_a_launch_needs_a_zone(project: Project):
    with pytest.raises(Invalid, match="names no zone"):
        project.gcp.perform(Launch(LaunchRecipe("trainer"), replace(N1, zone=None), "next"), "l")


def test_a_throttled_method_is_left_alone_for_a_while(project: Project):
    project.emulator.fault(Fault("stop", "rateLimitExceeded", 403))
    with pytest.raises(Throttled, match="rateLimitExceeded"):
        project.gcp.perform(Stop(project.vm), "s")
    with pytest.raises(Throttled, match="is closed"):
        project.gcp.perform(Stop(project.vm), "s")
    assert project.methods() == ["stop"]


def test_a_group_with_an_autoscaler_is_left_to_it(project: Project):
    project.emulator.group("pool", ZONE, "trainer", 2)
    project.emulator.groups[ZONE, "pool"]["autoscaler"] = "projects/p/zones/z/autoscalers/a"
    group = replace(project.vm, kind="group", id="pool")
    found = project.gcp.describe(group)
    with pytest.raises(Incompatible, match="has an autoscaler"):
        project.gcp.route(found, replace(found.offer, nodes=3))


def test_a_machine_of_a_type_that_no_table_has_is_described_by_what_google_says(project: Project):
    project.emulator.instance("other", ZONE, "a3-highgpu-8g")
    found = project.gcp.describe(replace(project.vm, id="other"))
    assert found.offer.price is None
    have = found.offer.resources
    assert (have.cpu_cores, have.gpus, have.gpu_model) == (208, 8, "nvidia-h100-80gb")


def test_the_quota_of_gpus_of_the_whole_project_is_found_too(project: Project):
    """A new project may have T4s in a region and none in all regions."""
    project.emulator.limit("GPUS_ALL_REGIONS", 0)
    with pytest.raises(QuotaExceeded, match="quota GPUS_ALL_REGIONS of the project allows 0: 0 in use, 1 more"):
        project.gcp.route(project.gcp.describe(project.vm), N1_T4)
    assert project.gcp.route(project.gcp.describe(project.vm), N1_BIG) == InPlace(("machine_type",))
    assert project.methods() == []


def test_a_machine_becomes_a_custom_one_and_takes_gpus_if_it_is_an_n1(project: Project):
    custom = offer("custom-8-46080", 8)
    assert become(project, custom) == ["machine_type"]
    found = project.gcp.describe(project.vm).offer
    assert (found.machine_type, found.resources.cpu_cores, found.resources.memory_gib) == ("custom-8-46080", 8, 45)
    order = become(project, replace(custom, attached_gpus=1, resources=N1_T4.resources))
    assert order == ["scheduling", "accelerators"]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("custom-7-20480", "1 or an even number of vCPUs up to 96"),
        ("custom-8-46081", "a multiple of 256 MiB"),
        ("custom-8-61440", r"0\.9 to 6\.5 GiB a vCPU, or a name ending in -ext"),
        ("n2-custom-200-204800", "1 or an even number of vCPUs up to 128"),
        ("a2-custom-12-87040", "there are no custom a2 machines"),
    ],
)
def test_a_custom_machine_that_cannot_be_is_refused_before_anything_stops(project: Project, kind: str, why: str):
    with pytest.raises(Incompatible, match=why):
        project.gcp.route(project.gcp.describe(project.vm), offer(kind, 8))
    assert malformed("custom-8-61440-ext") == ""


def test_a_reclaim_of_a_spot_machine_is_noticed_and_an_older_one_is_not(project: Project):
    scheduling = {"provisioningModel": "SPOT", "instanceTerminationAction": "STOP", "onHostMaintenance": "TERMINATE"}
    project.emulator.instance("spot-1", ZONE, "n1-standard-8", scheduling=scheduling)
    project.emulator.instance("spot-2", ZONE, "n1-standard-8", scheduling=scheduling)
    spot = replace(project.vm, id="spot-1")
    assert project.gcp.describe(spot).notices == ()
    project.emulator.preempt(ZONE, "spot-1")
    (notice,) = project.gcp.describe(spot).notices
    assert (notice.kind, notice.at, notice.detail) == ("spot_reclaim", project.clock.now(), "Instance was preempted.")
    project.wait()
    found = project.gcp.describe(spot)
    assert (found.state, len(found.notices)) == ("stopped", 1)
    done(project, Start(spot))
    done(project, Stop(spot))
    assert project.gcp.describe(spot).notices == ()  # this time we stopped it
    assert project.gcp.describe(replace(spot, id="spot-2")).notices == ()


def test_a_coming_maintenance_is_noticed(project: Project):
    project.emulator.instances[ZONE, "vm-1"]["resourceStatus"] = {
        "upcomingMaintenance": {
            "type": "SCHEDULED", "maintenanceStatus": "PENDING", "windowStartTime": "2026-11-24T02:00:00+00:00",
        }
    }  # fmt: skip
    (notice,) = project.gcp.describe(project.vm).notices
    assert (notice.kind, notice.detail) == ("maintenance", "SCHEDULED PENDING")
    assert (notice.at - project.clock.now()).total_seconds() == 16 * 3600


def test_a_machine_deleted_or_changed_by_hand_is_seen_as_it_is(project: Project):
    project.emulator.instances[ZONE, "vm-1"]["machineType"] = f"zones/{ZONE}/machineTypes/n1-standard-16"
    here = project.gcp.describe(project.vm)
    assert (here.offer.id, project.gcp.route(here, N1_BIG)) == (N1_BIG.id, Same())
    project.emulator.vanish(ZONE, "vm-1")
    for ask in (project.gcp.describe, lambda vm: project.gcp.perform(Stop(vm), "s")):
        with pytest.raises(NotFound):
            ask(project.vm)
    assert project.gcp.perform(Terminate(project.vm), "t").state == "done"


@pytest.mark.parametrize("after", [True, False])
def test_a_lost_answer_is_repeated_under_the_same_request_id(project: Project, after: bool):
    project.emulator.fault(Fault("stop", "", after=after))
    with pytest.raises(AnswerLost):
        project.gcp.perform(Stop(project.vm), "s")
    project.gcp.perform(Stop(project.vm), "s")
    sent = [call.query["requestId"] for call in project.emulator.calls if call.method == "stop"]
    assert len(sent) == 2
    assert len(set(sent)) == 1
    assert len(project.emulator.operations) == 1
    assert uuid.UUID(sent[0]).version == 5


def done(project: Project, call: Start | Stop) -> None:
    operation = project.gcp.perform(call, f"{type(call).__name__} {len(project.emulator.calls)}")
    project.wait()
    assert project.gcp.poll(operation).state == "done"
