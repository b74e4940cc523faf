"""The Kubernetes base: every object is of its schema, and the pods are run as the image wants and no stronger."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from daemon import config as configuration
from policies.config import load
from tests.deploy import dockerfile

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
VERSIONS = ("1.29", "1.33")
"""The oldest release that the base is for, and a newer one."""
LABELS = {"app.kubernetes.io/name": "scaleahead"}


def read(path: Path) -> list[dict[str, Any]]:
    return [one for one in YAML(typ="safe").load_all(path.read_text()) if one]


def kustomization() -> dict[str, Any]:
    (found,) = read(FOLDER / "kustomization.yaml")
    return found


def rendered() -> list[dict[str, Any]]:
    """Put the objects together as kustomize does, for the fields that the base uses, without suffixes of names."""
    told = kustomization()
    assert set(told) == {"apiVersion", "kind", "namespace", "resources", "images", "configMapGenerator"}
    objects = [one for name in told["resources"] for one in read(FOLDER / name)]
    for asked in told["configMapGenerator"]:
        data = {Path(name).name: (FOLDER / name).read_text() for name in asked["files"]}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": asked["name"]}, "data": data})
    for one in objects:
        if one["kind"] != "Namespace":
            one["metadata"]["namespace"] = told["namespace"]
    return objects


def only(kind: str) -> dict[str, Any]:
    (found,) = (one for one in rendered() if one["kind"] == kind)
    return found


def pod() -> dict[str, Any]:
    found: dict[str, Any] = only("Deployment")["spec"]["template"]["spec"]
    return found


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    return dict(found)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_of_its_schema(version: str) -> None:
    kinds = {one["kind"] for one in rendered()}
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "ConfigMap"} <= kinds
    for one in rendered():
        kubernetes_validate.validate(one, version, strict=True)


def test_the_schemas_refuse_what_is_wrong() -> None:
    wrong = only("PodDisruptionBudget")
    wrong["spec"]["minAvailabel"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_nothing_in_the_folder_is_left_out_and_kustomize_makes_the_same_of_it() -> None:
    named = {*kustomization()["resources"], "kustomization.yaml"}
    named |= {name for asked in kustomization()["configMapGenerator"] for name in asked["files"]}
    assert named == {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    if shutil.which("kubectl") is None:
        return  # the rest of this file stands on the plain rendering above
    ran = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=60, check=True)
    made = [one for one in YAML(typ="safe").load_all(ran.stdout) if one]
    assert sorted(one["kind"] for one in made) == sorted(one["kind"] for one in rendered())
    for one in made:
        kubernetes_validate.validate(one, VERSIONS[0], strict=True)


def test_two_replicas_are_kept_apart_and_never_all_taken_away() -> None:
    deployment = only("Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["type"] == "Recreate"
    assert only("PodDisruptionBudget")["spec"]["minAvailable"] == 1
    selectors = [
        deployment["selector"]["matchLabels"], deployment["template"]["metadata"]["labels"],
        only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], only("Service")["spec"]["selector"],
        only("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        pod()["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]  # fmt: skip
    assert selectors == [LABELS] * 6


def test_it_is_held_to_the_restricted_standard() -> None:
    assert only("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert only("Namespace")["metadata"]["name"] == kustomization()["namespace"]
    may = pod()["securityContext"]
    user, _, group = dict(dockerfile.last_stage())["USER"].partition(":")
    assert (may["runAsNonRoot"], may["runAsUser"], may["runAsGroup"]) == (True, int(user), int(group))
    assert may["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod()["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod())
    allowed = {"configMap", "secret", "emptyDir"}
    assert {key for volume in pod()["volumes"] for key in volume if key != "name"} == allowed


def test_its_command_settings_and_mounts_are_the_images() -> None:
    entry, *words = dockerfile.command()
    assert (entry, words) == ("scaleahead", container()["args"])
    given = {one["name"]: "postgresql://scaleahead@db/scaleahead" for one in container()["env"]}
    assert set(given) <= {f"SCALEAHEAD_{name.upper()}" for name in configuration.Config.model_fields}
    told = configuration.read(str(FOLDER / "config.yaml"), {**dockerfile.environment(), **given})
    mounts = [one["mountPath"] for one in container()["volumeMounts"]]
    assert told.tls is not None
    for path in (told.tls.certificate, told.tls.key, *told.policies):
        assert str(Path(path).parent) in mounts
    assert words[-1] in mounts
    assert str(told.directory) in mounts
    assert {one["name"] for one in container()["volumeMounts"]} == {one["name"] for one in pod()["volumes"]}
    assert container()["ports"] == [{"name": "https", "containerPort": told.port}]
    assert only("Service")["spec"]["ports"][0]["port"] == told.port
    (image,) = kustomization()["images"]
    assert image["name"] == container()["image"]


def test_configuration_and_policy_are_those_of_compose() -> None:
    for name in ("config.yaml", "policies/policies.yaml"):
        assert (FOLDER / name).read_bytes() == (FOLDER.parent / "compose" / name).read_bytes()
    _, problems = load((FOLDER / "policies/policies.yaml").read_bytes(), "policies.yaml")
    assert problems == ()


def test_the_probes_ask_routes_that_need_no_token() -> None:
    from api.app import OPEN

    probes = {name: container()[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["path"] for probe in probes.values()} == set(OPEN)
    assert probes["livenessProbe"]["path"] == "/healthz"
    assert {(probe["port"], probe["scheme"]) for probe in probes.values()} == {("https", "HTTPS")}


def test_the_network_lets_in_the_api_only() -> None:
    found = only("NetworkPolicy")["spec"]
    assert found["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in found["ingress"] for port in rule["ports"]] == ["https"]
    assert all(rule.get("from") for rule in found["ingress"])
    everywhere = {port["port"] for rule in found["egress"] if "to" not in rule for port in rule["ports"]}
    assert everywhere == {53, 443, 5432}
