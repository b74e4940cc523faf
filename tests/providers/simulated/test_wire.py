"""The JSON of the vocabulary, the server that speaks it and the client that asks."""

import http.client
import json
import math
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import errors
from providers.clock import ScaledClock, SystemClock, VirtualClock
from providers.errors import AnswerLost, Invalid, NotFound, ProviderError, Unavailable
from providers.simulated import config, wire
from providers.simulated.cloud import Cloud
from providers.simulated.provider import Simulated, connect
from providers.simulated.remote import Remote
from providers.simulated.server import Server, clock_of
from providers.simulated.state import Fault, State
from providers.types import (
    Allocation,
    Call,
    Grow,
    InPlace,
    Launch,
    LaunchRecipe,
    Modify,
    Node,
    Notice,
    Offer,
    Operation,
    Price,
    Remove,
    Replace,
    Resize,
    Resources,
    Route,
    Same,
    Shrink,
    Start,
    Stop,
    Target,
    Terminate,
)
from tests.providers.simulated.offers import LARGE, NOW, OFFERS, SMALL

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.integers(0, 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds, microseconds=seconds % 997))
TEXT = st.text(max_size=8)
RESOURCES = st.builds(
    Resources, FINITE, FINITE, st.integers(), TEXT | st.none(), FINITE, FINITE | st.none(), FINITE | st.none()
)
WAYS = st.sampled_from(["on_demand", "spot", "reserved"])
PRICES = st.builds(Price, FINITE, TEXT, TIMES) | st.none()
OFFER = st.builds(Offer, TEXT, TEXT, TEXT, RESOURCES, PRICES, TEXT | st.none(), st.integers(), st.integers(), WAYS)
TARGETS = st.builds(Target, TEXT, st.sampled_from(["vm", "group"]), TEXT, TEXT)
LABELS = st.dictionaries(TEXT, TEXT, max_size=2)
STATES = st.sampled_from(["pending", "running", "stopping", "stopped", "terminated", "unknown"])
CALLS = st.one_of(
    st.builds(Stop, TARGETS),
    st.builds(Start, TARGETS),
    st.builds(Terminate, TARGETS),
    st.builds(Modify, TARGETS, OFFER, TEXT),
    st.builds(Launch, st.builds(LaunchRecipe, TEXT, LABELS), OFFER, TEXT),
    st.builds(Resize, TARGETS, st.integers()),
    st.builds(Remove, TARGETS, st.lists(TEXT, max_size=3).map(tuple)),
)
ROUTES = st.one_of(
    st.builds(Same),
    st.builds(InPlace, st.lists(TEXT, max_size=3).map(tuple)),
    st.builds(Replace, TEXT),
    st.builds(Grow, st.integers()),
    st.builds(Shrink, st.integers()),
)
ALLOCATIONS = st.builds(
    Allocation,
    TARGETS,
    STATES,
    OFFER,
    st.lists(st.builds(Node, TEXT, STATES, TIMES | st.none()), max_size=2).map(tuple),
    st.lists(st.builds(Notice, st.just("maintenance"), TIMES, TEXT), max_size=2).map(tuple),
    LABELS,
)
OPERATIONS = st.builds(
    Operation, TEXT, TEXT, st.sampled_from(["running", "done", "failed"]), TEXT | st.none(), TARGETS | st.none()
)


def there_and_back(kind: Any, value: object) -> object:
    return wire.decode(kind, json.loads(json.dumps(wire.encode(value), allow_nan=False)))


@given(CALLS, ROUTES, ALLOCATIONS, OPERATIONS)
def test_every_value_comes_back_as_it_was(call: Call, route: Route, allocation: Allocation, operation: Operation):
    assert there_and_back(Call, call) == call
    assert there_and_back(Route, route) == route
    assert there_and_back(Allocation, allocation) == allocation
    assert there_and_back(Operation, operation) == operation


def test_a_whole_state_comes_back_as_it_was():
    cloud = Cloud(VirtualClock(NOW), OFFERS)
    vm = cloud.add_machine("vm-1", SMALL.id, {"a": "b"})
    cloud.add_group("nodes", LARGE.id, 2)
    cloud.perform(Stop(vm), "s")
    cloud.fault(Fault("stop"))
    assert there_and_back(State, cloud.state()) == cloud.state()


