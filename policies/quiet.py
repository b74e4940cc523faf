"""Pure decisions: quiet times, when nothing is moved unless it must be."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FORM = re.compile(
    r"(?:(?P<days>[A-Za-z,-]+) )?(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)(?: (?P<zone>[A-Za-z0-9_+/-]+))?"
)
_EXAMPLE = 'write it like "Sat-Sun 00:00-24:00 Europe/Berlin"'


@dataclass(frozen=True, slots=True)
class Window:
    """A time of every week: days counted from Monday as 0, minutes of the day, in a zone.

    A window whose end is not after its start runs past midnight and belongs to the day on which it starts.
    """

    days: frozenset[int]
    start_minute: int
    end_minute: int
    zone: ZoneInfo

    def covers(self, now: datetime) -> bool:
        """Say whether a moment (aware) lies in the window; the end is outside."""
        local = now.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        if self.start_minute < self.end_minute:
            return local.weekday() in self.days and self.start_minute <= minute < self.end_minute
        before = (local - timedelta(days=1)).weekday()
        return (local.weekday() in self.days and minute >= self.start_minute) or (
            before in self.days and minute < self.end_minute
        )


def read(text: str) -> Window:
    """Read ``[Days ]HH:MM-HH:MM[ Zone]``; without days every day, without a zone UTC. Raises ``ValueError``."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a quiet time - {_EXAMPLE}")
    start, end = _minute(found["start"]), _minute(found["end"])
    if start == 24 * 60 or start == end:
        raise ValueError(f"{text!r} covers no time - {_EXAMPLE}")
    return Window(_days(found["days"]), start, end, _zone(found["zone"] or "UTC"))


def _minute(text: str) -> int:
    hours, minutes = int(text[:2]), int(text[3:])
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        raise ValueError(f"{text!r} is not a time of day - {_EXAMPLE}")
    return hours * 60 + minutes


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"{part!r} is not a day or a range of days - {_EXAMPLE}")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found.update(day % 7 for day in range(begin, end + 1 + (7 if end < begin else 0)))
    return frozenset(found)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone this host knows - {_EXAMPLE}") from None
