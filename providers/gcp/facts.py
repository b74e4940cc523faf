"""Edge: what Google says of a place: what its quotas leave room for, and whether a machine type is there at all."""

from providers.catalog import region_of
from providers.errors import Incompatible, NotFound, NotPermitted, QuotaExceeded, Transient
from providers.gcp import rules
from providers.gcp.client import Client
from providers.types import Offer


class Facts:
    """Asks afresh each time: quotas and their use change, and a route is asked for seldom."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def vcpus(self, machine_type: str, zone: str) -> int:
        """Count the vCPUs of a machine type. Raises ``Incompatible`` where the zone does not have it."""
        try:
            return int(self._client.read("machine_types", "get", zone=zone, machine_type=machine_type).guest_cpus)
        except NotFound as error:
            raise Incompatible(f"{machine_type} is not on sale in {zone}") from error

    def check(self, offer: Offer, zone: str, count: int = 1, gone: Offer | None = None) -> None:
        """Raise ``QuotaExceeded`` where ``count`` more of an offer would pass a quota of the region.

        ``gone`` is what the same machine gives back. Quotas that may not be read are not enforced here: Google itself
        refuses what passes them.
        """
        needs = self._needs(offer, zone, count)
        for metric, amount in (self._needs(gone, zone, 1) if gone else {}).items():
            needs[metric] = needs.get(metric, 0) - amount
        try:
            region = self._client.read("regions", "get", region=region_of(zone))
        except (NotFound, NotPermitted, Transient):
            return
        for quota in region.quotas:
            more = needs.get(str(quota.metric), 0)
            if more > 0 and quota.usage + more > quota.limit:
                raise QuotaExceeded(
                    f"quota {quota.metric} of {region.name} allows {quota.limit:g}: {quota.usage:g} in use, {more:g} "
                    f"more asked for - ask Google for more or take a smaller offer"
                )

    def _needs(self, offer: Offer, zone: str, count: int) -> dict[str, float]:
        spot = offer.buying == "spot"
        needs = {rules.cpu_metric(offer.machine_type, spot): float(count * self.vcpus(offer.machine_type, zone))}
        if offer.resources.gpus and offer.resources.gpu_model:
            needs[rules.gpu_metric(offer.resources.gpu_model, spot)] = float(count * offer.resources.gpus)
        return needs
