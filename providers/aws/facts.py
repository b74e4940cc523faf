"""Edge: what AWS says that changes seldom: types, where they are offered, quotas. Read once, kept for a while."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from providers.aws import rules
from providers.aws.client import Client
from providers.aws.rules import Answer
from providers.clock import Clock
from providers.errors import Incompatible, NotFound, NotPermitted, QuotaExceeded, Transient

KEPT_SECONDS = 3600.0
COUNTED = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]

_T = TypeVar("_T")


class Facts:
    """Types, offerings and quotas of one region, cached on the monotonic clock."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._kept: dict[tuple[str, ...], tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def kind(self, machine_type: str) -> Answer:
        """Describe a type. Raises ``Incompatible`` where the region has none of that name."""
        return self._once(("kind", machine_type), lambda: self._kind(machine_type))

    def offered(self, machine_type: str, zone: str) -> bool:
        """Say whether a type is on sale in a zone."""
        return self._once(("offered", machine_type, zone), lambda: self._offered(machine_type, zone))

    def check_quota(self, machine_type: str, buying: str, count: int, but: str = "") -> None:
        """Raise ``QuotaExceeded`` where ``count`` more of a type would pass the account's quota.

        ``but`` names an instance that will be gone by then. A quota that may not be read is not enforced here: AWS
        itself refuses what passes it.
        """
        group = rules.quota_class(machine_type)
        code = rules.QUOTAS.get((group or "", buying))
        if group is None or code is None:
            return
        quota = self._once(("quota", code), lambda: self._quota(code))
        if quota is None:
            return
        running = list(self.instances(COUNTED))
        kinds = {name: self.kind(name) for name in {str(one["InstanceType"]) for one in running}}
        used = rules.used_vcpus(running, kinds, group, buying, but)
        more = rules.vcpus(self.kind(machine_type)) * count
        if used + more > quota["Value"]:
            raise QuotaExceeded(
                f"quota {quota['QuotaName']} ({code}) allows {quota['Value']:g} vCPUs: {used} in use, {more} more "
                f"asked for - ask AWS for more or take a smaller offer"
            )

    def instances(self, filters: Sequence[Answer]) -> list[Answer]:
        """List the instances that match, all pages of them."""
        pages = self._client.pages("ec2", "describe_instances", "Reservations", Filters=list(filters))
        return [instance for reservation in pages for instance in reservation["Instances"]]

    def _kind(self, machine_type: str) -> Answer:
        filters = [{"Name": "instance-type", "Values": [machine_type]}]
        found = list(self._client.pages("ec2", "describe_instance_types", "InstanceTypes", Filters=filters))
        if not found:
            raise Incompatible(f"{self._client.region} has no instance type {machine_type}")
        kind: Answer = found[0]
        return kind

    def _offered(self, machine_type: str, zone: str) -> bool:
        filters = [{"Name": "instance-type", "Values": [machine_type]}, {"Name": "location", "Values": [zone]}]
        found = self._client.pages(
            "ec2", "describe_instance_type_offerings", "InstanceTypeOfferings", LocationType="availability-zone",
            Filters=filters,
        )  # fmt: skip
        return any(one["InstanceType"] == machine_type and one["Location"] == zone for one in found)

    def _quota(self, code: str) -> Answer | None:
        try:
            answer = self._client.read("service-quotas", "get_service_quota", ServiceCode="ec2", QuotaCode=code)
        except (NotFound, NotPermitted, Transient):
            return None
        quota: Answer = answer["Quota"]
        return quota

    def _once(self, key: tuple[str, ...], ask: Callable[[], _T]) -> _T:
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and self._clock.monotonic() - kept[0] < KEPT_SECONDS:
            found: _T = kept[1]
            return found
        answer = ask()
        with self._lock:
            self._kept[key] = (self._clock.monotonic(), answer)
        return answer
