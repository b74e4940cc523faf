"""Edge: a strict Compute Engine on loopback, with GKE beside it: what Google enforces, asked by Google's own client.

``python -m tests.emulators.gce --port 4590`` serves one that a provider's ``endpoint`` may point at. Every request body
is read, and every answer checked, through the client's own proto types. In tests it runs under a virtual clock, takes
scripted faults, records every call, and may ask before each mutation for its intent.
Rules from Google's documents: "Edit a VM", "Add or remove GPUs", "Resource availability errors", "Request IDs".
"""

import argparse
import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.cloud import compute_v1

from providers.clock import Clock, SystemClock
from providers.simulated.answers import JsonHandler
from tests.emulators import billing, gke
from tests.emulators.billing import Skus
from tests.emulators.gce_groups import Groups
from tests.emulators.gke import Gke, NodePool

Query = Mapping[str, str]
Body = Mapping[str, Any]

TYPES = {
    "n1-standard-8": (8, 30720), "n1-standard-16": (16, 61440), "n1-standard-4": (4, 15360),
    "n2-standard-8": (8, 32768), "g2-standard-12": (12, 49152),
    "a2-highgpu-1g": (12, 87040), "a3-highgpu-8g": (208, 1917952), "t2a-standard-8": (8, 32768),
}  # fmt: skip
FIXED_GPUS = {
    "a2-highgpu-1g": ("nvidia-tesla-a100", 1), "g2-standard-12": ("nvidia-l4", 1),
    "a3-highgpu-8g": ("nvidia-h100-80gb", 8),
}  # fmt: skip
DANGEROUS = (
    "compute.instances.set[MS]e*", "compute.projects.setCommonInstanceMetadata", "resourcemanager.*.setIamPolicy",
)  # fmt: skip
MUTATIONS = frozenset({
    "insert", "delete", "stop", "start", "setMachineType", "setMachineResources", "setScheduling", "resize",
    "deleteInstances", *gke.MUTATIONS,
})  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A scripted fault of the next ``times`` calls of a method (glob). ``reason`` "" breaks the connection."""

    method: str
    reason: str = ""
    status: int = 503
    after: bool = False
    times: int = 1
    message: str = "scripted"


@dataclass(frozen=True)
class Called:
    """One call that came in."""

    at: datetime
    method: str
    name: str
    query: Mapping[str, str]
    outcome: str


class Refusal(Exception):
    """An error status with a reason: of Compute Engine's own, or the name of a gRPC status, with its ``detail``."""

    def __init__(self, status: int, reason: str, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.detail = status, reason, message, detail

    def told(self) -> dict[str, Any]:
        """Write it as the body of an answer, in the form of the API that it is of."""
        error: dict[str, Any] = {"code": self.status, "message": self.message}
        if self.reason.isupper():
            detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "container.googleapis.com"}
            details = [{**detail, "reason": self.detail}] if self.detail else []
            return {"error": {**error, "status": self.reason, "details": details}}
        return {"error": {**error, "errors": [{"reason": self.reason, "message": self.message, "domain": "global"}]}}


class Broken(Exception):
    """The connection breaks without an answer."""


@dataclass
class _Due:
    """What will be at a time: a function that brings it, and the operation that is done by then."""

    at: datetime
    bring: Callable[[], None]
    operation: dict[str, Any]
    errors: list[dict[str, str]] = field(default_factory=list)


