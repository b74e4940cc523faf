"""Edge: the strict EKS of the emulated AWS: managed node groups over real groups of the emulated Auto Scaling.

Its rules are written from the EKS API reference (see ``RULES``), not from the provider: one update of a node group at a
time, tokens, bounds, updates that take time and end failed, and issues of health that come from failed launches.
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote

from providers.clock import Clock

RULES = "https://docs.aws.amazon.com/eks/latest/APIReference/API_UpdateNodegroupConfig.html"
MUTATIONS = frozenset({"UpdateNodegroupConfig"})
_NODEGROUP = r"/clusters/(?P<name>[^/]+)/node-groups/(?P<nodegroupName>[^/]+)"
ROUTES = (
    ("GET", re.compile(_NODEGROUP), "DescribeNodegroup"),
    ("POST", re.compile(_NODEGROUP + "/update-config"), "UpdateNodegroupConfig"),
    ("GET", re.compile(r"/clusters/(?P<name>[^/]+)/updates/(?P<updateId>[^/]+)"), "DescribeUpdate"),
)


@dataclass
class Update:
    """A change of a node group's configuration, and what becomes of it when it is due."""

    id: str
    token: str
    asked: Mapping[str, Any]
    began: datetime
    due: datetime
    doom: str = ""
    status: str = "InProgress"


@dataclass
class Nodegroup:
    """A managed node group. Its size is that of its Auto Scaling group; its bounds are its own."""

    cluster: str
    name: str
    group: str
    least: int
    most: int
    status: str = "ACTIVE"
    spot: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    updates: list[Update] = field(default_factory=list)
    issues: dict[str, str] = field(default_factory=dict)


def named(method: str, target: str, query: str, body: bytes) -> tuple[str, dict[str, Any]]:
    """Name the action of a request of EKS's REST protocol, with all its parameters."""
    for verb, path, action in ROUTES:
        found = path.fullmatch(target)
        if found and verb == method:
            told = {key: values[0] for key, values in parse_qs(query).items()}
            parts = {key: unquote(value) for key, value in found.groupdict().items()}
            return action, {**(json.loads(body) if body else {}), **told, **parts}
    return f"{method} {target}", {}