GOOD = wire.encode(Stop(Target("simulated", "vm", "vm-1", "here")))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"is": "Explode"}, "no known kind"),
        ({"target": None}, "target must be an object"),
        ({"extra": 1}, "has no extra"),
        ({"target": {"provider": "s", "kind": "vm", "id": "x"}}, "target lacks place"),
        ({"target": {"provider": "s", "kind": "ship", "id": "x", "place": "y"}}, r"target\.kind must be one of"),
        ({"target": {"provider": "s", "kind": "vm", "id": 7, "place": "y"}}, r"target\.id must be a str"),
    ],
)
def test_a_malformed_call_is_refused_by_its_place(change: dict[str, Any], complaint: str):
    assert isinstance(GOOD, dict)
    with pytest.raises(Invalid, match=complaint):
        wire.decode(Call, {**GOOD, **change})


@pytest.mark.parametrize("bad", [math.nan, math.inf, True, "1"])
def test_a_number_must_be_finite_and_a_number(bad: object):
    with pytest.raises(Invalid, match="finite"):
        wire.decode(float, bad)


def test_a_time_needs_its_offset_and_nan_is_never_written():
    with pytest.raises(Invalid, match="offset"):
        wire.decode(Price, {"usd_per_hour": 1, "source": "s", "at": "2026-11-23T10:00:00"})
    with pytest.raises(ValueError, match="finite"):
        wire.encode(replace(SMALL.resources, cpu_cores=math.nan))


@pytest.fixture
def served() -> Iterator[tuple[Cloud, Server]]:
    cloud = Cloud(VirtualClock(NOW), OFFERS)
    cloud.add_machine("vm-1", SMALL.id)
    server = Server(cloud, reports={"extra": lambda: {"hello": 1}})
    server.start()
    yield cloud, server
    server.close()


VM = Target("simulated", "vm", "vm-1", "us-east-1a")
TREE = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ProviderError)]


@pytest.mark.parametrize("kind", [kind for kind in TREE if kind is not AnswerLost])
def test_every_error_of_a_cloud_arrives_as_itself(served: tuple[Cloud, Server], kind: type[ProviderError]):
    cloud, server = served
    cloud.fault(Fault("describe", kind.__name__, message="why it is so"))
    with pytest.raises(ProviderError, match="why it is so") as caught:
        Remote(server.url).describe(VM)
    assert caught.type is kind


def test_a_lost_answer_is_a_broken_connection(served: tuple[Cloud, Server]):
    cloud, server = served
    for call, expected in (("describe", Unavailable), ("stop", AnswerLost)):
        cloud.fault(Fault(call, "AnswerLost", "after_applied"))
        with pytest.raises(expected, match="the connection broke"):
            Remote(server.url).describe(VM) if call == "describe" else Remote(server.url).perform(Stop(VM), "s")
    assert cloud.machine("vm-1").state == "stopping"


def test_nobody_there_is_unavailable_and_a_silent_one_loses_the_answer():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable):
            Remote(url).perform(Stop(VM), "s")
        silent.listen()
        with pytest.raises(AnswerLost, match="describe before"):
            Remote(url, timeout_seconds=0.1).perform(Stop(VM), "s")
        with pytest.raises(Unavailable):
            Remote(url, timeout_seconds=0.1).describe(VM)


def test_an_answer_cut_short_is_lost():
    with socket.socket() as cutting:
        cutting.bind(("127.0.0.1", 0))
        cutting.listen()

        def cut() -> None:
            peer, _ = cutting.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")

        thread = threading.Thread(target=cut)
        thread.start()
        with pytest.raises(AnswerLost):
            Remote(f"http://127.0.0.1:{cutting.getsockname()[1]}").perform(Stop(VM), "s")
        thread.join()


def test_the_operator_has_the_same_powers_over_http(served: tuple[Cloud, Server]):
    cloud, server = served
    remote = Remote(server.url)
    remote.add_machine("vm-2", LARGE.id, {"a": "b"})
    assert remote.machine("vm-2") == cloud.machine("vm-2")
    remote.notice("vm-1", Notice("out_of_memory", NOW, "killed"))
    assert remote.describe(VM).notices[0].detail == "killed"
    assert remote.bill("vm-1") == cloud.bill("vm-1")
    remote.meddle(Stop(VM))
    assert remote.state() == cloud.state()
    assert [record.call for record in remote.records()] == ["describe"]
    with pytest.raises(NotFound):
        remote.group("none")


