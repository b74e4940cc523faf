"""The IAM policies for AWS: every call that the provider makes is allowed by the right one, and nothing else is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "iam" / "aws"
PREFIXES = {
    "ec2": "ec2", "autoscaling": "autoscaling", "eks": "eks", "service-quotas": "servicequotas", "pricing": "pricing",
}  # fmt: skip
CALL = re.compile(r'\.(read|pages|mutate)\(\s*"([a-z0-9-]+)",\s*"([a-z_]+)"')
REPLACES = {"ec2:RunInstances", "ec2:TerminateInstances"}


def statements(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())["Statement"]
    return found


def actions(name: str) -> set[str]:
    return {action for statement in statements(name) for action in statement["Action"]}


def made() -> tuple[set[str], set[str]]:
    """Read from the provider's source which calls it makes: those that read, and those that change."""
    reads, changes = set(), set()
    for path in (ROOT / "providers" / "aws").glob("*.py"):
        for how, service, method in CALL.findall(path.read_text()):
            action = f"{PREFIXES[service]}:{''.join(part.title() for part in method.split('_'))}"
            (changes if how == "mutate" else reads).add(action)
    return reads, changes


def test_each_policy_allows_just_the_calls_that_are_made():
    reads, changes = made()
    assert len(reads) >= 10
    assert len(changes) >= 8
    assert actions("read-only") == reads
    assert actions("in-place") == reads | changes - REPLACES
    assert actions("replace") == reads | changes


@pytest.mark.parametrize("name", ["read-only", "in-place", "replace"])
def test_no_change_is_allowed_everywhere(name: str):
    for statement in statements(name):
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in statement["Action"])
        if statement["Sid"] == "Look":
            continue
        assert statement["Resource"] != "*"
        # A launch also names what it uses: images, subnets and the like carry no tag of ours.
        if statement["Sid"] != "LaunchWithWhatIsThere":
            assert statement["Condition"]


def test_only_the_type_of_an_instance_may_be_modified():
    """User data could be modified too, and that is root on the machine."""
    (found,) = (s for s in statements("in-place") if "ec2:ModifyInstanceAttribute" in s["Action"])
    assert found["Condition"]["StringEquals"]["ec2:Attribute"] == "InstanceType"
