"""What the credentials lack is named beforehand, and asking changes nothing."""

from collections.abc import Iterator

import pytest

from providers.base import Subject
from providers.errors import NotPermitted, ProviderError, Throttled
from providers.types import LaunchRecipe, Target
from tests.emulators.aws import MUTATIONS, Fault
from tests.providers.aws.conftest import Account, opened


@pytest.fixture(scope="module")
def kept() -> Iterator[Account]:
    with opened() as made:
        yield made


@pytest.fixture
def account(kept: Account) -> Account:
    """One for all tests here, as they only ask: nothing is denied any more, and the calls before are forgotten."""
    kept.wait(60)
    kept.emulator.denied.clear()
    kept.emulator.calls.clear()
    kept.emulator.ask = None
    return kept


def asked(account: Account, changed: bool = True, recipe: bool = True) -> list[str]:
    given = LaunchRecipe("trainer:1", {"job": "bert"}) if recipe else None
    return account.aws.lacking([Subject(account.vm, given, changed)])


def test_nothing_is_lacking_and_nothing_was_done(account: Account):
    account.emulator.ask = lambda action, parameters: "nothing may change"
    assert asked(account) == []
    made = [call for call in account.emulator.calls if call.action in MUTATIONS]
    assert {call.action for call in made} == {
        "StopInstances", "StartInstances", "ModifyInstanceAttribute", "CreateTags", "RunInstances",
        "TerminateInstances",
    }  # fmt: skip
    assert {call.outcome for call in made} == {"DryRunOperation"}
    assert account.emulator.complaints == []
    assert account.aws.describe(account.vm).state == "running"


@pytest.mark.parametrize(
    ("denied", "named"),
    [
        ("StopInstances", ["ec2:StopInstances on {vm}"]),
        ("CreateTags", ["ec2:CreateTags on {vm}"]),
        ("RunInstances", ["ec2:RunInstances on template trainer:1"]),
        ("DescribeSpotPriceHistory", ["ec2:DescribeSpotPriceHistory"]),
        ("DescribeAutoScalingGroups", ["autoscaling:DescribeAutoScalingGroups"]),
        ("GetServiceQuota", ["servicequotas:GetServiceQuota"]),
        ("GetProducts", ["pricing:GetProducts"]),
        ("T*Instances", ["ec2:TerminateInstances on {vm}"]),
    ],
)
@pytest.mark.fault("C14")
def test_what_is_lacking_is_named_with_what_for(account: Account, denied: str, named: list[str]):
    account.emulator.denied.append(denied)
    assert asked(account) == [one.format(vm=account.vm.id) for one in named]


def test_only_what_is_needed_is_asked_for(account: Account):
    account.emulator.denied += ["StopInstances", "RunInstances", "TerminateInstances"]
    assert asked(account, changed=False) == []
    assert account.actions() == []
    assert asked(account, recipe=False) == [f"ec2:StopInstances on {account.vm.id}"]


def test_a_pool_is_looked_at_and_one_that_is_gone_is_not_told_here(account: Account):
    pools = [Subject(Target("aws", "pool", "research/gpus", "us-east-1"), changed=True)]
    assert account.aws.lacking(pools) == []
    account.emulator.denied.append("DescribeNodegroup")
    assert account.aws.lacking(pools) == ["eks:DescribeNodegroup on research/gpus"]
    assert account.aws.lacking([Subject(Target("aws", "vm", "i-0123456789abcdef0", "us-east-1a"), None, True)]) == []


@pytest.mark.parametrize(
    ("code", "kind", "times"), [("AuthFailure", NotPermitted, 1), ("RequestLimitExceeded", Throttled, 4)]
)
def test_credentials_that_are_no_good_and_a_busy_cloud_are_told_as_such(
    account: Account, code: str, kind: type[ProviderError], times: int
):
    account.emulator.fault(Fault("DescribeInstances", code, 401, times=times))
    with pytest.raises(kind):
        asked(account)
