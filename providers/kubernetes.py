"""Edge: a Kubernetes cluster's nodes: which are ready, and how one is emptied before it is ended.

Draining goes through the eviction API, which keeps to disruption budgets: an eviction refused by one (429) waits. Pods
of a DaemonSet and mirror pods stay, as ``kubectl drain`` leaves them. Nothing here belongs to a cloud.

Calls: ``GET /api/v1/nodes``, ``GET /api/v1/pods``, ``PATCH /api/v1/nodes/NAME`` and
``POST /api/v1/namespaces/NS/pods/NAME/eviction`` (Kubernetes API reference, v1 and policy/v1).
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, SSLError

from providers import kubeconfig
from providers.budget import Budget
from providers.clock import Clock
from providers.errors import (
    AnswerLost,
    Busy,
    Incompatible,
    Invalid,
    NotFound,
    NotPermitted,
    ProviderError,
    Throttled,
    Unavailable,
)
from providers.kubeconfig import Access
from providers.types import MachineState, Node

MARK = "scaleahead/leaving"
"""The annotation of a node that was cordoned here; only what carries it is ever uncordoned."""
MIRROR = "kubernetes.io/config.mirror"
PAGE = 500
MOST_PAGES = 200
CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
_ERRORS: Mapping[int, type[ProviderError]] = {
    401: NotPermitted, 403: NotPermitted, 404: NotFound, 409: Busy, 410: Unavailable, 429: Throttled,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KubeNode:
    """A node. ``provider_id`` names its machine in its cloud, ``leaving`` says that it was cordoned here."""

    name: str
    provider_id: str
    ready: bool
    schedulable: bool
    leaving: bool

    @property
    def machine(self) -> str:
        """Name the machine: what stands last, as in aws:///us-east-1a/i-0abc or gce://project/zone/name."""
        return self.provider_id.rpartition("/")[2]


Joined = Mapping[str, KubeNode] | None
"""The nodes of a cluster by the id of their machine; ``None`` where no kubeconfig lets us ask."""


@dataclass(frozen=True, slots=True)
class Left:
    """A pod that has to leave a node and is still there, and why."""

    pod: str
    why: str


class _Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(body.get("message") or f"HTTP {status}"))
        self.status, self.body = status, body


