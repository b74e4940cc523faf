"""Edge: Google Cloud as a ``Provider``: Compute Engine instances and zonal managed instance groups of one project."""

from collections.abc import Mapping

from providers import catalog
from providers.base import Provider
from providers.budget import Budget
from providers.catalog import Catalog
from providers.clock import SystemClock
from providers.errors import Invalid
from providers.gcp.client import Client
from providers.gcp.group import Groups
from providers.gcp.vm import Vms
from providers.shelf import Shelf
from providers.split import Split

MOST_NODES = 32
_OPTIONS = ("project", "endpoint", "most_nodes")


class Gcp(Split):
    """A ``Provider`` with ``Inventory``. Its methods follow the laws written there."""

    def __init__(self, name: str, client: Client, known: Catalog, most_nodes: int = MOST_NODES) -> None:
        """Take the project's client, the shipped catalog, and how many nodes a group may have at most."""
        shelf = Shelf("gcp", known)
        super().__init__(name, Vms(name, client, shelf), Groups(name, client, shelf, most_nodes))


def connect(name: str, options: Mapping[str, object]) -> Provider:
    """Make the provider from its options: ``project``, and if wanted ``most_nodes`` and ``endpoint``.

    Credentials are the application default ones. ``endpoint`` is the address of an emulator. Raises ``Invalid``.
    """
    strange = sorted(set(options) - set(_OPTIONS))
    if strange:
        raise Invalid(f"provider {name!r} has no option {', '.join(strange)} - it has {', '.join(_OPTIONS)}")
    project, endpoint, most = options.get("project"), options.get("endpoint"), options.get("most_nodes", MOST_NODES)
    if not isinstance(project, str) or not project:
        raise Invalid(f"provider {name!r} needs project, the id of a Google Cloud project")
    if endpoint is not None and not isinstance(endpoint, str):
        raise Invalid(f"the endpoint of provider {name!r} is an address, such as http://127.0.0.1:4590")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise Invalid(f"most_nodes of provider {name!r} is a whole number from 1 on")
    return Gcp(name, Client(project, Budget(SystemClock()), endpoint), catalog.load(), most)
