"""Pure decisions: fold what is noticed of spot offers, at odd times, into looks ten minutes apart.

Nobody asks a cloud for capacity that nobody needs, so an offer is only seen while a job runs on it (up) or when it is
refused (down). What was not seen is not counted: after a gap the run begins anew, with what was learned before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from policies.availability import LOOK_MINUTES, Availability

LOOK = timedelta(minutes=LOOK_MINUTES)
FORGOTTEN_AFTER = 3 * LOOK
"""What was not seen for so long is unknown again."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen of one offer, when its newest look began, and what was seen before that look."""

    seen: Availability
    at: datetime
    earlier: Availability | None = None


def noticed(before: Sighting | None, up: bool, now: datetime) -> Sighting:
    """Add that an offer was up or down at a moment. A look is down if the offer was down at any time of it."""
    if before is None:
        return Sighting(Availability(up), now)
    if now - before.at >= FORGOTTEN_AFTER:
        return Sighting(replace(before.seen, up=up, age=1), now)
    passed = (now - before.at) // LOOK
    if passed >= 1:
        return Sighting(before.seen.look(up), before.at + passed * LOOK, before.seen)
    if up or not before.seen.up:
        return before
    amended = before.earlier.look(False) if before.earlier else replace(before.seen, up=False, age=1)
    return replace(before, seen=amended)


def known(sightings: Mapping[str, Sighting], now: datetime) -> dict[str, Availability]:
    """Give what is known of each offer now; one not seen lately may be up as well as down, so it is worth a try."""
    return {
        offer: one.seen if now - one.at < FORGOTTEN_AFTER else replace(one.seen, up=True, age=1)
        for offer, one in sightings.items()
    }