class Eks:
    """The node groups of one account. ``scale`` sets an Auto Scaling group's size; ``told`` gives it, and why not."""

    def __init__(
        self,
        clock: Clock,
        refuse: Callable[[str, str, int], Exception],
        scale: Callable[[str, int, int, int], None],
        told: Callable[[str], tuple[int, str]],
        update_seconds: float = 20.0,
    ) -> None:
        self.nodegroups: dict[tuple[str, str], Nodegroup] = {}
        self.doomed: list[tuple[str, str]] = []
        self.forgetful = False
        self._clock, self._refuse, self._scale, self._told = clock, refuse, scale, told
        self._seconds = timedelta(seconds=update_seconds)

    # What its operator does.

    def add(self, cluster: str, name: str, group: str, bounds: tuple[int, int], **more: Any) -> Nodegroup:
        """Put a node group over an Auto Scaling group that is there."""
        self.nodegroups[cluster, name] = Nodegroup(cluster, name, group, *bounds, **more)
        return self.nodegroups[cluster, name]

    def spoil(self, code: str, message: str) -> None:
        """Accept the next update, and let it fail by an error of the documented list."""
        self.doomed.append((code, message))

    # Answers.

    def answer(self, action: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one request."""
        self.pass_time()
        match action:
            case "DescribeNodegroup":
                return {"nodegroup": self._shown(self._found(told["name"], told["nodegroupName"]))}
            case "UpdateNodegroupConfig":
                return {"update": _update(self._updated(self._found(told["name"], told["nodegroupName"]), told))}
            case "DescribeUpdate":
                return {"update": _update(self._update(told))}
            case _:
                raise self._refuse("BadRequestException", f"there is no {action} here", 400)

    def _found(self, cluster: str, name: str) -> Nodegroup:
        if not any(one.cluster == cluster for one in self.nodegroups.values()):
            raise self._refuse("ResourceNotFoundException", f"No cluster found for name: {cluster}.", 404)
        found = self.nodegroups.get((cluster, name))
        if found is None:
            raise self._refuse("ResourceNotFoundException", f"No node group found for name: {name}.", 404)
        return found

    def _update(self, told: Mapping[str, Any]) -> Update:
        """An update of a node group is found only where its node group is named too."""
        pool = self._found(told["name"], told.get("nodegroupName", ""))
        for update in pool.updates:
            if update.id == told["updateId"]:
                return update
        raise self._refuse("ResourceNotFoundException", f"No update found for ID: {told['updateId']}", 404)

    def _updated(self, pool: Nodegroup, told: Mapping[str, Any]) -> Update:
        token, asked = told.get("clientRequestToken", ""), told.get("scalingConfig", {})
        if not token:
            raise self._refuse("InvalidParameterException", "clientRequestToken is needed here", 400)
        for update in () if self.forgetful else pool.updates:
            if update.token == token:
                if update.asked != asked:
                    raise self._refuse("InvalidParameterException", "the token was used for another request", 400)
                return update
        if any(update.status == "InProgress" for update in pool.updates):
            raise self._refuse("ResourceInUseException", f"Nodegroup {pool.name} has an update in progress", 409)
        if pool.status in ("CREATING", "DELETING", "CREATE_FAILED", "DELETE_FAILED"):
            raise self._refuse("InvalidRequestException", f"Nodegroup {pool.name} is {pool.status}", 400)
        size = int(asked.get("desiredSize", self._told(pool.group)[0]))
        least, most = int(asked.get("minSize", pool.least)), int(asked.get("maxSize", pool.most))
        if not least <= size <= most:
            message = f"desired capacity {size} must be between min size {least} and max size {most}"
            raise self._refuse("InvalidParameterException", message, 400)
        now = self._clock.now()
        doom = ": ".join(self.doomed.pop(0)) if self.doomed else ""
        pool.updates.append(Update(str(uuid.uuid4()), token, asked, now, now + self._seconds, doom))
        return pool.updates[-1]

    def pass_time(self) -> None:
        """End the updates that are due, and let issues of health follow what the groups tell."""
        now = self._clock.now()
        for pool in self.nodegroups.values():
            for update in pool.updates:
                if update.status == "InProgress" and now >= update.due:
                    update.status = "Failed" if update.doom else "Successful"
                    if not update.doom:
                        pool.least = int(update.asked.get("minSize", pool.least))
                        pool.most = int(update.asked.get("maxSize", pool.most))
                        size = int(update.asked.get("desiredSize", self._told(pool.group)[0]))
                        self._scale(pool.group, pool.least, pool.most, size)
            _, fault = self._told(pool.group)
            if fault:
                pool.issues["AsgInstanceLaunchFailures"] = fault
            else:
                pool.issues.pop("AsgInstanceLaunchFailures", None)

    def _shown(self, pool: Nodegroup) -> dict[str, Any]:
        busy = any(update.status == "InProgress" for update in pool.updates)
        healthy = "DEGRADED" if pool.issues and pool.status == "ACTIVE" else pool.status
        return {
            "nodegroupName": pool.name, "clusterName": pool.cluster, "tags": pool.tags,
            "status": "UPDATING" if busy and pool.status == "ACTIVE" else healthy,
            "capacityType": "SPOT" if pool.spot else "ON_DEMAND",
            "scalingConfig": {"minSize": pool.least, "maxSize": pool.most, "desiredSize": self._told(pool.group)[0]},
            "resources": {"autoScalingGroups": [{"name": pool.group}] if pool.status != "CREATING" else []},
            "health": {
                "issues": [{"code": c, "message": m, "resourceIds": [pool.group]} for c, m in pool.issues.items()]
            },
        }  # fmt: skip


def _update(update: Update) -> dict[str, Any]:
    errors = []
    if update.status == "Failed":
        code, _, message = update.doom.partition(": ")
        errors = [{"errorCode": code, "errorMessage": message, "resourceIds": []}]
    params = [{"type": key, "value": str(value)} for key, value in update.asked.items()]
    return {
        "id": update.id, "status": update.status, "type": "ConfigUpdate", "params": params,
        "createdAt": update.began.timestamp(), "errors": errors,
    }  # fmt: skip
