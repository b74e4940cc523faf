"""Edge: which of the reads that the provider makes the credentials allow. Changes nothing."""

from collections.abc import Mapping

from providers.budget import Budget
from providers.clock import SystemClock
from providers.errors import NotFound, NotPermitted
from providers.gcp.client import Client

_NONE = "scaleahead-none"
_OURS = "labels.scaleahead=managed"
_ZONE = {"zone": "us-central1-a"}
READS: tuple[tuple[str, str, str, Mapping[str, object]], ...] = (
    ("compute.instances.get", "instances", "get", {**_ZONE, "instance": _NONE}),
    ("compute.instances.list", "instances", "aggregated_list", {"filter": _OURS, "max_results": 1}),
    ("compute.machineTypes.get", "machine_types", "get", {**_ZONE, "machine_type": "n1-standard-4"}),
    ("compute.regions.get", "regions", "get", {"region": "us-central1"}),
    ("compute.zoneOperations.get", "zone_operations", "get", {**_ZONE, "operation": _NONE}),
    ("compute.instanceGroupManagers.get", "groups", "get", {**_ZONE, "instance_group_manager": _NONE}),
    ("compute.instanceGroupManagers.list", "groups", "aggregated_list", {"max_results": 1}),
    ("compute.instanceTemplates.get", "templates", "get", {"instance_template": _NONE}),
)
"""A permission, and the smallest call that needs it; the zone is one that every project sees."""


def reads(project: str, endpoint: str | None = None) -> dict[str, str | None]:
    """Make each read once; give for each permission ``None`` if it is allowed, else what Google says.

    Raises ``providers.errors`` where Google cannot be asked at all.
    """
    client = Client(project, Budget(SystemClock()), endpoint)
    found: dict[str, str | None] = {}
    for permission, resource, method, arguments in READS:
        try:
            client.read(resource, method, **arguments)
            found[permission] = None
        except NotFound:
            if _NONE not in arguments.values():
                raise
            found[permission] = None  # whoever may not look is not told that nothing is there
        except NotPermitted as error:
            found[permission] = str(error)
    return found
