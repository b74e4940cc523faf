"""Edge: the strict GKE of the emulated Google Cloud: node pools over real managed groups, one in each of their zones.

Its rules are written from the GKE API reference (see ``RULES``), not from the provider: sizes count nodes a zone, a
cluster is in one operation at a time, operations take time and may be done with an error inside, and there is no
request id. Requests and answers go through the client's own proto types.
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.cloud import container_v1

RULES = (
    "https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters.nodePools/setSize"
)
MUTATIONS = frozenset({"setSize"})
_CLUSTERS = r"/v1/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/clusters"
_POOL = _CLUSTERS + r"/(?P<cluster>[^/]+)/nodePools/(?P<pool>[^/:]+)"
ROUTES = (
    ("GET", re.compile(_CLUSTERS), "clusters/list"),
    ("GET", re.compile(_POOL), "nodePools/get"),
    ("POST", re.compile(_POOL + ":setSize"), "setSize"),
    ("GET", re.compile(r"/v1/projects/[^/]+/locations/(?P<location>[^/]+)/operations/(?P<operation>[^/]+)"),
     "containerOperations/get"),
)  # fmt: skip


class Compute(Protocol):
    """What GKE needs of the emulated Compute Engine."""

    def set_size(self, zone: str, name: str, size: int) -> bool:
        """Set a managed group's size; say whether there is stock for it."""

    def later(self, seconds: float, bring: Callable[[], None]) -> None:
        """Let something happen after a time."""

    def refuse(self, status: int, reason: str, message: str, detail: str = "") -> Exception:
        """Make a refusal."""


@dataclass
class NodePool:
    """A node pool. ``groups`` are its managed groups, as zone and name; ``conditions`` hold code and message."""

    cluster: str
    name: str
    location: str
    machine_type: str
    groups: Sequence[tuple[str, str]]
    status: str = "RUNNING"
    spot: bool = False
    autoscaling: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    accelerators: list[dict[str, Any]] = field(default_factory=list)
    conditions: list[tuple[str, str]] = field(default_factory=list)


def named(verb: str, path: str) -> tuple[str, dict[str, str]]:
    """Name the method of a request of GKE's REST protocol, with the parts of its path."""
    for method, pattern, name in ROUTES:
        found = pattern.fullmatch(path)
        if found and verb == method:
            return name, found.groupdict()
    return f"{verb} {path}", {}


