"""What the service manager hears: readiness, the sign of life, nothing where no manager listens."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_the_manager_is_told(manager: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": manager.getsockname()}).say("READY=1")
    assert manager.recv(100) == b"READY=1"


def test_a_name_in_the_abstract_space_is_reached():
    name = f"scaleahead-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        listening.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + name}).say("STOPPING=1")
        assert listening.recv(100) == b"STOPPING=1"


@pytest.mark.fault("A19")
async def test_the_event_loop_gives_the_sign_of_life(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000"})
    beating = asyncio.create_task(notifier.beat())
    heard = [await asyncio.to_thread(manager.recv, 100) for _ in range(2)]
    beating.cancel()
    assert heard == [b"WATCHDOG=1", b"WATCHDOG=1"]


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "never"}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}],
    ids=["none", "not a number", "another process's"],
)
async def test_no_watchdog_no_sign_of_life(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    assert notifier.watchdog_seconds == 0
    await asyncio.wait_for(notifier.beat(), 5)


def test_a_manager_that_is_away_stops_nothing(tmp_path: Path):
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).say("READY=1")
