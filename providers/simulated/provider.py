"""Edge: the provider of the simulated cloud, in this process or in another one."""

from collections.abc import Mapping, Sequence

from providers.base import Provider
from providers.clock import SystemClock
from providers.errors import Invalid
from providers.simulated import config
from providers.simulated.cloud import Cloud
from providers.simulated.remote import Remote
from providers.types import Allocation, Call, Offer, Operation, Route, Target


class Simulated:
    """The simulated cloud as a ``Provider`` with an ``Inventory``. ``cloud`` stays reachable for its operator."""

    def __init__(self, cloud: Cloud | Remote) -> None:
        self.cloud = cloud
        self.name = cloud.name

    def describe(self, target: Target) -> Allocation:
        """Say what the target is now."""
        return self.cloud.describe(target)

    def offers(self, target: Target) -> Sequence[Offer]:
        """List what this target could become: every offer of the cloud, or every size of a group."""
        return self.cloud.offers(target)

    def route(self, current: Allocation, offer: Offer) -> Route:
        """Find the way to an offer; what it says hangs on what the target is now, not on how old ``current`` is."""
        return self.cloud.route(current, offer)

    def perform(self, call: Call, token: str) -> Operation:
        """Make one mutation; the cloud itself remembers tokens."""
        return self.cloud.perform(call, token)

    def poll(self, operation: Operation) -> Operation:
        """Ask how an operation stands."""
        return self.cloud.poll(operation)

    def labelled(self, key: str, value: str | None = None) -> Sequence[Allocation]:
        """List what carries a label, terminated machines left out."""
        return self.cloud.labelled(key, value)


def connect(name: str, options: Mapping[str, object]) -> Provider:
    """Make the provider from its options: ``url`` of a server, or a ``Setup`` for a cloud in this process.

    ``timeout_seconds`` may stand beside ``url``. Raises ``Invalid`` for anything else.
    """
    if "url" not in options:
        return Simulated(config.build(name, config.read(dict(options)), SystemClock()))
    strange = sorted(set(options) - {"url", "timeout_seconds"})
    if strange:
        raise Invalid(f"provider {name!r} has no option {', '.join(strange)} beside url - use timeout_seconds")
    url, timeout_seconds = options["url"], options.get("timeout_seconds", 10.0)
    if not isinstance(url, str) or not isinstance(timeout_seconds, int | float) or not timeout_seconds > 0:
        raise Invalid(f"provider {name!r} needs url as a text and timeout_seconds above 0")
    return Simulated(Remote(url, timeout_seconds, name))
