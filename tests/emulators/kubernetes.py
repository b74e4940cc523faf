"""Edge: a strict Kubernetes API on loopback: nodes, pods, evictions and the disruption budgets that hold them back.

Its rules are written from the Kubernetes documents (see ``RULES``), not from the client, so that both cannot share a
mistake. Lists come in pages, a token may expire, a patch must name its kind, pods take their time to end, and a pod of
a Deployment comes back on another node.
"""

import json
import re
import ssl
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from providers.clock import Clock
from providers.simulated.answers import JsonHandler

RULES = "https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/"
MUTATIONS = ("PATCH", "POST")


@dataclass
class Pod:
    """A pod. ``owner`` is the kind of its controller, "" for none; ``app`` is its label, which budgets select."""

    name: str
    node: str
    owner: str = "ReplicaSet"
    app: str = "web"
    space: str = "default"
    mirror: bool = False
    phase: str = "Running"
    grace_seconds: float = 30.0
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    ends: datetime | None = None


@dataclass
class Node:
    """A node and the machine it is."""

    name: str
    machine: str
    ready: bool = True
    unschedulable: bool = False
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KubeCall:
    """One call that came in: its method and path, its query and body, and the status it was answered with."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]
    status: int


class Refusal(Exception):
    """A ``Status`` that is no success."""

    def __init__(self, status: int, reason: str, message: str, causes: tuple[dict[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.causes = status, reason, message, causes


class Kubernetes:
    """One cluster. Start it, point a kubeconfig at ``url``, steer it by its fields and the methods below ``close``.

    ``machines``, where given, says which machines run now: a node is made for each, and unmade with it.
    """

    def __init__(self, clock: Clock, token: str | None = "secret", page: int = 2) -> None:
        self.token = token
        self.nodes: dict[str, Node] = {}
        self.pods: list[Pod] = []
        self.budgets: dict[str, int] = {}
        self.calls: list[KubeCall] = []
        self.complaints: list[str] = []
        self.machines: Callable[[], list[str]] | None = None
        self.ask: Callable[[str, str], str | None] | None = None
        self.answers: list[tuple[str, int]] = []
        self.returns = True
        self.url = ""
        self._clock, self._page = clock, page
        self._lock = threading.RLock()

    # Life.

    def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Begin to serve on loopback."""
        emulator = self

        class Handler(_Handler):
            of = emulator

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # What its operator does.

    def add(self, name: str, machine: str = "", **more: Any) -> Node:
        """Let a node join."""
        self.nodes[name] = Node(name, machine or f"aws:///us-east-1a/{name}", **more)
        return self.nodes[name]

    def run(self, name: str, node: str, **more: Any) -> Pod:
        """Run a pod on a node."""
        self.pods.append(Pod(name, node, **more))
        return self.pods[-1]

    def fail(self, method: str, status: int) -> None:
        """Refuse the next call of a method; status 0 breaks the connection after it had its effect."""
        self.answers.append((method, status))

    def on(self, node: str) -> list[str]:
        """Name the pods on a node."""
        self.pass_time()
        return [pod.name for pod in self.pods if pod.node == node]

    # A request's way.

    def handle(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        """Answer one call."""
        address = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        told: dict[str, Any] = json.loads(body) if body else {}
        with self._lock:
            self.pass_time()
            try:
                self._admit(method, address.path, headers)
                status, answer = self._route(method, address.path, query, headers, told)
            except Refusal as refusal:
                status, answer = refusal.status, _status(refusal)
            self.calls.append(KubeCall(method, address.path, query, told, status))
            for place, (of, code) in enumerate(self.answers):
                if (of, code) == (method, 0):
                    del self.answers[place]
                    return 0, {}
            return status, answer

    def _admit(self, method: str, path: str, headers: Any) -> None:
        if self.token is not None and headers.get("Authorization") != f"Bearer {self.token}":
            raise Refusal(401, "Unauthorized", "Unauthorized")
        for place, (of, code) in enumerate(self.answers):
            if of == method and code:
                del self.answers[place]
                raise Refusal(code, "Scripted", "scripted")
        if self.ask is not None and method in MUTATIONS:
            complaint = self.ask(method, path)
            if complaint:
                self.complaints.append(complaint)
                raise Refusal(403, "Forbidden", complaint)

    def _route(
        self, method: str, path: str, query: dict[str, str], headers: Any, told: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        if (method, path) == ("GET", "/api/v1/nodes"):
            return 200, self._listed("NodeList", [_node(one) for one in self.nodes.values()], query)
        if (method, path) == ("GET", "/api/v1/pods"):
            return 200, self._listed("PodList", self._chosen(query.get("fieldSelector", "")), query)
        if found := re.fullmatch(r"/api/v1/nodes/([^/]+)", path):
            return 200, self._patched(method, found[1], headers, told)
        if found := re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/eviction", path):
            return 201, self._evicted(method, found[1], found[2], headers, told)
        raise Refusal(404, "NotFound", "the server could not find the requested resource")

    def _listed(self, kind: str, items: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        begin = int(query.get("continue", "0"))
        end = begin + min(self._page, int(query.get("limit", len(items) or 1)))
        more = {"continue": str(end)} if end < len(items) else {}
        return {
            "kind": kind,
            "apiVersion": "v1",
            "metadata": {"resourceVersion": "1", **more},
            "items": items[begin:end],
        }

    def _chosen(self, selector: str) -> list[dict[str, Any]]:
        key, _, value = selector.partition("=")
        if key != "spec.nodeName":
            raise Refusal(400, "BadRequest", f"field label not supported: {key}")
        return [_pod(one) for one in self.pods if one.node == value]

    def _patched(self, method: str, name: str, headers: Any, told: dict[str, Any]) -> dict[str, Any]:
        if method != "PATCH":
            raise Refusal(405, "MethodNotAllowed", "the server does not allow this method")
        if headers.get("Content-Type") != "application/merge-patch+json":
            raise Refusal(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
        node = self.nodes.get(name)
        if node is None:
            raise Refusal(404, "NotFound", f'nodes "{name}" not found')
        node.unschedulable = bool(told.get("spec", {}).get("unschedulable", node.unschedulable))
        for key, value in told.get("metadata", {}).get("annotations", {}).items():
            if value is None:
                node.annotations.pop(key, None)
            else:
                node.annotations[key] = value
        return _node(node)

    def _evicted(self, method: str, space: str, name: str, headers: Any, told: dict[str, Any]) -> dict[str, Any]:
        if method != "POST" or headers.get("Content-Type") != "application/json":
            raise Refusal(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
        if (told.get("apiVersion"), told.get("kind")) != ("policy/v1", "Eviction"):
            raise Refusal(400, "BadRequest", "does not match the kind Eviction of policy/v1")
        pod = next((one for one in self.pods if (one.space, one.name) == (space, name)), None)
        if pod is None:
            raise Refusal(404, "NotFound", f'pods "{name}" not found')
        wanted = told.get("deleteOptions", {}).get("preconditions", {}).get("uid", pod.uid)
        if wanted != pod.uid:
            raise Refusal(409, "Conflict", f"the UID in the precondition ({wanted}) does not match the UID in record")
        if pod.mirror or pod.owner == "DaemonSet":
            self.complaints.append(f"{name} was evicted and would only come back")
        if pod.ends is None:
            self._hold(pod)
            pod.ends = self._clock.now() + timedelta(seconds=pod.grace_seconds)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def _hold(self, pod: Pod) -> None:
        """Refuse an eviction that a disruption budget does not allow: so many of an app must stay up."""
        least = self.budgets.get(pod.app, 0)
        up = sum(one.app == pod.app and one.ends is None and one.phase == "Running" for one in self.pods)
        if least and up - 1 < least:
            cause = {
                "reason": "DisruptionBudget",
                "message": f"The disruption budget {pod.app} needs {least} healthy pods and has {up} currently",
            }
            message = "Cannot evict pod as it would violate the pod's disruption budget."
            raise Refusal(429, "TooManyRequests", message, (cause,))

    def pass_time(self) -> None:
        """Let pods end whose time has come, start their like elsewhere, and let nodes come and go with machines."""
        now = self._clock.now()
        if self.machines is not None:
            running = self.machines()
            for machine in running:
                name = machine.rpartition("/")[2]
                if name not in self.nodes:
                    self.add(name, machine)
            for name in [name for name, node in self.nodes.items() if node.machine not in running]:
                del self.nodes[name]
        ended = [pod for pod in self.pods if (pod.ends and now >= pod.ends) or pod.node not in self.nodes]
        for pod in ended:
            self.pods.remove(pod)
            free = [node.name for node in self.nodes.values() if node.ready and not node.unschedulable]
            if pod.owner in ("ReplicaSet", "Job") and free and self.returns:
                self.run(f"{pod.name}-again", free[0], owner=pod.owner, app=pod.app, space=pod.space)


class _Handler(JsonHandler):
    of: Kubernetes

    def do_GET(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = self.of.handle(self.command, self.path, self.headers, body)
        if not status:
            self.close_connection = True
            return
        self.answer(status, answer)

    do_POST = do_PATCH = do_DELETE = do_PUT = do_GET


def _status(refusal: Refusal) -> dict[str, Any]:
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": refusal.reason,
        "message": refusal.message, "code": refusal.status,
        **({"details": {"causes": list(refusal.causes)}} if refusal.causes else {}),
    }  # fmt: skip


def _node(node: Node) -> dict[str, Any]:
    spec = {"providerID": node.machine, **({"unschedulable": True} if node.unschedulable else {})}
    conditions = [
        {"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True" if node.ready else "Unknown"},
    ]  # fmt: skip
    metadata = {"name": node.name, **({"annotations": dict(node.annotations)} if node.annotations else {})}
    return {"metadata": metadata, "spec": spec, "status": {"conditions": conditions}}


def _pod(pod: Pod) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": pod.name, "namespace": pod.space, "uid": pod.uid, "labels": {"app": pod.app}}
    if pod.owner:
        metadata["ownerReferences"] = [{"kind": pod.owner, "name": pod.app, "controller": True}]
    if pod.mirror:
        metadata["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    if pod.ends is not None:
        metadata["deletionTimestamp"] = pod.ends.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"metadata": metadata, "spec": {"nodeName": pod.node}, "status": {"phase": pod.phase}}
