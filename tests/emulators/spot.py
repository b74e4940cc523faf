"""Edge: the spot requests of the emulated AWS: which instance each belongs to, and the notice before it is taken back.

Its rules are written from EC2's documents (see ``RULES``), not from the provider.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from providers.clock import Clock

RULES = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html"
NOTICE_SECONDS = 120.0


@dataclass
class Request:
    """A one-time request and what became of it, by the codes of EC2's documents."""

    id: str
    instance: str
    updated: datetime
    code: str = "fulfilled"
    message: str = "Your Spot request is fulfilled."
    ends: datetime | None = None


class Spot:
    """The spot requests of one account, by the instance that each was fulfilled with."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._requests: dict[str, Request] = {}

    def fulfil(self, instance: str) -> None:
        """Note that an instance was bought on the spot market."""
        self._requests[instance] = Request(f"sir-{instance[-8:]}", instance, self._clock.now())

    def mark(self, instance: str, seconds: float) -> datetime:
        """Give notice that an instance is taken back; say when."""
        request, now = self._requests[instance], self._clock.now()
        request.code, request.updated = "marked-for-termination", now
        request.message = "Your Spot Instance is marked for termination."
        request.ends = now + timedelta(seconds=seconds)
        return request.ends

    def due(self) -> list[str]:
        """Name the instances whose time is up, each once."""
        now = self._clock.now()
        gone = [one for one in self._requests.values() if one.ends is not None and now >= one.ends]
        for request in gone:
            request.code, request.updated, request.ends = "instance-terminated-no-capacity", now, None
        return [request.instance for request in gone]

    def named(self, body: bytes) -> bytes:
        """Write into a description of instances which request each belongs to."""

        def with_request(found: re.Match[bytes]) -> bytes:
            request = self._requests.get(found[1].decode())
            told = f"<spotInstanceRequestId>{request.id}</spotInstanceRequestId>" if request else ""
            return found[0] + told.encode()

        return re.sub(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", with_request, body)

    def described(self, wanted: Iterable[str]) -> tuple[str, str]:
        """Describe requests, all if none is named: the XML of the answer, and the first id that there is not."""
        by_id: Mapping[str, Request] = {one.id: one for one in self._requests.values()}
        asked = list(wanted)
        missing = next((one for one in asked if one not in by_id), "")
        rows = "".join(_row(by_id[one]) for one in asked or by_id if one in by_id)
        return (
            '<DescribeSpotInstanceRequestsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
            f"<requestId>r</requestId><spotInstanceRequestSet>{rows}</spotInstanceRequestSet>"
            "</DescribeSpotInstanceRequestsResponse>"
        ), missing


def _row(one: Request) -> str:
    at = one.updated.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return (
        f"<item><spotInstanceRequestId>{one.id}</spotInstanceRequestId><type>one-time</type><state>active</state>"
        f"<status><code>{one.code}</code><updateTime>{at}</updateTime><message>{one.message}</message></status>"
        f"<instanceId>{one.instance}</instanceId></item>"
    )