class Emulator(Groups):
    """One project. Start it, point an endpoint at ``url``, steer it by the methods below ``close``."""

    project = "test-project"

    def __init__(
        self,
        clock: Clock,
        ask: Callable[[str, str], str | None] | None = None,
        stop_seconds: float = 60.0,
        boot_seconds: float = 30.0,
        change_seconds: float = 3.0,
        operation_seconds: float = 20.0,
    ) -> None:
        self.ask = ask
        self.complaints: list[str] = []
        self.calls: list[Called] = []
        self.sent: list[tuple[str, str, bytes]] = []
        """The same calls as they came in: verb, target and body."""
        self.instances: dict[tuple[str, str], dict[str, Any]] = {}
        self.groups: dict[tuple[str, str], dict[str, Any]] = {}
        self.templates: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.denied: list[str] = [*DANGEROUS]
        """Permissions (globs) that the caller has not, but where ``granted`` on an instance."""
        self.granted: dict[str, tuple[str, ...]] = {}
        self.billing = Skus(self.refuse)
        self.gke = Gke(self.project, self, operation_seconds)
        self._clock = clock
        self._seconds = {"stop": stop_seconds, "boot": boot_seconds, "change": change_seconds}
        self._requests: dict[str, str] = {}
        self._due: list[_Due] = []
        self._faults: list[Fault] = []
        self._spoiled: dict[str, str] = {}
        self._exhausted: list[str] = []
        self._limits: dict[str, float] = {}
        self._lock = threading.RLock()
        self._http: ThreadingHTTPServer | None = None
        self.url = ""

    # Life.

    def start(self, port: int = 0) -> None:
        """Begin to serve on loopback."""
        handler = type("Bound", (_Asked,), {"emulator": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    # What its operator does.

    def fault(self, fault: Fault) -> None:
        """Script a fault."""
        with self._lock:
            self._faults.append(fault)

    def spoil(self, method: str, message: str) -> None:
        """Accept the next call of a method, and let its operation end with an error inside."""
        with self._lock:
            self._spoiled[method] = message

    def exhaust(self, machine_type: str) -> None:
        """Let there be no capacity for a machine type (glob)."""
        with self._lock:
            self._exhausted.append(machine_type)

    def relieve(self) -> None:
        """Let there be capacity again."""
        with self._lock:
            self._exhausted.clear()

    def limit(self, metric: str, amount: float) -> None:
        """Set a regional quota."""
        with self._lock:
            self._limits[metric] = amount

    def tick(self) -> None:
        """Let everything happen that is due."""
        with self._lock:
            self._pass_time()

    def instance(self, name: str, zone: str, machine_type: str, labels: Mapping[str, str] | None = None, **more: Any):
        """Set up an instance that runs."""
        made = self._new(name, zone, {"machineType": machine_type, "labels": dict(labels or {}), **more})
        made["status"] = "RUNNING"
        self.instances[zone, name] = made

    def pool(
        self,
        cluster: str,
        name: str,
        zones: Sequence[str],
        machine_type: str,
        each: int,
        location: str = "",
        **more: Any,
    ) -> NodePool:
        """Set up a node pool with all its nodes running: ``each`` in every zone, in a managed group of its own."""
        labels = {"goog-k8s-cluster-name": cluster, "goog-k8s-node-pool-name": name, **more.get("labels", {})}
        template = f"gke-{cluster}-{name}"
        self.template(template, machine_type, labels)
        groups = [(zone, f"{template}-{zone[-1]}-grp") for zone in zones]
        for zone, group in groups:
            self.group(group, zone, template, each)
        where = location or (zones[0] if len(zones) == 1 else zones[0][:-2])
        return self.gke.add(NodePool(cluster, name, where, machine_type, groups, **more))

    def preempt(self, zone: str, name: str) -> None:
        """Take a spot machine: it is stopped, and an operation of Google's own says so."""
        instance = self.instances[zone, name]
        assert instance["scheduling"].get("provisioningModel") == "SPOT"
        instance["status"] = "STOPPING"
        done = self._order(zone, "compute.instances.preempted", 30.0, lambda: instance.update(status="TERMINATED"))
        done["targetLink"] = f"https://www.googleapis.com/compute/v1/{self._address(zone)}/instances/{name}"
        done["statusMessage"] = "Instance was preempted."

    # What its parts need.

    def later(self, seconds: float, bring: Callable[[], None]) -> None:
        """Let something happen after a time."""
        self._due.append(_Due(self._clock.now() + timedelta(seconds=seconds), bring, {}))

    def refuse(self, status: int, reason: str, message: str, detail: str = "") -> Exception:
        """Make a refusal."""
        return Refusal(status, reason, message, detail)

    def machines(self) -> list[str]:
        """Give the provider ids of the machines that run, as their nodes name them."""
        with self._lock:
            self._pass_time()
            here = [(zone, name) for (zone, name), one in self.instances.items() if one["status"] == "RUNNING"]
        return [f"gce://{self.project}/{zone}/{name}" for zone, name in here]

    # A request's way.

    def answer(self, verb: str, path: str, body: bytes) -> dict[str, Any]:
        """Answer one request. Raises ``Refusal`` or ``Broken``."""
        self.sent.append((verb, path, body))
        parts = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        names = parts.path.removeprefix("/compute/v1/projects/").split("/")[1:]
        there: Mapping[str, str] = {}
        if sold := billing.PATH.fullmatch(parts.path):
            method, name, there = "skus/list", "", sold.groupdict()
        elif parts.path == f"/v1/projects/{self.project}:testIamPermissions":
            method, name = "projects/testIamPermissions", ""
        elif parts.path.startswith("/v1/"):
            method, there = gke.named(verb, parts.path)
            name = there.get("pool", "")
        else:
            method, name = _method(verb, names)
        outcome = "ok"
        try:
            with self._lock:
                self._pass_time()
                return self._handled(method, name, self._made(method, names, there, query, body))
        except Refusal as refusal:
            outcome = refusal.reason
            raise
        except Broken:
            outcome = "broken"
            raise
        finally:
            self.calls.append(Called(self._clock.now(), method, name, query, outcome))

    def _handled(self, method: str, name: str, made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if method in MUTATIONS and self.ask is not None and (complaint := self.ask(method, name)):
            self.complaints.append(complaint)
            raise Refusal(400, "noIntent", complaint)
        self._fail(method, after=False)
        answer = made()
        self._fail(method, after=True)
        return answer

    def _made(
        self, method: str, names: list[str], there: Mapping[str, str], query: dict[str, str], body: bytes
    ) -> Callable[[], dict[str, Any]]:
        if method == "skus/list":
            return lambda: self.billing.answer(there["service"], query)
        if method == "projects/testIamPermissions":
            return lambda: self._project_permissions(body)
        return (lambda: self.gke.answer(method, there, body)) if there else self._compute(method, names, query, body)

    def _compute(
        self, method: str, names: list[str], query: dict[str, str], body: bytes
    ) -> Callable[[], dict[str, Any]]:
        def made() -> dict[str, Any]:
            repeated = self._requests.get(query.get("requestId", ""))
            if repeated is not None:
                return self.operations[repeated]
            handler = getattr(self, "_" + re.sub(r"(?=[A-Z])", "_", method).lower().replace("/", "_"))
            answer: dict[str, Any] = handler(names, query, json.loads(body or b"{}"))
            if method in MUTATIONS and "requestId" in query:
                uuid.UUID(query["requestId"])  # Google refuses anything else
                self._requests[query["requestId"]] = answer["name"]
            return answer

        return made

    def _fail(self, method: str, after: bool) -> None:
        for place, fault in enumerate(self._faults):
            if fault.after == after and fnmatchcase(method, fault.method):
                left = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                self._faults[place : place + 1] = left
                if not fault.reason:
                    raise Broken
                raise Refusal(fault.status, fault.reason, fault.message)

    def _pass_time(self) -> None:
        now = self._clock.now()
        while True:
            ready = sorted((due for due in self._due if due.at <= now), key=lambda due: due.at)
            if not ready:
                return
            due = ready[0]
            self._due.remove(due)
            if due.errors:
                due.operation["error"] = {"errors": due.errors}
            else:
                due.bring()
            due.operation["status"] = "DONE"

    def _order(
        self, zone: str, kind: str, seconds: float, bring: Callable[[], None], errors: Sequence[dict[str, str]] = ()
    ) -> dict[str, Any]:
        operation = {
            "name": f"operation-{uuid.uuid4().hex[:12]}", "status": "RUNNING", "operationType": kind,
            "insertTime": self._clock.now().isoformat(),
            **({"zone": self._address(zone)} if zone[-2] == "-" else {"region": self.address("regions", zone)}),
        }  # fmt: skip
        message = self._spoiled.pop(kind, None)
        told = [{"code": "INTERNAL_ERROR", "message": message}] if message else list(errors)
        self.operations[operation["name"]] = operation
        self._due.append(_Due(self._clock.now() + timedelta(seconds=seconds), bring, operation, told))
        return operation

    def _address(self, zone: str) -> str:
        return f"projects/{self.project}/zones/{zone}"

    # Instances.

    def _new(self, name: str, zone: str, body: Mapping[str, Any]) -> dict[str, Any]:
        kind = str(body["machineType"]).rpartition("/")[2]
        gpus = list(body.get("guestAccelerators", ()))
        if kind in FIXED_GPUS:
            accelerator, count = FIXED_GPUS[kind]
            gpus = [{"acceleratorType": accelerator, "acceleratorCount": count}]
        scheduling = {"onHostMaintenance": "TERMINATE" if gpus else "MIGRATE", **body.get("scheduling", {})}
        return {
            "name": name, "zone": self._address(zone), "machineType": f"{self._address(zone)}/machineTypes/{kind}",
            "status": "PROVISIONING", "labels": dict(body.get("labels", {})), "guestAccelerators": gpus,
            "scheduling": scheduling, "disks": list(body.get("disks", ({"type": "PERSISTENT", "boot": True},))),
            "metadata": body.get("metadata", {"items": []}), "minCpuPlatform": body.get("minCpuPlatform", ""),
            "creationTimestamp": self._clock.now().isoformat(),
        }  # fmt: skip

    def _at(self, names: list[str]) -> dict[str, Any]:
        zone, name = names[1], names[3]
        if (zone, name) not in self.instances:
            message = f"The resource '{self._address(zone)}/instances/{name}' was not found"
            raise Refusal(404, "notFound", message)
        return self.instances[zone, name]

    def _instances_get(self, names: list[str], query: Query, body: Body):
        return self._at(names)

    def _instances_aggregated(self, names: list[str], query: Query, body: Body):
        wanted = re.fullmatch(r"labels\.([a-z0-9_-]+)(?::\*|=(.*))", query.get("filter", ""))
        assert wanted, query
        key, value = wanted.groups()
        items: dict[str, dict[str, list]] = {}
        for (zone, _), one in self.instances.items():
            if key in one["labels"] and value in (None, one["labels"][key]):
                items.setdefault(f"zones/{zone}", {"instances": []})["instances"].append(one)
        return {"items": items}

    def _stop(self, names: list[str], query: Query, body: Body):
        instance = self._at(names)
        if instance["status"] in ("TERMINATED", "STOPPING"):
            return self._order(names[1], "stop", 0.0, lambda: None)
        if instance["status"] != "RUNNING":
            raise _not_ready(instance)
        if self._spoiled.get("stop"):
            return self._order(names[1], "stop", self._seconds["stop"], lambda: None)
        instance["status"] = "STOPPING"
        return self._order(names[1], "stop", self._seconds["stop"], lambda: instance.update(status="TERMINATED"))

    def _start(self, names: list[str], query: Query, body: Body):
        instance = self._at(names)
        if instance["status"] == "RUNNING":
            return self._order(names[1], "start", 0.0, lambda: None)
        if instance["status"] != "TERMINATED":
            raise _not_ready(instance)
        gpus = bool(instance["guestAccelerators"])
        if gpus and instance["scheduling"]["onHostMaintenance"] != "TERMINATE":
            raise Refusal(400, "badRequest", "Instances with guest accelerators do not support live migration.")
        kind = instance["machineType"].rpartition("/")[2]
        short = self._short(names[1], kind)
        if not short and not self._spoiled.get("start"):
            self._room(names[1], instance)
            instance["status"] = "STAGING"
        at = self._clock.now().isoformat()
        return self._order(
            names[1], "start", self._seconds["boot"],
            lambda: instance.update(status="RUNNING", lastStartTimestamp=at), errors=short,
        )  # fmt: skip

    def _short(self, zone: str, kind: str) -> list[dict[str, str]]:
        if not any(fnmatchcase(kind, pattern) for pattern in self._exhausted):
            return []
        message = f"The zone '{self._address(zone)}' does not have enough resources available: no capacity for {kind}."
        return [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": message}]

    def _room(self, zone: str, instance: Mapping[str, Any]) -> None:
        """Refuse what passes the quota of vCPUs or GPUs."""
        for metric, amount in _counted(instance).items():
            limit, used = self._limits.get(metric, 1e6), self._used().get(metric, 0.0)
            if used + amount > limit:
                raise Refusal(
                    403, "quotaExceeded", f"Quota '{metric}' exceeded. Limit: {limit:g} in region {zone[:-2]}."
                )

    def _used(self) -> dict[str, float]:
        used: dict[str, float] = {}
        for instance in self.instances.values():
            if instance["status"] not in ("TERMINATED", "STOPPING"):
                for metric, amount in _counted(instance).items():
                    used[metric] = used.get(metric, 0.0) + amount
        return used

    def _stopped(self, names: list[str]) -> dict[str, Any]:
        instance = self._at(names)
        if instance["status"] != "TERMINATED":
            raise Refusal(400, "badRequest", f"'{instance['name']}' must be in TERMINATED state to be changed.")
        return instance

    def _set_machine_type(self, names: list[str], query: Query, body: Body):
        told = compute_v1.InstancesSetMachineTypeRequest.from_json(json.dumps(body))
        instance, kind = self._stopped(names), told.machine_type.rpartition("/")[2]
        if kind not in TYPES and not _custom(kind):
            raise Refusal(400, "invalid", f"Invalid value for field 'machineType': '{kind}'.")
        if instance["guestAccelerators"] and not kind.startswith(("n1-", "custom-")):
            raise Refusal(
                400, "badRequest", f"[{kind}] features are not compatible with accelerators of this instance."
            )
        address = f"{self._address(names[1])}/machineTypes/{kind}"
        return self._order(
            names[1], "setMachineType", self._seconds["change"], lambda: instance.update(machineType=address)
        )

    def _set_scheduling(self, names: list[str], query: Query, body: Body):
        told = compute_v1.Scheduling.from_json(json.dumps(body))
        instance = self._stopped(names)
        if instance["guestAccelerators"] and told.on_host_maintenance != "TERMINATE":
            raise Refusal(400, "badRequest", "Instances with guest accelerators do not support live migration.")
        return self._order(
            names[1], "setScheduling", self._seconds["change"],
            lambda: instance["scheduling"].update(onHostMaintenance=told.on_host_maintenance),
        )  # fmt: skip

    def _set_machine_resources(self, names: list[str], query: Query, body: Body):
        told = compute_v1.InstancesSetMachineResourcesRequest.from_json(json.dumps(body))
        instance = self._stopped(names)
        gpus = [
            {"acceleratorType": one.accelerator_type, "acceleratorCount": one.accelerator_count}
            for one in told.guest_accelerators
        ]
        kind = instance["machineType"].rpartition("/")[2]
        if gpus and not kind.startswith(("n1-", "custom-")):
            raise Refusal(400, "badRequest", f"[{kind}] does not support accelerators.")
        if gpus and instance["scheduling"]["onHostMaintenance"] != "TERMINATE":
            raise Refusal(400, "badRequest", "Instances with guest accelerators do not support live migration.")
        return self._order(
            names[1], "setMachineResources", self._seconds["change"], lambda: instance.update(guestAccelerators=gpus)
        )

    def _insert(self, names: list[str], query: Query, body: Body):
        told = json.loads(compute_v1.Instance.to_json(compute_v1.Instance.from_json(json.dumps(body))))
        zone, name = names[1], told["name"]
        if (zone, name) in self.instances:
            raise Refusal(409, "alreadyExists", f"The resource '{self._address(zone)}/instances/{name}' already exists")
        template = query.get("sourceInstanceTemplate", "").rpartition("/")[2]
        if template not in self.templates:
            raise Refusal(404, "notFound", f"The resource 'instanceTemplates/{template}' was not found")
        kind = str(body["machineType"]).rpartition("/")[2]
        if kind not in TYPES and not _custom(kind):
            raise Refusal(400, "invalid", f"Invalid value for field 'resource.machineType': '{kind}'.")
        made = self._new(name, zone, body)
        self._room(zone, made)
        short = self._short(zone, kind)
        if not short:
            self.instances[zone, name] = made
        return self._order(zone, "insert", self._seconds["boot"], lambda: made.update(status="RUNNING"), errors=short)

    def _delete(self, names: list[str], query: Query, body: Body):
        instance = self._at(names)
        instance["status"] = "STOPPING"
        key = (names[1], names[3])
        return self._order(names[1], "delete", self._seconds["stop"], lambda: self.instances.pop(key, None) and None)

    # Facts.

    def _machine_types_get(self, names: list[str], query: Query, body: Body):
        if names[3] not in TYPES and not _custom(names[3]):
            raise Refusal(404, "notFound", f"The resource 'machineTypes/{names[3]}' was not found")
        cpus, memory = TYPES[names[3]] if names[3] in TYPES else _custom(names[3])
        fixed = FIXED_GPUS.get(names[3])
        gpus = [{"guestAcceleratorType": fixed[0], "guestAcceleratorCount": fixed[1]}] if fixed else []
        return {"name": names[3], "guestCpus": cpus, "memoryMb": memory, "accelerators": gpus}

    def _regions_get(self, names: list[str], query: Query, body: Body):
        return {"name": names[1], "quotas": [one for one in self._quotas() if one["metric"] != "GPUS_ALL_REGIONS"]}

    def _projects_get(self, names: list[str], query: Query, body: Body):
        return {"name": self.project, "quotas": [one for one in self._quotas() if one["metric"] == "GPUS_ALL_REGIONS"]}

    def _quotas(self) -> list[dict[str, Any]]:
        used = self._used()
        return [
            {"metric": metric, "limit": self._limits.get(metric, 1e6), "usage": used.get(metric, 0.0)}
            for metric in sorted({*self._limits, *used})
        ]

    def _operations_list(self, names: list[str], query: Query, body: Body):
        wanted = re.fullmatch(r'operationType="([a-zA-Z.]+)"', query.get("filter", 'operationType="none"'))
        assert wanted, query
        return {"items": [one for one in self.operations.values() if one["operationType"] == wanted[1]]}

    def _test_iam_permissions(self, names: list[str], query: Query, body: Body):
        """Say which of the permissions asked about are granted on an instance, the project's among them."""
        told = compute_v1.TestPermissionsRequest.from_json(json.dumps(body))
        own = self.granted.get(self._at(names)["name"], ())
        return {"permissions": [one for one in told.permissions if one in own or self._allowed(one)]}

    def _project_permissions(self, body: bytes) -> dict[str, Any]:
        return {"permissions": [one for one in json.loads(body)["permissions"] if self._allowed(one)]}

    def _allowed(self, permission: str) -> bool:
        return not any(fnmatchcase(permission, pattern) for pattern in self.denied)

    def _operations_get(self, names: list[str], query: Query, body: Body):
        found = self.operations.get(names[3])
        if found is None or not found.get(names[0][:-1], "").endswith(f"/{names[1]}"):
            raise Refusal(404, "notFound", f"The resource 'operations/{names[3]}' was not found")
        return found

    def _instance_templates_get(self, names: list[str], query: Query, body: Body):
        if names[-1] not in self.templates:
            raise Refusal(404, "notFound", f"The resource 'instanceTemplates/{names[-1]}' was not found")
        return self.templates[names[-1]]


class _Asked(JsonHandler):
    """One request."""

    emulator: Emulator

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, answer = 200, self.emulator.answer(self.command, self.path, body)
        except Refusal as refusal:
            status, answer = refusal.status, refusal.told()
        except Broken:
            self.close_connection = True
            return
        self.answer(status, answer)

    do_GET = do_POST = do_DELETE = _serve


def _method(verb: str, names: list[str]) -> tuple[str, str]:
    """Name what a request asks, and of which resource; ``names`` are the parts of its path after the project."""
    if not names:
        return "projects/get", ""
    if names[0] == "aggregated":
        return f"{names[1]}/aggregated", ""
    if names[0] == "global":
        return f"{names[1]}/get", names[2]
    if names[0] == "regions" and len(names) == 2:
        return "regions/get", names[1]
    kind, name = names[2], names[3] if len(names) > 3 else ""
    if verb == "GET":
        return f"{kind}/get" if name else f"{kind}/list", name
    if verb == "DELETE":
        return "delete", name
    return (names[4] if len(names) > 4 else "insert"), name


def _counted(instance: Mapping[str, Any]) -> dict[str, float]:
    kind = instance["machineType"].rpartition("/")[2]
    family = kind.partition("-")[0].replace("custom", "n1")
    spot = instance["scheduling"].get("provisioningModel") == "SPOT"
    metric = "PREEMPTIBLE_CPUS" if spot else "CPUS" if family in ("n1", "e2") else f"{family.upper()}_CPUS"
    found = {metric: float((TYPES.get(kind) or _custom(kind))[0])}
    for gpu in instance["guestAccelerators"]:
        model = str(gpu["acceleratorType"]).rpartition("/")[2].removeprefix("nvidia-").removeprefix("tesla-")
        name = f"NVIDIA_{model.upper().replace('-', '_')}_GPUS"
        found[f"PREEMPTIBLE_{name}" if spot else name] = float(gpu["acceleratorCount"])
        found["GPUS_ALL_REGIONS"] = float(gpu["acceleratorCount"])
    return found


def _custom(kind: str) -> tuple[int, int]:
    """Read vCPUs and memory of a custom type by the rules of "Create a VM with a custom machine type"; () for none."""
    found = re.fullmatch(r"(?:(n2|n2d|e2)-)?custom-(\d+)-(\d+)", kind)
    if not found:
        return ()  # type: ignore[return-value]
    cpus, memory = int(found[2]), int(found[3])
    most = 8192 if found[1] else 6656
    legal = (cpus == 1 or cpus % 2 == 0) and memory % 256 == 0 and 512 * cpus <= memory <= most * cpus
    return (cpus, memory) if legal else ()  # type: ignore[return-value]


def _not_ready(instance: Mapping[str, Any]) -> Refusal:
    message = f"The resource '{instance['name']}' is not ready: it is {instance['status']}"
    return Refusal(400, "resourceNotReady", message)


def main() -> None:
    """Serve until interrupted; the first line printed is the address."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.gce", description=__doc__)
    parser.add_argument("--port", type=int, default=4590)
    emulator = Emulator(SystemClock())
    emulator.template("trainer", "n1-standard-8")
    emulator.instance("trainer-1", "us-central1-a", "n1-standard-8")
    emulator.start(parser.parse_args().port)
    print(emulator.url, flush=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    emulator.close()


if __name__ == "__main__":
    main()
