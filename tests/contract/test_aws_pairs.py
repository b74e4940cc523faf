"""Provider and emulator of AWS are both held to documented requests and answers, each with its source."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from providers import errors
from providers.aws.client import Client
from providers.budget import Budget
from providers.clock import VirtualClock
from providers.errors import ProviderError
from providers.types import Launch, LaunchRecipe, Modify, Remove, Resize, Start, Stop, Target, Terminate
from tests.contract.test_gcp_pairs import canned
from tests.emulators.aws import MUTATIONS
from tests.providers.aws.conftest import LARGE, NOW, Account, account

__all__ = ["account"]
PAIRS = json.loads((Path(__file__).parent / "aws.json").read_text())
GROUP, POOL = Target("aws", "group", "nodes", "us-east-1"), Target("aws", "pool", "research/gpus", "us-east-1")
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
LAUNCH = Launch(LaunchRecipe("trainer", {"job": "bert"}), LARGE, "next-1")
ZONED = "us-east-1a"
CALLS: dict[str, Callable[[Account, str], object]] = {
    "stop": lambda a, _: a.aws.perform(Stop(a.vm), "t"),
    "start": lambda a, _: a.aws.perform(Start(a.vm), "t"),
    "set the type": lambda a, _: a.aws.perform(Modify(a.vm, LARGE, "machine_type"), "t"),
    "terminate": lambda a, _: a.aws.perform(Terminate(a.vm), "t"),
    "launch from a template": lambda a, _: a.aws.perform(replace(LAUNCH, offer=replace(LARGE, zone=ZONED)), "t"),
    "ask without doing": lambda a, _: client_of(a, a.emulator.url).would_be_allowed(
        "stop_instances", InstanceIds=[a.vm.id]
    ),
    "size a group": lambda a, _: a.aws.perform(Resize(GROUP, 3), "t"),
    "end a named node": lambda a, victim: a.aws.perform(Remove(GROUP, (victim,)), "t"),
    "size a node group": lambda a, _: a.aws.perform(Resize(POOL, 3), "t"),
}


def client_of(account: Account, endpoint: str) -> Client:
    return Client("us-east-1", Budget(account.clock), endpoint, KEYS)


def prepared(account: Account, what: str) -> str:
    """Bring the emulated account to where a request may be made; name a node of its group."""
    scaling = account.emulator.client("autoscaling")
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="nodes", MinSize=1, MaxSize=4, DesiredCapacity=2, AvailabilityZones=[ZONED],
        LaunchTemplate={"LaunchTemplateName": "trainer", "Version": "$Default"},
    )  # fmt: skip
    account.emulator.pool("research", "gpus", "trainer", 2, (1, 4))
    if what in ("start", "set the type"):
        account.emulator.client("ec2").stop_instances(InstanceIds=[account.vm.id])
    account.wait()
    account.emulator.calls.clear()
    (group,) = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["nodes"])["AutoScalingGroups"]
    return str(group["Instances"][0]["InstanceId"])


def filled(pair: dict[str, Any], account: Account, victim: str) -> dict[str, Any]:
    text = json.dumps(pair["body"]).replace('"VM"', f'"{account.vm.id}"').replace('"VICTIM"', f'"{victim}"')
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize("pair", PAIRS["requests"], ids=lambda pair: pair["what"])
def test_the_provider_sends_what_is_documented(account: Account, pair: dict[str, Any]):
    victim = prepared(account, pair["what"])
    wanted = filled(pair, account, victim)
    CALLS[pair["what"]](account, victim)
    # A token that is left on the instance afterwards is a call of its own.
    (sent,) = (one for one in account.emulator.calls if one.action in MUTATIONS - {"CreateTags"})
    assert sent.action == wanted.get("Action", "UpdateNodegroupConfig")
    assert {key: sent.parameters[key] for key in wanted} == wanted
    more = {key for key in sent.parameters if key not in wanted and not key.startswith("TagSpecification.")}
    assert more <= {"name", "nodegroupName"}


def signed(account: Account, service: str, pair: dict[str, Any], body: bytes) -> urllib.request.Request:
    """Write a request by hand, and sign it as any client would: the emulator reads service and region from that."""
    kind = "application/json" if service == "eks" else "application/x-www-form-urlencoded"
    asked = AWSRequest(pair["verb"], account.emulator.url + pair["target"], {"Content-Type": kind}, body)
    SigV4Auth(Credentials("test", "test"), service, "us-east-1").add_auth(asked)
    return urllib.request.Request(asked.url, body, dict(asked.headers), method=pair["verb"])


def service_of(pair: dict[str, Any]) -> str:
    if "Action" not in pair["body"]:
        return "eks"
    return "autoscaling" if pair["body"]["Version"] == "2011-01-01" else "ec2"


@pytest.mark.parametrize("pair", PAIRS["requests"], ids=lambda pair: pair["what"])
def test_the_emulator_takes_what_is_documented(account: Account, pair: dict[str, Any]):
    body, service = filled(pair, account, prepared(account, pair["what"])), service_of(pair)
    if pair["what"] == "launch from a template":
        body |= {"TagSpecification.1.Tag.1.Key": "job", "TagSpecification.1.Tag.1.Value": "bert"}
    raw = json.dumps(body).encode() if service == "eks" else urlencode(body).encode()
    request = signed(account, service, pair, raw)
    if pair["what"] == "ask without doing":
        with pytest.raises(urllib.error.HTTPError, match="412") as refused:
            urllib.request.urlopen(request, timeout=10)
        with refused.value as answer:
            assert "<Code>DryRunOperation</Code>" in answer.read().decode()
        return
    with urllib.request.urlopen(request, timeout=10) as answer:
        told = answer.read().decode()
    if service == "eks":
        assert json.loads(told)["update"]["status"] == "InProgress"
    else:
        assert re.search(rf"<{body['Action']}Response[ >]", told)


def asked_of(service: str, client: Client) -> object:
    """Make a mutation of a service, whatever is answered."""
    if service == "ec2":
        return client.mutate("ec2", "start_instances", InstanceIds=["i-0123456789abcdef0"])
    if service == "autoscaling":
        return client.mutate("autoscaling", "set_desired_capacity", AutoScalingGroupName="nodes", DesiredCapacity=3)
    return client.mutate("eks", "update_nodegroup_config", clusterName="research", nodegroupName="gpus")


@dataclass(frozen=True)
class Canned:
    """A server that gives one answer to everything, and a client of it; the SDK takes long to make one."""

    client: Client
    answers: list[tuple[int, object]]
    clock: VirtualClock

    def refusal(self, status: int, body: object, of: str) -> ProviderError:
        self.answers.append((status, body))
        self.clock.advance(600)  # a throttled API is left alone for a while
        with pytest.raises(ProviderError) as found:
            asked_of(of, self.client)
        return found.value


@pytest.fixture(scope="module")
def service() -> Iterator[Canned]:
    answers: list[tuple[int, object]] = []
    clock = VirtualClock(NOW)
    with canned(answers) as address:
        yield Canned(Client("us-east-1", Budget(clock), address, KEYS), answers, clock)


@pytest.mark.parametrize("pair", PAIRS["answers"], ids=lambda pair: pair["what"])
def test_the_provider_understands_what_is_answered(service: Canned, pair: dict[str, Any]):
    found = service.refusal(pair["status"], pair["body"], pair["of"])
    assert type(found) is getattr(errors, pair["means"])
    assert "\n" not in str(found)


@pytest.mark.fault("C4")
@pytest.mark.parametrize("status", [200, 400, 502])
def test_an_answer_that_is_cut_off_or_a_proxys_leaves_the_effect_open(service: Canned, status: int):
    found = service.refusal(status, "<StartInstancesResponse><instancesSet><item>", "ec2")
    assert type(found) is errors.AnswerLost
    assert "\n" not in str(found)


def shape(told: str) -> object:
    """Reduce an answer to what a client can act upon: codes and the names of fields, no texts."""
    if told.startswith("{"):
        return json.loads(told)["__type"]
    tree = ElementTree.fromstring(re.sub(r' xmlns="[^"]+"', "", told))
    codes = [one.text for one in tree.iter("Code")]
    return [one.tag for one in tree.iter() if one.tag not in ("RequestId", "RequestID")], codes


def answer_of(account: Account, what: str) -> tuple[int, str]:
    """Bring the emulator to give an answer by its own rules, no fault being scripted."""
    start = {"verb": "POST", "target": "/", "body": {"Action": "StartInstances", "Version": "2016-11-15"}}
    service, body = "ec2", {**start["body"], "InstanceId.1": account.vm.id}  # type: ignore[dict-item]
    pair: dict[str, Any] = start
    prepared(account, "stop" if what == "it is not stopped" else "start")
    match what:
        case "no such instance":
            body["InstanceId.1"] = "i-0123456789abcdef0"
        case "it is not stopped":
            body = {**body, "Action": "ModifyInstanceAttribute", "InstanceId": account.vm.id}
            body["InstanceType.Value"] = LARGE.machine_type
        case "no capacity":
            account.emulator.exhaust("m7i.*")
        case "the quota is used up":
            account.emulator.limit("L-1216C47A", 8)
        case "not allowed":
            account.emulator.denied.append("StartInstances")
        case "no such group" | "above the group's largest size":
            service, group = "autoscaling", "nodes" if what.startswith("above") else "none"
            body = {"Action": "SetDesiredCapacity", "Version": "2011-01-01", "AutoScalingGroupName": group}
            body["DesiredCapacity"] = "9"
        case _:
            service, pair = "eks", {"verb": "POST", "target": "/clusters/research/node-groups/gpus/update-config"}
            if what == "no such node group":
                pair["target"] = pair["target"].replace("gpus", "none")
            else:
                account.aws.perform(Resize(POOL, 3), "first")
            body = {"scalingConfig": {"desiredSize": 3}, "clientRequestToken": "u"}  # type: ignore[dict-item]
    raw = json.dumps(body).encode() if service == "eks" else urlencode(body).encode()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(signed(account, service, pair, raw), timeout=10)
    with refused.value as answer:
        return answer.code, answer.read().decode()


RULED = (
    "no such instance", "it is not stopped", "no capacity", "the quota is used up", "not allowed", "no such group",
    "above the group's largest size", "no such node group", "the node group is in another update",
)  # fmt: skip


@pytest.mark.parametrize("what", RULED)
def test_the_emulator_answers_in_the_documented_form(account: Account, what: str):
    (pair,) = (one for one in PAIRS["answers"] if one["what"] == what)
    status, told = answer_of(account, what)
    body = pair["body"] if isinstance(pair["body"], str) else json.dumps(pair["body"])
    assert (status, shape(told)) == (pair["status"], shape(body.partition("?>\n")[2] or body))


def test_every_pair_names_its_source():
    rows = [*PAIRS["requests"], *PAIRS["answers"]]
    assert all(row["source"].startswith("https://") and isinstance(row["read"], bool) for row in rows)
    assert {row["what"] for row in PAIRS["requests"]} == set(CALLS)
    assert len({row["what"] for row in rows}) == len(rows)
