"""The role for draining allows the calls that a drain makes, and no other."""

from datetime import UTC, datetime
from pathlib import Path

from ruamel.yaml import YAML

from providers.budget import Budget
from providers.clock import VirtualClock
from providers.kubeconfig import Access
from providers.kubernetes import Cluster
from tests.emulators.kubernetes import Kubernetes

FILE = Path(__file__).parents[2] / "deploy" / "iam" / "kubernetes" / "drain.yaml"
VERBS = {"GET": "list", "PATCH": "patch", "POST": "create"}


def test_the_role_allows_just_what_a_drain_calls():
    clock = VirtualClock(datetime(2026, 11, 23, 10, 0, tzinfo=UTC))
    emulator = Kubernetes(clock)
    emulator.start()
    try:
        emulator.add("one")
        emulator.run("web-1", "one")
        client = Cluster("research", Access(emulator.url, None, lambda _: "secret"), Budget(clock))
        client.cordon(client.nodes()[0], "t")
        client.drain(client.nodes()[0])
        client.uncordon(client.nodes()[0])
        client.close()
    finally:
        emulator.close()
    used = {(VERBS[call.method], _resource(call.path)) for call in emulator.calls}
    role, binding = YAML(typ="safe", pure=True).load_all(FILE.read_text())
    rules = role["rules"]
    assert used == {(verb, name) for rule in rules for verb in rule["verbs"] for name in rule["resources"]}
    assert len(used) == 4
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def _resource(path: str) -> str:
    parts = path.removeprefix("/api/v1/").split("/")
    return f"pods/{parts[-1]}" if parts[0] == "namespaces" else parts[0]
