"""Nodes are listed, cordoned, drained and given back, through real HTTP, on a strict cluster."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from providers import kubeconfig
from providers.budget import Budget
from providers.clock import VirtualClock
from providers.errors import (
    AnswerLost,
    Busy,
    Incompatible,
    NotFound,
    NotPermitted,
    ProviderError,
    Throttled,
    Unavailable,
)
from providers.kubernetes import MARK, Cluster, KubeNode
from tests.emulators.kubernetes import Kubernetes

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


class Made:
    """A cluster of two nodes, and the client of it."""

    def __init__(self, folder: Path, emulator: Kubernetes, clock: VirtualClock) -> None:
        self.emulator, self.clock = emulator, clock
        for name in ("one", "two"):
            emulator.add(name)
        self.file = written(folder, emulator.url, {"token": "secret"})
        self.client = Cluster("research", kubeconfig.read(str(self.file), "research", clock), Budget(clock))

    def node(self, name: str = "one") -> KubeNode:
        return next(node for node in self.client.nodes() if node.name == name)


def written(folder: Path, server: str, user: dict[str, object], **cluster: object) -> Path:
    """Write a kubeconfig with one context."""
    file = folder / "config"
    told = {
        "apiVersion": "v1", "kind": "Config",
        "contexts": [{"name": "research", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
    }  # fmt: skip
    file.write_text(json.dumps(told))
    return file


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    clock = VirtualClock(NOW)
    emulator = Kubernetes(clock)
    emulator.start()
    try:
        yield Made(tmp_path, emulator, clock)
    finally:
        emulator.close()


def test_all_pages_of_nodes_are_listed_with_their_machines(made: Made):
    made.emulator.add("three", "aws:///us-east-1b/i-3", ready=False)
    found = made.client.nodes()
    assert [(node.name, node.ready, node.schedulable, node.leaving) for node in found] == [
        ("one", True, True, False), ("two", True, True, False), ("three", False, True, False),
    ]  # fmt: skip
    assert found[2].provider_id == "aws:///us-east-1b/i-3"
    assert len(made.emulator.calls) == 2


def test_a_node_is_cordoned_under_a_mark_and_given_back(made: Made):
    made.client.cordon(made.node(), "token-1")
    assert (made.node().schedulable, made.node().leaving) == (False, True)
    assert made.emulator.nodes["one"].annotations == {MARK: "token-1"}
    made.client.uncordon(made.node())
    assert (made.node().schedulable, made.node().leaving) == (True, False)
    assert made.emulator.nodes["one"].annotations == {}


def test_what_somebody_else_cordoned_stays_so(made: Made):
    made.emulator.nodes["one"].unschedulable = True
    made.client.cordon(made.node(), "token-1")
    assert not made.node().leaving
    made.client.uncordon(made.node())
    assert made.emulator.nodes["one"].unschedulable


def test_a_drained_node_keeps_only_what_belongs_to_it(made: Made):
    emulator = made.emulator
    emulator.run("web-1", "one")
    emulator.run("train-1", "one", owner="Job", app="train")
    emulator.run("logs", "one", owner="DaemonSet", app="logs")
    emulator.run("proxy", "one", owner="Node", mirror=True)
    emulator.run("finished", "one", owner="Job", phase="Succeeded")
    made.client.cordon(made.node(), "t")
    assert {left.pod for left in made.client.drain(made.node())} == {"default/web-1", "default/train-1"}
    assert [left.why for left in made.client.drain(made.node())] == ["it is ending"] * 2
    made.clock.advance(30)
    assert made.client.drain(made.node()) == ()
    assert set(emulator.on("one")) == {"logs", "proxy", "finished"}
    assert set(emulator.on("two")) == {"web-1-again", "train-1-again"}
    assert emulator.complaints == []
    assert sum(call.method == "POST" for call in emulator.calls) == 2


def test_a_disruption_budget_is_waited_for(made: Made):
    emulator = made.emulator
    emulator.budgets["web"] = 2
    for name, node in (("web-1", "one"), ("web-2", "one"), ("web-3", "two")):
        emulator.run(name, node)
    made.client.cordon(made.node(), "t")
    whys = {left.pod: left.why for left in made.client.drain(made.node())}
    assert whys["default/web-1"] == "it was asked to leave"
    assert "disruption budget" in whys["default/web-2"]
    made.clock.advance(30)
    (left,) = made.client.drain(made.node())
    assert (left.pod, left.why) == ("default/web-2", "it was asked to leave")
    made.clock.advance(30)
    assert made.client.drain(made.node()) == ()


def test_a_pod_that_nothing_would_start_again_keeps_all_others_too(made: Made):
    made.emulator.run("web-1", "one")
    made.emulator.run("by-hand", "one", owner="")
    with pytest.raises(Incompatible, match="default/by-hand, which nothing would start again"):
        made.client.drain(made.node())
    made.clock.advance(30)
    assert set(made.emulator.on("one")) == {"web-1", "by-hand"}


def test_an_eviction_never_hits_another_pod_of_the_same_name(made: Made):
    """It was listed, ended, and came back elsewhere under its name before it was asked to leave."""
    pod = made.emulator.run("db-0", "one", owner="StatefulSet")
    listed = made.client._all("/api/v1/pods", fieldSelector="spec.nodeName=one")
    (seen,) = list(listed)
    pod.uid, pod.node = "another", "two"
    assert made.client._evict(seen) is None
    made.clock.advance(60)
    assert made.emulator.on("two") == ["db-0"]


@pytest.mark.parametrize(
    ("method", "status", "kind"),
    [
        ("GET", 403, NotPermitted), ("GET", 500, Unavailable), ("GET", 429, Throttled), ("GET", 410, Unavailable),
        ("PATCH", 409, Busy), ("PATCH", 404, NotFound), ("PATCH", 503, Unavailable), ("PATCH", 0, AnswerLost),
        ("GET", 0, Unavailable), ("POST", 500, Unavailable), ("POST", 429, Throttled), ("POST", 403, NotPermitted),
    ],
)  # fmt: skip
def test_every_refusal_becomes_one_of_our_errors(made: Made, method: str, status: int, kind: type[ProviderError]):
    made.emulator.run("web-1", "one")
    node = made.node()
    made.emulator.fail(method, status)
    with pytest.raises(ProviderError) as found:
        made.client.cordon(node, "t") if method == "PATCH" else made.client.drain(node)
    assert type(found.value) is kind
    assert "\n" not in str(found.value)
    if status == 403:
        assert "see deploy/iam/kubernetes" in str(found.value)


def test_a_wrong_token_is_named_and_no_server_is_unavailable(made: Made):
    made.emulator.token = "another"
    with pytest.raises(NotPermitted, match="research: list of nodes: Unauthorized - renew the credentials"):
        made.client.nodes()
    access = kubeconfig.Access("http://127.0.0.1:9", None, lambda _: None)
    with pytest.raises(Unavailable):
        Cluster("none", access, Budget(made.clock)).cordon(KubeNode("one", "", True, True, False), "t")
