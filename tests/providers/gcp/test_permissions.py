"""What the credentials lack, or have needlessly, is named beforehand, and asking changes nothing."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from providers.base import Subject
from providers.errors import NotPermitted, ProviderError, Unavailable
from providers.gcp import check
from providers.gcp.permissions import CHANGES, DANGEROUS, LAUNCHES
from providers.types import LaunchRecipe, Target
from tests.emulators.gce import Fault
from tests.providers.gcp.conftest import ZONE, Project

IAM = Path(__file__).parents[3] / "deploy" / "iam" / "gcp"
POOL = Target("gcp", "pool", "research/gpus", ZONE)
GROUP = Target("gcp", "group", "nodes", ZONE)


def asked(project: Project, changed: bool = True, recipe: bool = True) -> list[str]:
    return project.gcp.lacking([Subject(project.vm, LaunchRecipe("trainer") if recipe else None, changed)])


def role(name: str) -> set[str]:
    return set(YAML(typ="safe").load((IAM / f"{name}.yaml").read_text())["includedPermissions"])


def test_nothing_is_lacking_and_nothing_was_done(project: Project):
    assert (asked(project), project.gcp.excess()) == ([], [])
    assert project.methods() == []
    assert "projects/testIamPermissions" in [call.method for call in project.emulator.calls]


@pytest.mark.parametrize(
    ("denied", "named"),
    [
        ("compute.instances.stop", ["compute.instances.stop on vm-1"]),
        ("compute.instances.create", ["compute.instances.create on test-project"]),
        ("compute.disks.*", ["compute.disks.create on test-project"]),
        ("compute.instances.set*", [
            "compute.instances.setLabels on test-project", "compute.instances.setMachineType on vm-1",
            "compute.instances.setScheduling on vm-1", "compute.instances.setMachineResources on vm-1",
        ]),
    ],
)  # fmt: skip
def test_what_is_lacking_is_named_with_what_for(project: Project, denied: str, named: list[str]):
    project.emulator.denied.append(denied)
    assert asked(project) == named


def test_a_permission_on_the_instance_alone_is_enough(project: Project):
    project.emulator.denied.append("compute.instances.st*")
    project.emulator.granted["vm-1"] = ("compute.instances.stop",)
    assert asked(project) == ["compute.instances.start on vm-1"]


def test_only_what_is_needed_is_asked_for(project: Project):
    project.emulator.denied += ["compute.instances.stop", "compute.instances.create", "container.*"]
    assert asked(project, changed=False) == []
    assert asked(project, recipe=False) == ["compute.instances.stop on vm-1"]
    pools = [Subject(POOL, None, True), Subject(GROUP, None, True)]
    assert project.gcp.lacking(pools) == ["container.clusters.update on research/gpus"]


def test_reads_are_made_and_those_of_gke_only_for_a_pool(project: Project):
    def deny() -> None:
        project.emulator.fault(Fault("clusters/list", "PERMISSION_DENIED", 403))
        project.emulator.fault(Fault("regions/get", "forbidden", 403))

    deny()
    assert asked(project) == ["compute.regions.get"]
    deny()
    found = project.gcp.lacking([Subject(POOL)])
    assert found == ["compute.regions.get", "container.clusters.list"]


def test_what_is_too_much_is_named(project: Project):
    project.emulator.denied.remove("compute.instances.set[MS]e*")
    assert project.gcp.excess() == ["compute.instances.setMetadata", "compute.instances.setServiceAccount"]


def test_where_the_project_cannot_be_asked_the_instance_is(project: Project):
    project.emulator.denied += ["compute.instances.stop", "compute.disks.*"]
    off = Fault("projects/testIamPermissions", "PERMISSION_DENIED", 403, message="SERVICE_DISABLED: not used before")
    project.emulator.fault(off)
    assert asked(project) == ["compute.instances.stop on vm-1"]
    project.emulator.fault(off)
    assert project.gcp.excess() == []


@pytest.mark.parametrize(("reason", "kind"), [("UNAUTHENTICATED", NotPermitted), ("UNAVAILABLE", Unavailable)])
def test_credentials_that_are_no_good_and_a_cloud_that_cannot_tell_are_told_as_such(
    project: Project, reason: str, kind: type[ProviderError]
):
    project.emulator.fault(Fault("projects/testIamPermissions", reason, 503))
    with pytest.raises(kind):
        asked(project)


def test_the_shipped_roles_hold_just_what_is_asked_about():
    reads = {permission for permission, *_ in check.READS}
    changes = {name for names in CHANGES.values() for name in names}
    assert role("in-place") == reads | changes
    assert role("replace") == reads | changes | set(LAUNCHES)
    assert not role("replace") & set(DANGEROUS)
