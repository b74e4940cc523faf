"""Edge: the live events of this process, and the stream of them that a browser or a script follows.

Two sources are merged: the audit log, whose entries carry their number as event id and can be replayed from any
number, and turns of the loop, which are passing news without an id. A slow reader loses turns, never audit entries.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import anyio.to_thread

from daemon.store.base import AuditStore

LOOK_SECONDS = 1.0
"""How often the audit log is read again while nothing is announced; another process may write to it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its kind, what happened, and the audit number if it has one."""

    kind: str
    data: Mapping[str, object]
    number: int | None = None


class Bus:
    """Hands announcements to every open stream of this process. Used from the event loop's thread only."""

    def __init__(self, depth: int = 256) -> None:
        self._depth = depth
        self._queues: set[asyncio.Queue[Event | None]] = set()
        self._closed = False

    @property
    def readers(self) -> int:
        """Count the open streams."""
        return len(self._queues)

    def announce(self, kind: str, data: Mapping[str, object]) -> None:
        """Tell every stream. Never blocks; a stream whose queue is full misses this one."""
        for queue in self._queues:
            if not queue.full():
                queue.put_nowait(Event(kind, data))

    def close(self) -> None:
        """End every stream, so that a shutdown does not wait for its readers."""
        self._closed = True
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    async def follow(self, audit: AuditStore, after: int | None) -> AsyncIterator[Event]:
        """Yield audit entries after a number (``None``: from now on) and announcements as they come.

        The first event is ``hello`` with the number that the stream starts from.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue(self._depth)
        self._queues.add(queue)
        try:
            number = await anyio.to_thread.run_sync(newest, audit) if after is None else after
            yield Event("hello", {"after": number}, number)
            while not self._closed:
                entries = await anyio.to_thread.run_sync(audit.since, number)
                for entry in entries:
                    number = entry[0]
                    yield told(entry)
                if entries:
                    continue
                try:
                    event = await asyncio.wait_for(queue.get(), LOOK_SECONDS)
                except TimeoutError:
                    continue
                if event is None:
                    return
                yield event
        finally:
            self._queues.discard(queue)


def told(entry: tuple[int, datetime, str, str, str, Mapping[str, object]]) -> Event:
    """Make the event of an audit entry."""
    number, at, who, what, subject, detail = entry
    data = {"at": at.isoformat(), "who": who, "what": what, "subject": subject, "detail": dict(detail)}
    return Event("audit", {"number": number, **data}, number)


def newest(audit: AuditStore) -> int:
    """Find the number of the last audit entry, 0 in an empty log."""
    number = 0
    while entries := audit.since(number):
        number = entries[-1][0]
    return number
