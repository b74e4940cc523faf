"""The IAM roles for Google Cloud: every call that the provider makes is allowed by the right one."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
CALL = re.compile(r'\.(read|pages|mutate)\(\s*"([a-z_]+)",\s*"([a-z_]+)"|(?<=method, key = )"()()([a-z_]+)"')
PERMISSION = {
    "instances.get": "instances.get", "instances.aggregated_list": "instances.list",
    "machine_types.get": "machineTypes.get", "regions.get": "regions.get", "zone_operations.get": "zoneOperations.get",
    "zone_operations.list": "zoneOperations.list",
    "projects.get": "projects.get", "region_operations.get": "regionOperations.get",
    "groups.get": "instanceGroupManagers.get", "groups.aggregated_list": "instanceGroupManagers.list",
    "groups.list_managed_instances": "instanceGroupManagers.get", "templates.get": "instanceTemplates.get",
    "groups.resize": "instanceGroupManagers.update", "groups.delete_instances": "instanceGroupManagers.update",
    "instances.insert": "instances.create",
    "clusters.get_node_pool": "container.clusters.get", "clusters.list_clusters": "container.clusters.list",
    "clusters.get_operation": "container.operations.get", "clusters.set_node_pool_size": "container.clusters.update",
}  # fmt: skip
"""What Google's reference of each method says it needs, for those whose permission is not named like the method."""
ORDERED = {"stop", "start", "setMachineType", "setScheduling", "setMachineResources", "delete"}
"""The methods of instances that the provider makes by name: ``Vms._ordered``."""


def permissions(name: str) -> set[str]:
    with (ROOT / "deploy" / "iam" / "gcp" / f"{name}.yaml").open() as file:
        return set(YAML(typ="safe").load(file)["includedPermissions"])


def made() -> tuple[set[str], set[str]]:
    """Read from the provider's source which permissions its calls need: to read, and to change."""
    reads, changes = set(), {f"compute.instances.{method}" for method in ORDERED}
    for path in (ROOT / "providers" / "gcp").glob("*.py"):
        for how, resource, method, *_ in CALL.findall(path.read_text()):
            if how:
                if method == "test_iam_permissions" or resource == "billing":
                    continue  # they need none
                found = PERMISSION[f"{resource}.{method}"]
                found = found if found.startswith("container.") else f"compute.{found}"
                (changes if how == "mutate" else reads).add(found)
    return reads, changes


def test_the_methods_made_by_name_are_those_listed():
    source = (ROOT / "providers" / "gcp" / "vm.py").read_text()
    by_name = set(re.findall(r'_ordered\("[a-z]+", target, "([a-z]+)"', source))
    by_name |= set(re.findall(r'method, key = "([a-z_]+)"', source))
    assert {re.sub(r"_([a-z])", lambda m: m[1].upper(), name) for name in by_name} == ORDERED


def test_each_role_allows_just_the_calls_that_are_made():
    reads, changes = made()
    launches = {"compute.instances.create", "compute.instances.delete"}
    assert permissions("read-only") == reads
    assert permissions("in-place") == reads | changes - launches
    # A launch also needs what Google asks of whoever makes an instance: its disk, image, network and labels.
    assert permissions("replace") >= reads | changes


@pytest.mark.parametrize("name", ["read-only", "in-place", "replace"])
def test_no_role_may_touch_who_may_do_what(name: str):
    assert not [p for p in permissions(name) if "*" in p or "Iam" in p or p.startswith("iam.")]


@pytest.mark.parametrize("name", ["read-only", "in-place", "replace"])
def test_no_role_may_put_keys_or_an_identity_into_a_machine(name: str):
    assert not permissions(name) & {"compute.instances.setMetadata", "compute.instances.setServiceAccount"}
