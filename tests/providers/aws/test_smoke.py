"""The run against a real account, here against the emulated one: what it refuses, and what it does."""

import pytest

from tests.emulators.aws import MUTATIONS
from tests.providers.aws.conftest import Account
from tests.tools.smoke_cloud import Refused, smoke

OURS = "123456789012"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")


def run(account: Account, *more: str, number: str = OURS, usd: str = "2") -> None:
    told = [f"--account={number}", f"--budget-usd={usd}", "--template=trainer", f"--endpoint={account.emulator.url}"]
    kinds = ["--small=m7i.2xlarge", "--large=m7i.4xlarge"]
    smoke([*told, *kinds, *more], account.clock, account.clock.advance)


def made(account: Account) -> list[tuple[str, str]]:
    return [(c.action, c.outcome) for c in account.emulator.calls if c.action in MUTATIONS - {"CreateTags"}]


@pytest.mark.parametrize(
    ("number", "usd", "why"),
    [
        ("", "2", "name the account"),
        ("my account", "2", "name the account"),
        (OURS, "", "how many dollars"),
        (OURS, "nan", "above 0"),
        (OURS, "-1", "above 0"),
        ("999999999999", "2", f"of account {OURS}, not of 999999999999"),
    ],
)
def test_it_refuses_in_one_line_before_anything_is_done(account: Account, number: str, usd: str, why: str):
    with pytest.raises(Refused, match=why) as found:
        run(account, number=number, usd=usd)
    assert "\n" not in str(found.value)
    assert made(account) == []


def test_a_dry_run_launches_nothing(account: Account):
    run(account, "--dry")
    assert made(account) == [("RunInstances", "DryRunOperation")]


def test_nothing_is_launched_that_the_budget_does_not_pay_for(account: Account):
    with pytest.raises(Refused, match="nothing is launched"):
        run(account, usd="0.5")
    assert made(account) == [("RunInstances", "DryRunOperation")]


def test_what_is_not_allowed_ends_it(account: Account):
    account.emulator.denied.append("RunInstances")
    with pytest.raises(Refused, match="ec2:RunInstances is not allowed"):
        run(account)
    assert [action for action, _ in made(account)] == ["RunInstances"]


def test_one_machine_goes_through_all_its_calls_and_is_deleted(account: Account):
    run(account)
    assert made(account) == [
        ("RunInstances", "DryRunOperation"),
        *((f"{what}", "ok") for what in ("RunInstances", "StopInstances", "ModifyInstanceAttribute", "StartInstances")),
        ("TerminateInstances", "ok"),
    ]


def test_a_machine_is_deleted_also_where_a_call_fails(account: Account):
    account.emulator.exhaust("m7i.4xlarge", late=True)
    with pytest.raises(Refused, match="Start is failed"):
        run(account)
    assert made(account)[-1] == ("TerminateInstances", "ok")
