"""Policy files: what is read, and every kind of bad file with its line and column."""

# ruff: noqa: E501 - the messages stand on one line, as they are told

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from policies.config import LARGEST_BYTES, Problem, load
from policies.cost_per_progress import CostPerProgress
from policies.fleet_budget import FleetBudget
from policies.goodput import Goodput
from policies.kinds import Kinds, installed
from policies.threshold import Threshold
from policies.types import Moves, Settings, Trust

WHOLE = """\
scaleahead: 1
policies:
  research-default:
    kind: cost_per_progress            # a built-in or an entry point of group scaleahead.policies
    value_of_time_usd_per_hour: 5
    limits:   {usd_per_hour: 40, usd_total: 900, offers: {allow: ["aws/us-east-1/*", "gcp/*"], deny: ["*/p5*"]}, gpus: {min: 1, max: 8}}
    safety:   {memory_quantile: 0.99, memory_margin: 0.08, deadline_risk: 0.05, budget_risk: 0.05}
    moves:    {max_per_hour: 2, cooldown_minutes: 10, payback_quantile: 0.2, quiet: ["Sat-Sun 00:00-24:00 Europe/Berlin"]}
    capacity: {spot: allowed, on_shortage: next_best, shortage_memory_minutes: 30}
    checkpoint: required
    mode:     {change_machine: approve, attach_gpu: approve, resize_group: auto, default: recommend}
    prices:   {discount: {"aws/*": 0.12}, override: {"gcp/us-central1/a2-highgpu-1g": 3.10}, max_age_hours: 48}
"""


class Tuned(CostPerProgress):
    class Options(BaseModel):
        eagerness: float = 1.0

    options = Options


class NoPolicy:
    pass


def _broken() -> object:
    raise ImportError("no module named torch2")


KINDS: Kinds = {
    "cost_per_progress": lambda: CostPerProgress,
    "tuned": lambda: Tuned,
    "broken": _broken,
    "no_policy": lambda: NoPolicy,
    "fleet_budget": lambda: FleetBudget,
    "goodput": lambda: Goodput,
    "threshold": lambda: Threshold,
}


def read(text: str | bytes) -> tuple[tuple[Settings, ...], tuple[Problem, ...]]:
    return load(text, "p.yaml", KINDS)


def one(body: str) -> str:
    """A file with one policy whose keys begin in line 4, column 5."""
    return "scaleahead: 1\npolicies:\n  a:\n" + "".join(f"    {line}\n" for line in body.splitlines())


def test_the_contracts_own_file_is_read():
    (found,), problems = read(WHOLE)
    assert problems == ()
    assert found.limits.deny == ("*/p5*",)
    assert (found.limits.gpus_min, found.limits.gpus_max) == (1, 8)
    assert found.moves == Moves(2, 10.0, 0.2, ("Sat-Sun 00:00-24:00 Europe/Berlin",))
    assert found.trust == Trust("recommend", "approve", "approve", "auto")
    assert found.prices.override == {"gcp/us-central1/a2-highgpu-1g": 3.10}


def test_what_is_left_out_has_the_defaults_of_the_values():
    (found,), _ = read(one("kind: cost_per_progress"))
    assert found == Settings("a", "cost_per_progress", found.version)


def test_the_version_follows_the_content_only():
    first, same, other = (read(one(body))[0][0].version for body in ("moves: {max_per_hour: 1}", "# x\nmoves:\n  max_per_hour: 1", "moves: {max_per_hour: 3}"))  # fmt: skip
    assert first == same
    assert first != other


def test_a_policy_may_have_options_of_its_own():
    (found,), problems = read(one("kind: tuned\neagerness: 2.5"))
    assert problems == ()
    assert found.extra == {"eagerness": 2.5}


