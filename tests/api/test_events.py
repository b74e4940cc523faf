"""The stream of events, through a real server."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.events import Bus, newest
from tests.api.conftest import Audit, World


@contextmanager
def opened(server: Any, **headers: str) -> Iterator[Any]:
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    connection.request("GET", "/v1/events", headers={"Authorization": "Bearer sa_read", **headers})
    answer = connection.getresponse()
    assert answer.getheader("content-type", "").startswith("text/event-stream")
    try:
        yield answer
    finally:
        answer.close()
        connection.close()


def event(stream: Any) -> dict[str, Any]:
    """Read the next event."""
    found: dict[str, Any] = {}
    while True:
        line = stream.readline().decode().rstrip("\n")
        if not line and found:
            return found
        name, _, value = line.partition(": ")
        if name in ("event", "id"):
            found[name] = value
        elif name == "data":
            found["data"] = json.loads(value)


def test_entries_are_replayed_from_the_last_id_on(server: Any, world: World):
    for number in range(5):
        world.store.audit.note("me", "did", f"thing {number}", {})
    with opened(server, **{"Last-Event-ID": "3"}) as stream:
        assert event(stream)["event"] == "hello"
        told = [event(stream) for _ in range(2)]
        assert [(e["event"], e["id"], e["data"]["subject"]) for e in told] == [
            ("audit", "4", "thing 3"), ("audit", "5", "thing 4"),
        ]  # fmt: skip
        world.store.audit.note("me", "did", EVIL, {})
        assert event(stream)["data"]["subject"] == EVIL


EVIL = "evil\r\n\r\nevent: forged\ndata: {}\n\n"


def test_without_an_id_only_what_is_new_is_told(server: Any, world: World):
    world.store.audit.note("me", "did", "before", {})
    with opened(server) as stream:
        assert event(stream) == {"event": "hello", "id": "1", "data": {"after": 1}}
        world.store.audit.note("me", "did", "after", {})
        assert event(stream)["data"]["subject"] == "after"


async def test_announcements_reach_every_reader_and_a_slow_one_misses_some():
    bus, audit = Bus(depth=2), Audit()
    streams = [bus.follow(audit, None) for _ in range(2)]
    for stream in streams:
        assert (await anext(stream)).kind == "hello"
    assert bus.readers == 2
    for number in range(5):
        bus.announce("turn", {"number": number})
    got = [[await anext(s), await anext(s)] for s in streams]
    assert [[e.data["number"] for e in some] for some in got] == [[0, 1], [0, 1]]
    bus.close()
    for stream in streams:
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert bus.readers == 0


def test_the_newest_entry_is_found_beyond_one_page():
    audit = Audit()
    for number in range(1203):
        audit.note("me", "did", str(number), {})
    assert newest(audit) == 1203
    assert newest(Audit()) == 0