class Gke:
    """The clusters of one project."""

    def __init__(self, project: str, compute: Compute, operation_seconds: float = 20.0) -> None:
        self.pools: dict[tuple[str, str], NodePool] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.quiet = False
        """Whether a lack of stock shows on the managed groups only."""
        self.missing_zones: list[str] = []
        self._project, self._compute, self._seconds = project, compute, operation_seconds
        self._doomed: list[tuple[int, str]] = []

    # What its operator does.

    def add(self, pool: NodePool) -> NodePool:
        """Put a node pool over managed groups that are there."""
        self.pools[pool.cluster, pool.name] = pool
        return pool

    def spoil(self, code: int, message: str) -> None:
        """Accept the next change of size, and let its operation be done with an error inside and no effect."""
        self._doomed.append((code, message))

    def occupy(self, cluster: str, seconds: float = 60.0) -> str:
        """Put a cluster into an operation of somebody else; give its name."""
        return str(self._order(self._of(cluster)[0], "UPGRADE_MASTER", seconds, {})["name"])

    # Answers.

    def answer(self, method: str, names: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """Answer one request."""
        match method:
            case "clusters/list":
                clusters = {one.cluster: one.location for one in self.pools.values()}
                told = [
                    {"name": name, "location": where, "nodePools": [self._shown(one) for one in self._of(name)]}
                    for name, where in clusters.items() if names["location"] in ("-", where)
                ]  # fmt: skip
                return _checked(container_v1.ListClustersResponse, {
                    "clusters": told, "missingZones": self.missing_zones,
                })  # fmt: skip
            case "nodePools/get":
                return _checked(container_v1.NodePool, self._shown(self._found(names)))
            case "setSize":
                told = container_v1.SetNodePoolSizeRequest.from_json(body)
                return _checked(container_v1.Operation, self._sized(self._found(names), told.node_count))
            case "containerOperations/get":
                if names["operation"] not in self.operations:
                    raise self._not_found(f"operations/{names['operation']}")
                return _checked(container_v1.Operation, self.operations[names["operation"]])
            case _:
                raise self._compute.refuse(404, "NOT_FOUND", f"there is no {method} here")

    def _not_found(self, what: str) -> Exception:
        return self._compute.refuse(404, "NOT_FOUND", f"Not found: projects/{self._project}/{what}.")

    def _of(self, cluster: str) -> list[NodePool]:
        return [one for one in self.pools.values() if one.cluster == cluster]

    def _found(self, names: Mapping[str, str]) -> NodePool:
        pool = self.pools.get((names["cluster"], names["pool"]))
        if pool is None or pool.location != names["location"]:
            raise self._not_found(
                f"locations/{names['location']}/clusters/{names['cluster']}/nodePools/{names['pool']}"
            )
        return pool

    def _sized(self, pool: NodePool, each: int) -> dict[str, Any]:
        """Set as many nodes in every zone of a pool: refused while the cluster is in any operation."""
        for one in self.operations.values():
            if one["status"] == "RUNNING" and f"/clusters/{pool.cluster}" in one["targetLink"]:
                text = f"Cluster is running incompatible operation {one['name']}."
                raise self._compute.refuse(400, "FAILED_PRECONDITION", text, "CLUSTER_ALREADY_HAS_OPERATION")
        if each < 0:
            raise self._compute.refuse(400, "INVALID_ARGUMENT", "Node count must not be negative.")
        doom = self._doomed.pop(0) if self._doomed else None
        if doom is not None:
            return self._order(pool, "SET_NODE_POOL_SIZE", self._seconds, {
                "error": {"code": doom[0], "message": doom[1]}
            })  # fmt: skip
        stock = [self._compute.set_size(zone, name, each) for zone, name in pool.groups]
        end: dict[str, Any] = {}
        if not all(stock) and not self.quiet:
            text = f"Instances in node pool {pool.name} could not be created: no capacity for {pool.machine_type}"
            end = {
                "nodepoolConditions": [{"code": "GCE_STOCKOUT", "message": text}],
                "error": {"code": 8, "message": text},
            }
        return self._order(pool, "SET_NODE_POOL_SIZE", self._seconds, end)

    def _order(self, pool: NodePool, kind: str, seconds: float, end: Mapping[str, Any]) -> dict[str, Any]:
        """Begin an operation, and let it be done after a time, with what ``end`` holds inside."""
        place = f"projects/{self._project}/locations/{pool.location}"
        operation = {
            "name": f"operation-{uuid.uuid4().hex[:12]}", "operationType": kind, "status": "RUNNING",
            "location": pool.location,
            "targetLink": f"https://container.googleapis.com/v1/{place}/clusters/{pool.cluster}/nodePools/{pool.name}",
        }  # fmt: skip
        self.operations[operation["name"]] = operation
        self._compute.later(seconds, lambda: operation.update({"status": "DONE", **end}))
        return dict(operation)

    def _shown(self, pool: NodePool) -> dict[str, Any]:
        busy = any(
            one["status"] == "RUNNING" and one["targetLink"].endswith(f"/clusters/{pool.cluster}/nodePools/{pool.name}")
            for one in self.operations.values()
        )
        place = f"https://www.googleapis.com/compute/v1/projects/{self._project}"
        return {
            "name": pool.name, "status": "RECONCILING" if busy and pool.status == "RUNNING" else pool.status,
            "config": {
                "machineType": pool.machine_type, "spot": pool.spot, "resourceLabels": pool.labels,
                "accelerators": pool.accelerators,
            },
            "locations": [zone for zone, _ in pool.groups], "autoscaling": {"enabled": pool.autoscaling},
            "instanceGroupUrls": [f"{place}/zones/{zone}/instanceGroupManagers/{name}" for zone, name in pool.groups],
            "conditions": [{"code": code, "message": message} for code, message in pool.conditions],
        }  # fmt: skip


def _checked(kind: Any, told: Mapping[str, Any]) -> dict[str, Any]:
    """Read an answer into the client's own type, which refuses a field that it does not have."""
    text = json.dumps(told)
    kind.from_json(text)
    answer: dict[str, Any] = json.loads(text)
    return answer