class Cluster:
    """The nodes of one cluster. Every method may block and raises ``providers.errors`` only; all may be repeated."""

    def __init__(self, name: str, access: Access, budget: Budget) -> None:
        self._name = name
        self._access = access
        self._budget = budget
        self._pool = urllib3.PoolManager(
            maxsize=8, retries=False, ssl_context=access.tls, timeout=urllib3.Timeout(CONNECT_SECONDS, READ_SECONDS)
        )
        self._renewing = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def nodes(self) -> list[KubeNode]:
        """List all nodes."""
        return [_node(one) for one in self._all("/api/v1/nodes")]

    def cordon(self, node: KubeNode, mark: str) -> None:
        """Let no new pod onto a node. One that somebody else cordoned is left as it is, without the mark."""
        if not node.schedulable:
            return
        self._patch(node, {"metadata": {"annotations": {MARK: mark}}, "spec": {"unschedulable": True}})

    def uncordon(self, node: KubeNode) -> None:
        """Let pods onto a node again that was cordoned here; any other is left as it is."""
        if not node.leaving:
            return
        self._patch(node, {"metadata": {"annotations": {MARK: None}}, "spec": {"unschedulable": None}})

    def drain(self, node: KubeNode) -> tuple[Left, ...]:
        """Ask all pods that must go to leave, once each, and say which are still there: none once it is empty.

        To be repeated until then. Raises ``Incompatible``, with nobody asked to leave, where a pod would be lost:
        nothing would start it again elsewhere.
        """
        pods = [one for one in self._all("/api/v1/pods", fieldSelector=f"spec.nodeName={node.name}") if _must_go(one)]
        lone = [_pod_name(one) for one in pods if _controller(one) is None and not _leaves(one)]
        if lone:
            raise Incompatible(
                f"node {node.name} runs {', '.join(sorted(lone))}, which nothing would start again elsewhere - give it "
                f"a Job or another controller, or delete it"
            )
        return tuple(left for one in pods if (left := self._evict(one)) is not None)

    def _evict(self, pod: Mapping[str, Any]) -> Left | None:
        name, space = str(pod["metadata"]["name"]), str(pod["metadata"]["namespace"])
        if _leaves(pod):
            return Left(_pod_name(pod), "it is ending")
        body = {
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": space},
            # Another pod may have come under this name meanwhile, elsewhere.
            "deleteOptions": {"preconditions": {"uid": pod["metadata"]["uid"]}},
        }  # fmt: skip
        path = f"/api/v1/namespaces/{quote(space)}/pods/{quote(name)}/eviction"
        try:
            self._send("POST", path, body)
        except _Refused as refused:
            if refused.status in (404, 409):
                return None  # gone, or of another uid: that one is not on this node
            if _by_budget(refused):
                return Left(_pod_name(pod), str(refused))
            raise self._error(refused, f"eviction of {_pod_name(pod)}") from None
        return Left(_pod_name(pod), "it was asked to leave")

    def _patch(self, node: KubeNode, change: Mapping[str, Any]) -> None:
        try:
            self._send("PATCH", f"/api/v1/nodes/{quote(node.name)}", change)
        except _Refused as refused:
            raise self._error(refused, f"change of node {node.name}") from None

    def _all(self, path: str, **query: str) -> Iterator[Mapping[str, Any]]:
        """Go through all pages of a list. Raises ``Unavailable`` rather than cut it short."""
        more = ""
        for _ in range(MOST_PAGES):
            told = {**query, "limit": str(PAGE), **({"continue": more} if more else {})}
            try:
                answer = self._send("GET", f"{path}?{urlencode(told)}")
            except _Refused as refused:
                raise self._error(refused, f"list of {path.rpartition('/')[2]}") from None
            yield from answer.get("items") or ()
            more = str(answer.get("metadata", {}).get("continue") or "")
            if not more:
                return
        raise Unavailable(f"cluster {self._name}: {path} does not come to its last page - ask again")

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Make one call; with an expired token once more, with a fresh one. Raises ``_Refused`` and errors."""
        self._budget.spend(f"kubernetes/{self._name}")
        try:
            return self._once(method, path, body, fresh=False)
        except _Refused as refused:
            if refused.status != 401:
                raise
        with self._renewing:
            return self._once(method, path, body, fresh=True)

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None, fresh: bool) -> Mapping[str, Any]:
        headers = {"Accept": "application/json"}
        if body is not None:
            patch = method == "PATCH"
            headers["Content-Type"] = "application/merge-patch+json" if patch else "application/json"
        token = self._access.token(fresh)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._pool.request(method, self._access.server + path, body=data, headers=headers, redirect=False)
        except HTTPError as error:
            raise self._broken(error, method) from error
        try:
            told = json.loads(answer.data)
        except ValueError:
            told = None
        if answer.status >= 300:
            raise _Refused(answer.status, told if isinstance(told, dict) else {})
        if not isinstance(told, dict):
            raise Unavailable(f"cluster {self._name} answered {path.partition('?')[0]} with no object of JSON")
        return told

    def _broken(self, error: HTTPError, method: str) -> ProviderError:
        text = f"cluster {self._name}: {' '.join(str(error).split())}"
        if isinstance(error, SSLError):
            return Unavailable(f"{text} - compare the kubeconfig's certificate authority")
        if method == "GET" or isinstance(error, NewConnectionError):
            return Unavailable(text)
        return AnswerLost(text)

    def _error(self, refused: _Refused, doing: str) -> ProviderError:
        kind = _ERRORS.get(refused.status)
        if kind is None:
            kind = Unavailable if refused.status >= 500 else Invalid
        advice = " - grant it, see deploy/iam/kubernetes" if refused.status == 403 else ""
        advice = " - renew the credentials of its kubeconfig" if refused.status == 401 else advice
        return kind(f"cluster {self._name}: {doing}: {' '.join(str(refused).split())}{advice}")


class Clusters:
    """The clusters that a kubeconfig lets us speak to, by name; made when first asked for. Safe for threads."""

    def __init__(self, path: str | None, chosen: Mapping[str, str], budget: Budget, clock: Clock) -> None:
        """Take the kubeconfig, ``None`` for none, and by a cluster's name the context where it has another name.

        Raises ``Invalid`` for a file that cannot be used, and for a context that it lacks.
        """
        self._path, self._chosen = path, chosen
        self._budget, self._clock = budget, clock
        self._made: dict[str, Cluster] = {}
        self._making = threading.Lock()
        if path is not None:
            kubeconfig.contexts(path)
            for context in chosen.values():
                kubeconfig.read(path, context, clock)

    def of(self, name: str) -> Cluster | None:
        """Give a cluster; ``None`` without a kubeconfig. Raises ``Invalid`` for one that it does not name."""
        if self._path is None:
            return None
        with self._making:
            if name not in self._made:
                context = self._chosen.get(name) or kubeconfig.context_of(name, self._path)
                self._made[name] = Cluster(name, kubeconfig.read(self._path, context, self._clock), self._budget)
            return self._made[name]

    def joined(self, name: str) -> Joined:
        """List a cluster's nodes by their machines; ``None`` without a kubeconfig."""
        cluster = self.of(name)
        return None if cluster is None else {node.machine: node for node in cluster.nodes()}

    def empty(self, name: str, victims: Sequence[str], mark: str) -> None:
        """Cordon the nodes of all victims, then ask all their pods to leave. Raises ``Busy`` while any is there.

        A machine that never joined its cluster has no pods. Without a kubeconfig nothing is asked.
        """
        cluster = self.of(name)
        if cluster is None or not victims:
            return
        joined = self.joined(name) or {}
        nodes = [joined[victim] for victim in victims if victim in joined]
        for node in nodes:
            cluster.cordon(node, mark)
        left = [one for node in nodes for one in cluster.drain(node)]
        if left:
            told = "; ".join(f"{one.pod}: {one.why}" for one in left[:3])
            raise Busy(f"{len(left)} pods have still to leave the nodes to be removed: {told}")

    def give_back(self, name: str, machines: Sequence[str]) -> None:
        """Let work onto nodes again that were cordoned here; one that a person cordoned is left as it is."""
        cluster, joined = self.of(name), self.joined(name)
        for machine in machines:
            if cluster is not None and joined is not None and machine in joined:
                cluster.uncordon(joined[machine])

    def close(self) -> None:
        """Close all connections."""
        with self._making:
            for cluster in self._made.values():
                cluster.close()


