"""Edge: what Google says of a place: what its quotas leave room for, and whether a machine type is there at all."""

from collections.abc import Iterator
from contextlib import suppress

from providers.catalog import region_of
from providers.errors import Incompatible, NotFound, NotPermitted, QuotaExceeded, Transient
from providers.gcp import rules
from providers.gcp.client import Client
from providers.gcp.rules import Answer
from providers.types import Offer

ALL_GPUS = "GPUS_ALL_REGIONS"
"""The quota of the whole project beside that of each model and region; a new project's is 0."""


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
        for place, quota in self._quotas(zone, ALL_GPUS in needs):
            more = needs.get(str(quota.metric), 0)
            if more > 0 and quota.usage + more > quota.limit:
                raise QuotaExceeded(
                    f"quota {quota.metric} of {place} allows {quota.limit:g}: {quota.usage:g} in use, {more:g} "
                    f"more asked for - ask Google for more or take a smaller offer"
                )

    def _quotas(self, zone: str, gpus: bool) -> Iterator[tuple[str, Answer]]:
        """Go through the quotas of a zone's region, and for GPUs those of the whole project."""
        with suppress(NotFound, NotPermitted, Transient):
            region = self._client.read("regions", "get", region=region_of(zone))
            yield from ((str(region.name), quota) for quota in region.quotas)
        if gpus:
            with suppress(NotFound, NotPermitted, Transient):
                found = self._client.read("projects", "get")
                yield from (("the project", quota) for quota in found.quotas)

    def _needs(self, offer: Offer, zone: str, count: int) -> dict[str, float]:
        spot = offer.buying == "spot"
        needs = {rules.cpu_metric(offer.machine_type, spot): float(count * self.vcpus(offer.machine_type, zone))}
        if offer.resources.gpus and offer.resources.gpu_model:
            needs[rules.gpu_metric(offer.resources.gpu_model, spot)] = float(count * offer.resources.gpus)
            needs[ALL_GPUS] = float(count * offer.resources.gpus)
        return needs
