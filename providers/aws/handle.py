"""Pure decisions: AWS gives no handle on most calls, so an operation's id names call, token and resource."""

from dataclasses import dataclass
from datetime import datetime

from providers.errors import NotFound
from providers.types import Operation

SEPARATOR = "|"


@dataclass(frozen=True, slots=True)
class Handle:
    """What an operation is about: the call in a word, its token, place and id, and for a group its size and since."""

    call: str
    token: str
    place: str
    id: str
    detail: str = ""
    since: str = ""

    @property
    def name(self) -> str:
        """Write it as an operation's id."""
        return SEPARATOR.join((self.call, self.token, self.place, self.id, self.detail, self.since))

    def begun(self) -> datetime:
        """Read when the call was made."""
        return datetime.fromisoformat(self.since)


def read(operation: Operation) -> Handle:
    """Read an operation's id. Raises ``NotFound`` for one that was not made here."""
    parts = operation.id.split(SEPARATOR)
    if len(parts) != 6:
        raise NotFound(f"there is no operation {operation.id!r}")
    return Handle(*parts)
