"""Managed groups of a zone and of a region: named victims, last attempts, and what people do by hand."""

from dataclasses import replace

import pytest

from providers.catalog import with_nodes
from providers.errors import Incompatible, NotFound
from providers.types import Grow, Remove, Resize, Target
from tests.emulators.gce import Fault
from tests.providers.gcp.conftest import ZONE, Project

WIDE, NARROW = Target("gcp", "group", "wide", "us-central1"), Target("gcp", "group", "narrow", ZONE)
ZONES = (ZONE, "us-central1-b", "us-central1-c")


@pytest.fixture(autouse=True)
def groups(project: Project) -> None:
    project.emulator.group("wide", "us-central1", "trainer", 3, ZONES)
    project.emulator.group("narrow", ZONE, "trainer", 2)


def members(project: Project, target: Target) -> list[str]:
    return [node.id for node in project.gcp.describe(target).nodes]


def test_a_regional_group_grows_and_shrinks_by_named_nodes(project: Project):
    here = project.gcp.describe(WIDE)
    assert (here.offer.id, here.state, here.offer.zone) == ("gcp/us-central1/3x n1-standard-8", "running", None)
    four = with_nodes(here.offer, 4)
    assert project.gcp.route(here, four) == Grow(4)
    operation = project.gcp.perform(Resize(WIDE, 4), "g")
    assert project.gcp.poll(operation).state == "running"
    project.wait()
    assert project.gcp.poll(operation).state == "done"
    keep = members(project, WIDE)
    victims = (keep.pop(3), keep.pop(1))
    operation = project.gcp.perform(Remove(WIDE, victims), "r")
    project.wait()
    assert project.gcp.poll(operation).state == "done"
    assert members(project, WIDE) == keep
    assert project.gcp.describe(WIDE).offer.nodes == 2
    assert project.methods() == ["resize", "deleteInstances"]
    named = {one.target.id: one.target.place for one in project.gcp.labelled("goog", None)}
    assert named == {}


@pytest.mark.parametrize("target", [WIDE, NARROW])
def test_a_lost_answer_of_a_removal_is_repeated_with_its_request_id_and_lowers_the_size_once(
    project: Project, target: Target
):
    before = members(project, target)
    project.emulator.fault(Fault("deleteInstances", "", after=True))
    call = Remove(target, (before[0],))
    with pytest.raises(Exception, match="describe before repeating"):
        project.gcp.perform(call, "r")
    assert project.gcp.perform(call, "r").state == "done"  # it is on its way out already
    project.wait()
    assert members(project, target) == before[1:]
    assert project.gcp.describe(target).offer.nodes == len(before) - 1


def test_a_group_is_what_its_nodes_are_until_its_update_is_finished(project: Project):
    """A person gave it a new template: what it makes next is another machine than those that it has."""
    project.emulator.template("larger", "n1-standard-16")
    group = project.emulator.groups[ZONE, "narrow"]
    group["instanceTemplate"] = group["instanceTemplate"].replace("trainer", "larger")
    here = project.gcp.describe(NARROW)
    assert here.offer.machine_type == "n1-standard-8"
    for offer in project.gcp.offers(NARROW):
        with pytest.raises(Incompatible, match=r"has nodes of another template|stay so"):
            project.gcp.route(here, with_nodes(offer, 3))


def test_a_node_deleted_by_hand_is_made_again_and_a_group_deleted_by_hand_is_gone(project: Project):
    lost, kept = members(project, NARROW)
    project.emulator.vanish(ZONE, lost)
    here = project.gcp.describe(NARROW)
    assert (here.state, here.offer.nodes) == ("pending", 2)
    project.wait()
    assert project.gcp.describe(NARROW).state == "running"
    del project.emulator.groups[ZONE, "narrow"]
    with pytest.raises(NotFound):
        project.gcp.describe(NARROW)
    with pytest.raises(NotFound):
        project.gcp.perform(Remove(NARROW, (kept,)), "r")


def test_a_regional_operation_is_asked_for_in_its_region(project: Project):
    operation = project.gcp.perform(Resize(WIDE, 4), "g")
    project.emulator.calls.clear()
    project.gcp.poll(operation)
    assert "operations/get" in [call.method for call in project.emulator.calls if call.outcome == "ok"]
    assert replace(operation, id=operation.id.replace("us-central1", ZONE)) != operation
