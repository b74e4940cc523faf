"""Pure decisions: which permissions credentials have to read, each told by the smallest call that needs it."""

from collections.abc import Callable, Mapping, Sequence

from providers.errors import NotFound, NotPermitted

NOWHERE = "scaleahead-none"
"""Names what does not exist: whoever may not look is not told that nothing is there."""

Read = tuple[str, str, str, Mapping[str, object]]
"""A permission, and the call that needs it: service or resource, method, arguments."""


def tried(reads: Sequence[Read], ask: Callable[[str, str, Mapping[str, object]], object]) -> dict[str, str | None]:
    """Make each read once; give for each permission ``None`` if it is allowed, else what the cloud says.

    Raises ``providers.errors`` where the cloud cannot be asked at all.
    """
    found: dict[str, str | None] = {}
    for permission, service, method, arguments in reads:
        try:
            ask(service, method, arguments)
            found[permission] = None
        except NotFound:
            if not any(NOWHERE in str(one) for one in arguments.values()):
                raise
            found[permission] = None
        except NotPermitted as error:
            found[permission] = str(error)
    return found