BAD = [
    ("empty", "", 1, 1, 'the file is empty - begin it with "scaleahead: 1"'),
    ("a list", "- a\n", 1, 1, 'the file must be a mapping that begins with "scaleahead: 1"'),
    (
        "syntax",
        "scaleahead: 1\npolicies:\n  a: {kind: x\n",
        4,
        1,
        "not YAML: expected ',' or '}', but got '<stream end>' - close every bracket and quote, and indent alike",
    ),
    (
        "a tab",
        one("limits:\n\tusd_total: 1"),
        5,
        5,
        "not YAML: found character '\\t' that cannot start any token - indent with spaces, not with tabs",
    ),
    ("no version", "policies: {a: {}}", 1, 1, 'the key "scaleahead" is missing - begin the file with "scaleahead: 1"'),
    (
        "wrong version",
        "scaleahead: 2\npolicies: {a: {}}",
        1,
        13,
        "this version of the file is not known - write scaleahead: 1",
    ),
    (
        "true as the version",
        "scaleahead: true\npolicies: {a: {}}",
        1,
        13,
        "this version of the file is not known - write scaleahead: 1",
    ),
    (
        "no policies",
        "scaleahead: 1\npolicies: {}\n",
        2,
        11,
        "there are no policies - name at least one under policies:",
    ),
    ("unknown key on top", "scaleahead: 1\npolicy: {}\n", 2, 1, "unknown key 'policy' - did you mean 'policies'?"),
    ("unknown key", one("kindd: x"), 4, 5, "unknown key 'kindd' - did you mean 'kind'?"),
    (
        "unknown nested key",
        one("limits: {usd_totl: 3}"),
        4,
        14,
        "unknown key 'limits.usd_totl' - did you mean 'usd_total'?",
    ),
    (
        "key of another policy's options",
        one("kind: cost_per_progress\neagerness: 2"),
        5,
        5,
        "unknown key 'eagerness' - known are capacity, checkpoint, kind, limits, mode, moves, prices, safety, value_of_time_usd_per_hour",
    ),
    ("unknown option", one("kind: tuned\neagernes: 2"), 5, 5, "unknown key 'eagernes' - did you mean 'eagerness'?"),
    ("wrong option", one("kind: tuned\neagerness: fast"), 5, 16, "eagerness: 'fast' is not a number - write a number"),
    (
        "duplicate key",
        one("kind: tuned\nkind: tuned"),
        5,
        5,
        "the key 'kind' stands twice, first in line 4 - keep one of them",
    ),
    (
        "duplicate policy",
        "scaleahead: 1\npolicies:\n  a: {}\n  a: {}\n",
        4,
        3,
        "the key 'a' stands twice, first in line 3 - keep one of them",
    ),
    (
        "unknown kind",
        one("kind: cost_per_progres"),
        4,
        11,
        "no policy of kind 'cost_per_progres' is installed - did you mean 'cost_per_progress'?",
    ),
    (
        "broken plug-in",
        one("kind: broken"),
        4,
        11,
        "the policy kind 'broken' cannot be loaded - mend its package: no module named torch2",
    ),
    (
        "not a policy",
        one("kind: no_policy"),
        4,
        11,
        "the policy kind 'no_policy' is not a policy - its class needs choose() and foresees",
    ),
    (
        "no as a value",
        one("checkpoint: no"),
        4,
        17,
        "no is read as yes or no by some and as a text by others - write true, false or quote it",
    ),
    (
        "off in a list",
        one("limits: {offers: {allow: [off]}}"),
        4,
        31,
        "off is read as yes or no by some and as a text by others - write true, false or quote it",
    ),
    (
        "sexagesimal",
        one("moves: {cooldown_minutes: 1:30}"),
        4,
        31,
        "1:30 is not a number - write it in the one unit the key names, or quote it",
    ),
    (
        "a unit",
        one("limits: {usd_total: 900 USD}"),
        4,
        25,
        "limits.usd_total: '900 USD' is not a number - write 900 without a unit or quotes",
    ),
    (
        "a quoted number",
        one('limits: {usd_total: "900"}'),
        4,
        25,
        "limits.usd_total: '900' is not a number - write 900 without a unit or quotes",
    ),
    (
        "NaN",
        one("limits: {usd_total: .nan}"),
        4,
        25,
        ".nan is not a finite number - write a number, or leave the key out for no limit",
    ),
    (
        "infinity",
        one("limits: {usd_total: -.inf}"),
        4,
        25,
        "-.inf is not a finite number - write a number, or leave the key out for no limit",
    ),
    (
        "too large for a float",
        one("limits: {usd_total: 1e999}"),
        4,
        25,
        "1e999 is not a finite number - write a number, or leave the key out for no limit",
    ),
    (
        "negative",
        one("moves: {cooldown_minutes: -1}"),
        4,
        31,
        "moves.cooldown_minutes: -1 must be greater than or equal to 0 - mend the figure, or leave the key out for the default",
    ),
    (
        "a fraction of a move",
        one("moves: {max_per_hour: 1.5}"),
        4,
        27,
        "moves.max_per_hour: 1.5 is not a whole number - write a whole number",
    ),
    (
        "true as a number",
        one("moves: {max_per_hour: true}"),
        4,
        27,
        "moves.max_per_hour: True is not a whole number - write a whole number",
    ),
    (
        "min above max",
        one("limits: {gpus: {min: 4, max: 1}}"),
        4,
        20,
        "limits.gpus: min 4 is above max 1 - exchange them",
    ),
    (
        "a price of zero",
        one('prices: {override: {"aws/x/y": 0}}'),
        4,
        36,
        "prices.override.aws/x/y: 0 must be greater than 0 - mend the figure, or leave the key out for the default",
    ),
    (
        "a discount of all",
        one('prices: {discount: {"aws/*": 1.0}}'),
        4,
        34,
        "prices.discount.aws/*: 1.0 must be less than 1 - mend the figure, or leave the key out for the default",
    ),
    (
        "an empty value",
        one("limits: {usd_total: }\nkind:"),
        5,
        5,
        "kind: an empty value is not a text - write one, or leave the key out",
    ),
    (
        "a word not offered",
        one("capacity: {spot: maybe}"),
        4,
        22,
        "capacity.spot: 'maybe' must be 'allowed', 'never' or 'only' - write one of them",
    ),
    (
        "nothing allowed",
        one("limits: {offers: {allow: []}}"),
        4,
        30,
        "limits.offers.allow: [] holds nothing - fill it, or leave the key out for the default",
    ),
    (
        "a wrong quiet time",
        one("moves: {quiet: [nights]}"),
        4,
        21,
        "moves.quiet.0: 'nights' is not a quiet time - write it like \"Sat-Sun 00:00-24:00 Europe/Berlin\"",
    ),
    (
        "a list for a mapping",
        one("limits: [1]"),
        4,
        13,
        "limits: [1] is not a mapping of keys - write key: value in it",
    ),
    (
        "a wrong name",
        "scaleahead: 1\npolicies:\n  ../x: {}\n",
        3,
        9,
        "'../x' is not a name for a policy - use letters, digits, dot, dash, at most 63",
    ),
    (
        "a Python tag",
        one("kind: !!python/object/apply:os.system [ls]"),
        4,
        11,
        "the tag tag:yaml.org,2002:python/object/apply:os.system is not read - write a plain value",
    ),
    ("any other tag", one("kind: !x y"), 4, 11, "the tag !x is not read - write a plain value"),
    (
        "a bomb of anchors",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        1,
        4,
        "anchors and aliases are not read - write the value out",
    ),
    ("a merge key", one("<<: {kind: tuned}"), 4, 5, "merge keys are not read - write the values out"),
    ("a second document", one("kind: tuned") + "---\na: 1\n", 5, 1, "a second document - keep one document in a file"),
    ("deep brackets", "a: " + "[" * 100_000, 1, 100, "nested too deeply - a policy needs no more than five levels"),
    (
        "deep blocks",
        "\n".join(" " * depth + "a:" for depth in range(500)),
        13,
        13,
        "nested too deeply - a policy needs no more than five levels",
    ),
    ("deep lists", "- " * 100_000, 1, 27, "nested too deeply - a policy needs no more than five levels"),
    ("50 MB", "x" * 50_000_000, 1, 1, "the file is larger than 256 KiB - split it into several files"),
    ("a mapping as a key", one("? {a: b}\n: c"), 4, 7, "a key must be a plain word - write key: value"),
    (
        "a pattern that matches nothing",
        one("limits: {offers: {deny: [g5.xlarge]}}"),
        4,
        30,
        'limits.offers.deny.0: \'g5.xlarge\' can match no offer - write it like "aws/us-east-1/*" or "*/g5.xlarge"',
    ),
    (
        "an open bracket in a pattern",
        one('limits: {offers: {deny: ["aws/[g*"]}}'),
        4,
        30,
        "limits.offers.deny.0: 'aws/[g*' opens a bracket that nothing closes - write [[] for the character itself",
    ),
    (
        "absurdly large",
        one("limits: {usd_per_hour: 1e12}"),
        4,
        28,
        "limits.usd_per_hour: 1000000000000.0 must be less than or equal to 1000000000 - mend the figure, or leave the key out for the default",
    ),
    (
        "a price below zero",
        one('prices: {override: {"aws/x/y": -3.1}}'),
        4,
        36,
        "prices.override.aws/x/y: -3.1 must be greater than 0 - mend the figure, or leave the key out for the default",
    ),
    (
        "levels the wrong way round",
        one("kind: threshold\nbusy_up: 0.5"),
        4,
        5,
        "busy_down 0.6 is not below busy_up 0.5 - set them apart",
    ),
    (
        "a fleet's budget with a unit",
        one("kind: fleet_budget\nfleet_usd_per_hour: 5 USD"),
        5,
        25,
        "fleet_usd_per_hour: '5 USD' is not a number - write 5 without a unit or quotes",
    ),
    (
        "options of a batch",
        one("kind: goodput\nbatch_size: {max_per_gpu: 0}"),
        5,
        31,
        "batch_size.max_per_gpu: 0 must be greater than or equal to 1 - mend the figure, or leave the key out for the default",
    ),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_file_is_refused_with_its_place(text: str, line: int, column: int, message: str):
    settings, problems = read(text)
    assert settings == ()
    assert problems[0].message == message
    assert (problems[0].line, problems[0].column) == (line, column)
    assert str(problems[0]).startswith(f"p.yaml:{line}:{column}: ")
    assert "\n" not in str(problems[0])


@pytest.mark.parametrize("text", [row[1] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_file_is_refused_quickly(text: str):
    """Within 50 ms of processor time, the best of three so that a busy machine does not count."""
    spent = []
    for _ in range(3):
        began = time.process_time()
        read(text)
        spent.append(time.process_time() - began)
    assert min(spent) <= 0.05


def test_several_problems_are_told_at_once_in_the_order_of_the_file():
    _, problems = read(one("limits: {usd_total: -1}\nkindd: x\nmoves: {max_per_hour: 99}"))
    assert [problem.line for problem in problems] == [4, 5, 6]


def test_bytes_that_are_not_text_are_refused():
    _, problems = read(b"scaleahead: 1\n\xff\xfe\n")
    assert (problems[0].line, problems[0].message) == (2, "the file is not UTF-8 text - save it as UTF-8")


def test_a_byte_order_mark_is_no_problem():
    assert read(b"\xef\xbb\xbf" + WHOLE.encode())[1] == ()


def test_the_size_is_counted_in_bytes():
    assert "256 KiB" in read("#" + "ü" * (LARGEST_BYTES // 2))[1][0].message


def test_the_built_in_kinds_are_installed():
    assert {"cost_per_hour", "cost_per_progress", "reactive"} <= set(installed())
    assert load(WHOLE, "p.yaml")[1] == ()


@given(st.text(st.characters(codec="utf-8"), max_size=300) | st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_text_makes_it_raise(text: str | bytes):
    found, problems = read(text)
    assert not found
    assert problems


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_damage_to_a_good_file_makes_it_raise(data: st.DataObject):
    place = data.draw(st.integers(0, len(WHOLE)))
    length = data.draw(st.integers(0, 20))
    put = data.draw(st.text("\t\n :{}[]&*!#-?|>'\"0aé\x00", max_size=5))
    found, problems = read(WHOLE[:place] + put + WHOLE[place + length :])
    assert bool(found) is not bool(problems)
