"""Edge: the kinds of policy that are installed, built in or not, through one group of entry points."""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

GROUP = "scaleahead.policies"

Kinds = Mapping[str, Callable[[], object]]
"""Kind to what loads its class. Loading may raise ``ImportError`` or ``AttributeError``: a broken plug-in says so."""


def installed() -> Kinds:
    """List the installed kinds without importing any."""
    return {point.name: point.load for point in entry_points(group=GROUP)}
