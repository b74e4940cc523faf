"""Edge: which of the reads that the provider makes the credentials allow. Changes nothing."""

from collections.abc import Mapping, Sequence

from providers.budget import Budget
from providers.clock import SystemClock
from providers.errors import NotPermitted
from providers.gcp.client import Client
from providers.gcp.errors import disabled
from providers.reads import NOWHERE, Read, tried

_OURS = "labels.scaleahead=managed"
_ZONE = {"zone": "us-central1-a"}
READS: tuple[Read, ...] = (
    ("compute.instances.get", "instances", "get", {**_ZONE, "instance": NOWHERE}),
    ("compute.instances.list", "instances", "aggregated_list", {"filter": _OURS, "max_results": 1}),
    ("compute.machineTypes.get", "machine_types", "get", {**_ZONE, "machine_type": "n1-standard-4"}),
    ("compute.regions.get", "regions", "get", {"region": "us-central1"}),
    ("compute.projects.get", "projects", "get", {}),
    ("compute.zoneOperations.list", "zone_operations", "list", {**_ZONE, "max_results": 1}),
    ("compute.zoneOperations.get", "zone_operations", "get", {**_ZONE, "operation": NOWHERE}),
    ("compute.regionOperations.get", "region_operations", "get", {"region": "us-central1", "operation": NOWHERE}),
    ("compute.instanceGroupManagers.get", "groups", "get", {**_ZONE, "instance_group_manager": NOWHERE}),
    ("compute.instanceGroupManagers.list", "groups", "aggregated_list", {"max_results": 1}),
    ("compute.instanceTemplates.get", "templates", "get", {"instance_template": NOWHERE}),
    ("container.clusters.get", "clusters", "get_node_pool",
     {"name": f"locations/us-central1/clusters/{NOWHERE}/nodePools/{NOWHERE}"}),
    ("container.clusters.list", "clusters", "list_clusters", {"parent": "locations/-"}),
    ("container.operations.get", "clusters", "get_operation", {"name": f"locations/us-central1/operations/{NOWHERE}"}),
)  # fmt: skip
"""A permission, and the smallest call that needs it; the zone is one that every project sees."""


def reads(project: str, endpoint: str | None = None) -> dict[str, str | None]:
    """Make each read once; give for each permission ``None`` if it is allowed, else what Google says.

    Raises ``providers.errors`` where Google cannot be asked at all.
    """
    return asked(Client(project, Budget(SystemClock()), endpoint))


def asked(client: Client, wanted: Sequence[Read] = READS) -> dict[str, str | None]:
    """Make each read once through a client that is there."""

    def ask(resource: str, method: str, arguments: Mapping[str, object]) -> object:
        try:
            return client.read(resource, method, **arguments)
        except NotPermitted as error:
            if resource == "clusters" and disabled(error):
                return None  # who has not turned GKE on has no cluster to look at
            raise

    return tried(wanted, ask)