def ask(server: Server, method: str, path: str, body: str = "", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=5)
    try:
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_pages_for_a_person_and_refusals(served: tuple[Cloud, Server]):
    _, server = served
    assert ask(server, "GET", "/healthz") == (200, {"ok": True})
    assert ask(server, "GET", "/extra") == (200, {"hello": 1})
    assert ask(server, "GET", "/state")[1]["machines"][0]["id"] == "vm-1"
    assert ask(server, "GET", "/none")[0] == 404
    assert ask(server, "GET", "/state", Host="evil.example:80")[0] == 403
    assert ask(server, "POST", "/state", "{}", Content_Type="text/plain")[0] == 403
    sent = {"Content_Type": "application/json"}
    assert ask(server, "POST", "/explode", "{}", **sent)[0] == 404
    assert ask(server, "POST", "/describe", "{", **sent)[0] == 400
    assert ask(server, "POST", "/describe", "[]", **sent)[0] == 400
    assert ask(server, "POST", "/describe", "{}", **sent)[0] == 400
    assert ask(server, "POST", "/describe", Content_Length="99999999", **sent)[0] == 400


def test_a_mutation_without_intent_is_refused_over_http(served: tuple[Cloud, Server]):
    cloud, server = served
    cloud.ask = lambda token, call: "nothing was committed"
    with pytest.raises(Invalid, match="nothing was committed"):
        Remote(server.url).perform(Stop(VM), "s")
    assert cloud.complaints == ["nothing was committed"]


def test_connect_takes_an_address_or_a_whole_cloud(served: tuple[Cloud, Server]):
    _, server = served
    assert connect("far", {"url": server.url}).describe(VM).state == "running"
    vm = {"id": "vm-9", "offer": "aws/us-east-1/g5.xlarge"}
    near = connect("near", {"offers": ["aws/us-east-1/g5.*"], "vms": [vm]})
    assert isinstance(near, Simulated)
    found = near.describe(Target("near", "vm", "vm-9", "us-east-1"))
    assert found.offer.price is not None
    assert found.target.provider == "near"
    for wrong in ({"url": "ftp://x"}, {"url": server.url, "colour": 1}, {"url": 7}, {}, {"offers": ["aws/no/*"]}):
        with pytest.raises(Invalid):
            connect("wrong", wrong)


def test_a_cloud_is_built_as_configured():
    inline = wire.encode(SMALL)
    options = {
        "offers": [inline],
        "groups": [{"id": "nodes", "offer": SMALL.id, "nodes": 3}],
        "quotas": [{"name": "q", "unit": "machines", "limit": 3}],
        "barriers": [{"old": "a", "new": "b", "reason": "c"}],
        "shortages": [{"offers": "*"}],
        "faults": [{"call": "stop"}],
        "delays": {"boot_seconds": 1},
    }
    state = config.build("simulated", config.read(options), VirtualClock(NOW)).state()
    assert len(state.machines) == 3
    assert (len(state.quotas), len(state.barriers), len(state.shortages), len(state.faults)) == (1, 1, 1, 1)
    with pytest.raises(Invalid, match=r"groups\[0\] lacks nodes"):
        config.read({**options, "groups": [{"id": "nodes", "offer": SMALL.id}]})


def test_the_clock_is_the_hosts_or_a_scaled_one():
    assert isinstance(clock_of({}), SystemClock)
    options: dict[str, Any] = {"rate": 60, "origin": 1000.5, "offers": []}
    clock = clock_of(options)
    assert isinstance(clock, ScaledClock)
    assert (clock.rate, clock.origin, options) == (60, 1000.5, {"offers": []})
    for wrong in ({"rate": 0}, {"rate": "x"}):
        with pytest.raises(Invalid):
            clock_of(dict(wrong))


def test_the_server_runs_by_itself_and_goes_on_after_a_kill(tmp_path: Path):
    path = tmp_path / "cloud.json"
    options = {
        "offers": [wire.encode(SMALL)],
        "vms": [{"id": "vm-1", "offer": SMALL.id}],
        "state_path": str(tmp_path / "state.json"),
    }
    path.write_text(json.dumps(options))
    ids = []
    for _ in range(2):
        command = [sys.executable, "-m", "providers.simulated.server", "--config", str(path)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            remote = Remote(server.stdout.readline().strip())
            ids.append(remote.perform(Stop(VM), "s").id)
        finally:
            server.kill()
            server.communicate()
    assert ids[0] == ids[1]
    path.write_text('{"offers": 3}')
    failed = subprocess.run([*command[:-1], str(path)], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "offers must be a list" in failed.stderr
