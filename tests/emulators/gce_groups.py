"""Edge: the managed instance groups of the emulated Compute Engine, zonal and regional.

Rules from Google's documents: "Resize a MIG", "Delete instances from a MIG", "About regional MIGs", "View info about
MIGs" (``currentAction``, ``lastAttempt``). A size that is lowered ends any members; a lack of stock never fails an
operation; a regional group spreads its members over its zones; a member that was lost is made again.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.cloud import compute_v1

Query = Mapping[str, str]
Body = Mapping[str, Any]
Group = dict[str, Any]


class Groups:
    """The part of the emulator that serves managed groups. Those of a region are kept under its name."""

    project: str
    instances: dict[tuple[str, str], dict[str, Any]]
    templates: dict[str, dict[str, Any]]
    groups: dict[tuple[str, str], Group]
    _seconds: Mapping[str, float]
    refuse: Callable[..., Exception]
    later: Callable[[float, Callable[[], None]], None]
    _order: Callable[..., dict[str, Any]]
    _short: Callable[[str, str], list[dict[str, str]]]
    _new: Callable[..., dict[str, Any]]

    # What its operator does.

    def template(self, name: str, machine_type: str, labels: Mapping[str, str] | None = None, **more: Any) -> None:
        """Set up an instance template."""
        properties = {"machineType": machine_type, "labels": dict(labels or {}), **more}
        self.templates[name] = {"name": name, "properties": properties}

    def group(self, name: str, place: str, template: str, size: int, zones: Sequence[str] = ()) -> None:
        """Set up a managed group with all its nodes running, in a zone, or in a region's ``zones``."""
        kind = "regions" if zones else "zones"
        group = self.groups[place, name] = {
            "name": name, kind[:-1]: self.address(kind, place), "targetSize": size, "members": {}, "autoscaler": "",
            "instanceTemplate": f"projects/{self.project}/global/instanceTemplates/{template}",
            "zones": list(zones) or [place],
        }  # fmt: skip
        self._fill(group, at_once=True)

    def vanish(self, zone: str, name: str) -> None:
        """Delete a machine by hand. A managed group makes its member again, under the same name."""
        del self.instances[zone, name]
        for group in self.groups.values():
            if name in group["members"]:
                self._create(group, zone, name, "RECREATING", self._seconds["boot"])

    def set_size(self, place: str, name: str, size: int) -> bool:
        """Set a managed group's size as a person or GKE does; say whether there is stock for it."""
        self._resized(self.groups[place, name], size)
        return not any(member["errors"] for member in self.groups[place, name]["members"].values())

    def address(self, kind: str, place: str) -> str:
        """Give the address of a zone or region."""
        return f"projects/{self.project}/{kind}/{place}"

    # Answers.

    def _group_at(self, names: list[str]) -> Group:
        if (names[1], names[3]) not in self.groups:
            raise self.refuse(404, "notFound", f"The resource 'instanceGroupManagers/{names[3]}' was not found")
        return self.groups[names[1], names[3]]

    def _instance_group_managers_get(self, names: list[str], query: Query, body: Body) -> dict[str, Any]:
        return _told(self._group_at(names))

    def _instance_group_managers_aggregated(self, names: list[str], query: Query, body: Body) -> dict[str, Any]:
        items: dict[str, dict[str, list[Any]]] = {}
        for (place, _), one in self.groups.items():
            scope = f"{'regions' if 'region' in one else 'zones'}/{place}"
            items.setdefault(scope, {"instanceGroupManagers": []})["instanceGroupManagers"].append(_told(one))
        return {"items": items}

    def _list_managed_instances(self, names: list[str], query: Query, body: Body) -> dict[str, Any]:
        found = []
        for name, member in self._group_at(names)["members"].items():
            instance = self.instances.get((member["zone"], name))
            found.append({
                "instance": f"{self.address('zones', member['zone'])}/instances/{name}",
                "currentAction": member["action"], "version": {"instanceTemplate": member["template"]},
                "lastAttempt": {"errors": {"errors": member["errors"]}},
                **({"instanceStatus": instance["status"]} if instance else {}),
            })  # fmt: skip
        return {"managedInstances": found}

    def _resize(self, names: list[str], query: Query, body: Body) -> dict[str, Any]:
        self._resized(self._group_at(names), int(query["size"]))
        return self._order(names[1], "resize", 0.0, lambda: None)

    def _resized(self, group: Group, size: int) -> None:
        members = group["members"]
        group["targetSize"] = size
        waiting = [name for name, member in members.items() if (member["zone"], name) not in self.instances]
        for name in waiting[: max(0, len(members) - size)]:
            del members[name]
        live = list(members)
        for name in live[: max(0, len(live) - size)]:  # any of them, as Google's choice is not ours
            self._retire(group, name)
        self._fill(group)

    def _delete_instances(self, names: list[str], query: Query, body: Body) -> dict[str, Any]:
        kind = compute_v1.InstanceGroupManagersDeleteInstancesRequest
        if names[0] == "regions":
            kind = compute_v1.RegionInstanceGroupManagersDeleteInstancesRequest
        group = self._group_at(names)
        for address in kind.from_json(json.dumps(body)).instances:
            zone, _, victim = address.partition("/zones/")[2].partition("/instances/")
            member = group["members"].get(victim)
            if member is None or member["zone"] != zone:
                raise self.refuse(400, "invalid", f"Instance {address} is not a member of the group.")
            group["targetSize"] -= member["action"] != "DELETING"
            self._retire(group, victim)
        return self._order(names[1], "deleteInstances", 0.0, lambda: None)

    def _retire(self, group: Group, name: str) -> None:
        member = group["members"][name]
        member["action"] = "DELETING"
        where = (member["zone"], name)
        if where in self.instances:
            self.instances[where]["status"] = "STOPPING"

        def gone() -> None:
            group["members"].pop(name, None)
            self.instances.pop(where, None)

        self.later(self._seconds["stop"], gone)

    def _fill(self, group: Group, at_once: bool = False) -> None:
        """Create what a group lacks. Without stock it says so on the member's last attempt, and goes on trying."""
        alive = [member for member in group["members"].values() if member["action"] != "DELETING"]
        for _ in range(group["targetSize"] - len(alive)):
            taken = [member["zone"] for member in group["members"].values()]
            zone = min(group["zones"], key=taken.count)
            name = f"{group['name']}-{uuid.uuid4().hex[:4]}"
            self._create(group, zone, name, "CREATING", 0.0 if at_once else self._seconds["boot"])

    def _create(self, group: Group, zone: str, name: str, action: str, seconds: float) -> None:
        template = group["instanceTemplate"]
        properties = self.templates[template.rpartition("/")[2]]["properties"]
        short = self._short(zone, properties["machineType"])
        member = group["members"][name] = {"action": action, "errors": short, "zone": zone, "template": template}
        if short:
            return
        place = group.get("zone") or group["region"]
        by = {"key": "created-by", "value": f"{place}/instanceGroupManagers/{group['name']}"}
        made = self.instances[zone, name] = self._new(name, zone, {**properties, "metadata": {"items": [by]}})

        def up() -> None:
            if member["action"] == action:  # and not deleted meanwhile
                made["status"], member["action"] = "RUNNING", "NONE"

        if seconds:
            self.later(seconds, up)
        else:
            up()


def _told(group: Group) -> dict[str, Any]:
    stable = all(member["action"] == "NONE" for member in group["members"].values())
    spread = {"zones": [{"zone": f"zones/{zone}"} for zone in group["zones"]]}
    return {
        "name": group["name"], "targetSize": group["targetSize"], "instanceTemplate": group["instanceTemplate"],
        "status": {"isStable": stable, "autoscaler": group["autoscaler"]},
        **{kind: group[kind] for kind in ("zone", "region") if kind in group},
        **({"distributionPolicy": spread} if "region" in group else {}),
    }  # fmt: skip
