"""What holds for every installed policy."""

from dataclasses import replace

import pytest

from policies.base import Policy
from policies.config import policy_of
from policies.guards import decide
from policies.kinds import installed
from policies.types import Limits, Settings
from tests.policies.situations import better, offer, option, policy, situation, stay


@pytest.fixture(params=sorted(installed()))
def chooser(request: pytest.FixtureRequest) -> Policy:
    return policy_of(request.param, installed())


@pytest.fixture
def rules(chooser: Policy) -> Settings:
    return replace(policy(), kind=type(chooser).__name__)


IDLE = {"usage.gpu_util": 0.3}
"""What the kinds that go by how busy the GPUs are need in order to want something cheaper."""


def test_alone_it_stays(chooser: Policy, rules: Settings):
    choice = decide(chooser, situation(stay(), settings=rules))
    assert choice.option.stays
    assert choice.reason.startswith("no change")
    assert choice.rejected == ()


def test_it_takes_what_is_cheaper_by_the_hour_and_to_the_finish(chooser: Policy, rules: Settings):
    cheap = better()
    choice = decide(chooser, situation(stay(), cheap, settings=rules, observed=IDLE))
    assert choice.option is cheap
    assert "aws/us-east-1/g5.xlarge" in choice.reason
    assert "$" in choice.reason


def test_it_leaves_where_the_job_does_not_fit(chooser: Policy, rules: Settings):
    dear = option(offer("r5.large", 5.0), 50.0, -40.0)
    for seen in (
        situation(stay(misfit=0.4), dear, settings=rules),
        situation(stay(), dear, settings=rules, killed=True),
    ):
        choice = decide(chooser, seen)
        assert choice.option is dear
        assert choice.rejected[0].limit == "memory"


def test_it_stays_when_everything_else_is_forbidden(chooser: Policy, rules: Settings):
    forbidden = replace(rules, limits=Limits(deny=("*",)))
    for unfit in (0.0, 0.5):
        choice = decide(chooser, situation(stay(misfit=unfit), better(), settings=forbidden))
        assert choice.option.stays
        assert choice.rejected[0].limit == "deny"


def test_the_same_situation_gives_the_same_choice(chooser: Policy, rules: Settings):
    seen = situation(stay(), better("a"), better("b"), option(offer("c"), 9.0, 1.0), settings=rules)
    assert decide(chooser, seen) == decide(chooser, seen)


def test_the_order_of_the_options_does_not_matter(chooser: Policy, rules: Settings):
    first, second = option(offer("c", 0.7), 9.0, 1.0), better("a")
    one = decide(chooser, situation(stay(), first, second, settings=rules, observed=IDLE))
    other = decide(chooser, situation(stay(), second, first, settings=rules, observed=IDLE))
    assert one.option is other.option
