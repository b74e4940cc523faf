"""Edge: find the installed kinds of provider through entry points and connect the configured ones.

A kind is an entry point of group ``scaleahead.providers``: a callable ``connect(name, options) -> Provider``. The
built-in clouds register the same way as plug-ins.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from providers.base import Provider
from providers.errors import Invalid

GROUP = "scaleahead.providers"

Connect = Callable[[str, Mapping[str, object]], Provider]


def installed() -> tuple[EntryPoint, ...]:
    """List the entry points of all installed kinds of provider."""
    return tuple(entry_points(group=GROUP))


def connect_all(
    configured: Mapping[str, Mapping[str, object]], points: Iterable[EntryPoint] | None = None
) -> dict[str, Provider]:
    """Connect every configured provider: its name to its options.

    The option ``kind`` says which entry point makes it; without it the name is the kind. All other options are handed
    to that kind. ``points`` defaults to what is installed. Raises ``Invalid`` with one line for a kind that is not
    installed, is installed twice, or cannot be imported; what a kind's own ``connect`` raises is not caught.
    """
    kinds = tuple(installed() if points is None else points)
    connected: dict[str, Provider] = {}
    for name, options in configured.items():
        kind = options.get("kind", name)
        if not isinstance(kind, str):
            raise Invalid(f"the kind of provider {name!r} is {kind!r} - write the name of a kind: {_listed(kinds)}")
        connect = _load(name, kind, kinds)
        connected[name] = connect(name, {key: value for key, value in options.items() if key != "kind"})
    return connected


def _load(name: str, kind: str, points: tuple[EntryPoint, ...]) -> Connect:
    found = {point.value: point for point in points if point.name == kind}
    if not found:
        raise Invalid(f"provider {name!r} is of kind {kind!r}, which is not installed - installed: {_listed(points)}")
    if len(found) > 1:
        raise Invalid(f"kind {kind!r} of provider {name!r} is installed twice ({', '.join(found)}) - uninstall one")
    (point,) = found.values()
    try:
        connect = point.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        raise Invalid(
            f"kind {kind!r} of provider {name!r} cannot be loaded from {point.value} ({fault}) - "
            f"mend its installation or take {name!r} out of the configuration; installed: {_listed(points)}"
        ) from error
    if not callable(connect):
        raise Invalid(
            f"kind {kind!r} of provider {name!r} names {point.value}, which cannot be called - mend the plug-in"
        )
    # What a plug-in returns cannot be checked here; the contract suite holds it to Provider.
    return cast(Connect, connect)


def _listed(points: Iterable[EntryPoint]) -> str:
    return ", ".join(sorted({point.name for point in points})) or "none"
