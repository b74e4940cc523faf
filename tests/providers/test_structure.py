"""Both clouds are laid out alike, and what lies above them knows neither."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLOUDS = re.compile(r"(aws|amazon|ec2|eks|gcp|gce|gke|google)(\.\w+)*", re.IGNORECASE)


def test_the_folders_hold_files_of_the_same_names():
    found = [{path.name for path in (ROOT / "providers" / cloud).glob("*.py")} for cloud in ("aws", "gcp")]
    assert found[0] == found[1]
    assert {"provider.py", "vm.py", "group.py", "pool.py", "prices.py", "permissions.py", "errors.py"} <= found[0]


@pytest.mark.parametrize("package", ["daemon", "policies"])
def test_no_code_above_knows_a_cloud_by_name(package: str):
    """Neither as a word to compare with nor as an identifier. Prose may: where figures and addresses are from."""
    named = []
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            words = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module", "value")]
            if any(isinstance(word, str) and CLOUDS.fullmatch(word.removeprefix("providers.")) for word in words):
                named.append(f"{path.name}: {ast.unparse(node)[:80]}")
    assert named == []
