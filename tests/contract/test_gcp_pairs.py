"""Provider and emulator of Google Cloud are both held to documented requests and answers, each with its source."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from providers import errors
from providers.budget import Budget
from providers.catalog import Catalog
from providers.gcp.client import Client
from providers.gcp.handle import Handle
from providers.gcp.provider import Gcp
from providers.simulated.answers import JsonHandler
from providers.types import Modify, Operation, Remove, Resize, Start, Stop, Target
from tests.providers.gcp.conftest import N1_BIG_T4, ZONE, Project, project

__all__ = ["project"]
PAIRS = json.loads((Path(__file__).parent / "gcp.json").read_text())
VM, GROUP = Target("gcp", "vm", "vm-1", ZONE), Target("gcp", "group", "nodes", ZONE)
POOL = Target("gcp", "pool", "research/gpus", ZONE)
CALLS: dict[str, Callable[[Project, str], object]] = {
    "set the machine type": lambda p, _: p.gcp.perform(Modify(VM, N1_BIG_T4, "machine_type"), "t"),
    "let maintenance end it": lambda p, _: p.gcp.perform(Modify(VM, N1_BIG_T4, "scheduling"), "t"),
    "attach a GPU": lambda p, _: p.gcp.perform(Modify(VM, N1_BIG_T4, "accelerators"), "t"),
    "stop": lambda p, _: p.gcp.perform(Stop(VM), "t"),
    "start": lambda p, _: p.gcp.perform(Start(VM), "t"),
    "resize a group": lambda p, _: p.gcp.perform(Resize(GROUP, 3), "t"),
    "delete a named node": lambda p, victim: p.gcp.perform(Remove(GROUP, (victim,)), "t"),
    "size a node pool": lambda p, _: p.gcp.perform(Resize(POOL, 3), "t"),
    "ask for permissions": lambda p, _: p.gcp.excess(),
}


def prepared(project: Project, what: str) -> str:
    """Bring the emulated project to where a request may be made; name a node of its group."""
    project.emulator.group("nodes", ZONE, "trainer", 2)
    project.emulator.pool("research", "gpus", [ZONE], "n1-standard-8", 2)
    one = project.emulator.instances[ZONE, "vm-1"]
    one["status"] = "RUNNING" if what == "stop" else "TERMINATED"
    if what == "attach a GPU":
        one["machineType"] = f"zones/{ZONE}/machineTypes/n1-standard-16"
        one["scheduling"]["onHostMaintenance"] = "TERMINATE"
    return next(iter(project.emulator.groups[ZONE, "nodes"]["members"]))


def parts(target: str) -> tuple[str, dict[str, list[str]]]:
    """Split an address, without what the client adds to every request."""
    address = urlsplit(target)
    query = parse_qs(address.query)
    return address.path, {key: value for key, value in query.items() if key not in ("requestId", "$alt", "paths")}


@pytest.mark.parametrize("pair", PAIRS["requests"], ids=lambda pair: pair["what"])
def test_the_provider_sends_what_is_documented(project: Project, pair: dict[str, Any]):
    victim = prepared(project, pair["what"])
    project.emulator.sent.clear()
    CALLS[pair["what"]](project, victim)
    wanted = json.loads(json.dumps(pair["body"]).replace("VICTIM", victim))
    sent = [
        (verb, parts(target), json.loads(body) if body and body != b"{}" else None)
        for verb, target, body in project.emulator.sent
        if verb != "GET" and "listManagedInstances" not in target  # a read, for all that it is a POST
    ]
    assert len(sent) == 1
    verb, where, body = sent[0]
    assert (verb, where) == (pair["verb"], parts(pair["target"]))
    assert {key: body[key] for key in wanted} == wanted if wanted else body is None


@pytest.mark.parametrize("pair", PAIRS["requests"], ids=lambda pair: pair["what"])
def test_the_emulator_takes_what_is_documented(project: Project, pair: dict[str, Any]):
    victim = prepared(project, pair["what"])
    body = None if pair["body"] is None else json.dumps(pair["body"]).replace("VICTIM", victim).encode()
    request = urllib.request.Request(project.emulator.url + pair["target"], body, method=pair["verb"])
    with urllib.request.urlopen(request, timeout=10) as answer:
        told = json.load(answer)
    assert answer.status == 200
    assert told["status"] in ("RUNNING", "DONE") if "permissions" not in told else told["permissions"] == []


@contextmanager
def canned(answers: Sequence[tuple[int, object]]) -> Iterator[str]:
    """Serve the last of some answers to whatever is asked: a text as it is, anything else as JSON."""

    class Handler(JsonHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answers[-1]
            if isinstance(body, str):
                self.written(status, body)
            else:
                self.answer(status, body)

        def written(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("pair", PAIRS["answers"], ids=lambda pair: pair["what"])
@pytest.mark.fault("C22")
def test_the_provider_understands_what_is_answered(project: Project, pair: dict[str, Any]):
    with canned([(pair["status"], pair["body"])]) as address:
        client = Client("test-project", Budget(project.clock), address)
        if pair["of"] == "operation":
            begun = Operation(Handle("start", ZONE, "vm-1", "operation-1").name, "gcp", "running")
            told = Gcp("gcp", client, Catalog({})).poll(begun)
            assert (told.state, (told.error or "").partition(":")[0]) == ("failed", pair["means"])
            return
        name = "locations/us-central1-a/clusters/research/nodePools/gpus"
        call = ("clusters", "set_node_pool_size", {"name": name, "node_count": 3})
        if pair["of"] == "compute":
            call = ("instances", "start", {"zone": ZONE, "instance": "vm-1"})
        with pytest.raises(getattr(errors, pair["means"])) as found:
            client.mutate(*call[:2], **call[2])
    assert type(found.value).__name__ == pair["means"]
    assert "\n" not in str(found.value)


def shape(value: object) -> object:
    """Reduce an answer to what a client can act upon: no names, messages or numbers of requests."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in sorted(value.items()) if key not in ("message", "requestId", "name")}
    if isinstance(value, list):
        return [shape(one) for one in value if not (isinstance(one, dict) and "RequestInfo" in str(one.get("@type")))]
    return value


