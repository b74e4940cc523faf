"""Pure decisions: an operation's id names Google's own operation, what it was for, and where to look for the effect."""

import uuid
from dataclasses import dataclass

from providers.errors import NotFound
from providers.types import Operation

SEPARATOR = "|"
_NAMESPACE = uuid.UUID("2f0c3f0a-6a43-5d0e-9f0e-6e1f8f1f2b11")


@dataclass(frozen=True, slots=True)
class Handle:
    """A call in a word, its zone and resource, Google's operation ("" where none was needed), a group's size."""

    call: str
    zone: str
    id: str
    operation: str = ""
    detail: str = ""

    @property
    def name(self) -> str:
        """Write it as an operation's id."""
        return SEPARATOR.join((self.call, self.zone, self.id, self.operation, self.detail))


def read(operation: Operation) -> Handle:
    """Read an operation's id. Raises ``NotFound`` for one that was not made here."""
    parts = operation.id.split(SEPARATOR)
    if len(parts) != 5:
        raise NotFound(f"there is no operation {operation.id!r}")
    return Handle(*parts)


def request_id(token: str) -> str:
    """Make Google's request id of a token: the same for the same token, in every process."""
    return str(uuid.uuid5(_NAMESPACE, token))
