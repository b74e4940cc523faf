"""The document on writing a policy: its code runs, its file is good, and it does what the text says."""

import re
from pathlib import Path
from typing import Any

import pytest

from policies.base import Policy
from policies.config import load, policy_of
from policies.guards import decide
from policies.kinds import Kinds
from tests.policies.situations import better, option, situation, stay

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "own-policy.md").read_text("utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def kinds() -> Kinds:
    space: dict[str, Any] = {"__name__": "my_policies"}
    exec(compile(block("python"), "own-policy.md", "exec"), space)
    named = re.search(r'^(\w+) = "my_policies:(\w+)"', block("toml"), re.MULTILINE)
    assert named is not None
    return {named[1]: lambda: space[named[2]]}


def test_the_class_is_twenty_lines(kinds: Kinds):
    code = block("python")
    assert len(code[code.index("class Settled:") :].splitlines()) + 3 <= 20


def test_it_stays_for_a_small_saving_and_moves_for_a_large_one(kinds: Kinds):
    (rules,), problems = load(block("yaml"), "policies.yaml", kinds)
    assert problems == ()
    chosen: Policy = policy_of(rules.kind, kinds)
    little = decide(chosen, situation(stay(), better(), settings=rules))
    assert little.option.stays
    assert little.reason == "no change, because nothing saves 30% of the $10.00 left"
    much = decide(chosen, situation(stay(), option(better().offer, 5.0, 5.0), settings=rules))
    assert not much.option.stays


def test_its_option_is_checked_like_all_others(kinds: Kinds):
    _, problems = load(block("yaml").replace("0.3", "3"), "policies.yaml", kinds)
    assert str(problems[0]).startswith("policies.yaml:5:19: least_saving: 3 must be less than or equal to 1")


def test_the_reference_names_every_kind_its_keys_and_every_key():
    from policies.kinds import installed
    from policies.schema import ModeModel, PolicyModel, PricesModel

    text = (Path(__file__).parents[2] / "docs" / "reference" / "policies.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", text, re.MULTILINE))
    assert set(installed()) <= set(rows)
    for name in installed():
        options = getattr(policy_of(name, installed()), "options", None)
        for key in options.model_fields if options else ():
            assert f"`{key}" in rows[name], f"{name}: {key}"
    assert set(PolicyModel.model_fields) <= set(rows)
    for model, row in ((ModeModel, rows["mode"]), (PricesModel, rows["prices"])):
        assert all(f"`{key}`" in row for key in model.model_fields)