def seen(machine: Node, joined: Joined) -> Node:
    """Read a machine as its cluster sees it: where that can be asked, it runs once its node is ready."""
    if joined is None:
        return machine
    node = joined.get(machine.id)
    unready = machine.state == "running" and (node is None or not node.ready)
    state: MachineState = "pending" if unready else machine.state
    return Node(machine.id, state, leaving=node is not None and node.leaving)


def _node(one: Mapping[str, Any]) -> KubeNode:
    spec, metadata = one.get("spec", {}), one["metadata"]
    conditions = {each.get("type"): each.get("status") for each in one.get("status", {}).get("conditions") or ()}
    return KubeNode(
        str(metadata["name"]), str(spec.get("providerID") or ""), conditions.get("Ready") == "True",
        not spec.get("unschedulable"), MARK in (metadata.get("annotations") or {}),
    )  # fmt: skip


def _must_go(pod: Mapping[str, Any]) -> bool:
    """Whether a pod keeps a node from being empty. A DaemonSet's would come back, and a finished one does nothing."""
    if MIRROR in (pod["metadata"].get("annotations") or {}) or _controller(pod) == "DaemonSet":
        return False
    return pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def _controller(pod: Mapping[str, Any]) -> str | None:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((str(one["kind"]) for one in owners if one.get("controller")), None)


def _leaves(pod: Mapping[str, Any]) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _pod_name(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _by_budget(refused: _Refused) -> bool:
    """Whether an eviction was refused by a disruption budget, and not by a server that has too much to do."""
    causes = (refused.body.get("details") or {}).get("causes") or ()
    return refused.status == 429 and any(one.get("reason") == "DisruptionBudget" for one in causes)