def asked(project: Project, verb: str, target: str, body: bytes | None = None) -> dict[str, Any]:
    request = urllib.request.Request(project.emulator.url + target, body, method=verb)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def answer_of(project: Project, what: str) -> dict[str, Any]:
    """Bring the emulator to give an answer by its own rules, no fault being scripted."""
    zone = f"/compute/v1/projects/test-project/zones/{ZONE}"
    prepared(project, "start")
    if what == "no such instance":
        return asked(project, "GET", f"{zone}/instances/vm-9")
    if what == "the cluster is in another operation":
        project.emulator.gke.occupy("research")
        pool = f"/v1/projects/test-project/locations/{ZONE}/clusters/research/nodePools/gpus"
        return asked(project, "POST", f"{pool}:setSize", b'{"nodeCount": 3}')
    if what == "a quota is used up":
        project.emulator.limit("CPUS", 32)
        return asked(project, "POST", f"{zone}/instances/vm-1/start", b"")
    project.emulator.exhaust("n1-*")
    begun = asked(project, "POST", f"{zone}/instances/vm-1/start", b"")
    project.wait()
    told = asked(project, "GET", f"{zone}/operations/{begun['name']}")
    return {key: told[key] for key in ("name", "status", "error")}


@pytest.mark.parametrize(
    "what",
    ["no such instance", "a quota is used up", "the cluster is in another operation",
     "no stock, told inside the operation"],
)  # fmt: skip
def test_the_emulator_answers_in_the_documented_form(project: Project, what: str):
    (pair,) = (one for one in PAIRS["answers"] if one["what"] == what)
    assert shape(answer_of(project, what)) == shape(pair["body"])


def test_every_pair_names_its_source():
    rows = [*PAIRS["requests"], *PAIRS["answers"]]
    assert all(row["source"].startswith("https://") and isinstance(row["read"], bool) for row in rows)
    assert {row["what"] for row in PAIRS["requests"]} == set(CALLS)
    assert len({row["what"] for row in rows}) == len(rows)
