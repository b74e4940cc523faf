"""Edge: tells the service manager that the daemon is ready and that its event loop turns (sd_notify(3))."""

import asyncio
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Speaks to the socket that the service manager named; says nothing where there is none.

    ``NOTIFY_SOCKET`` is a path, or a name in the abstract space when it begins with ``@``. ``WATCHDOG_USEC`` is the
    longest silence in microseconds before the manager restarts the service, meant for the process ``WATCHDOG_PID``.
    Source: sd_notify(3) and sd_watchdog_enabled(3).
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit = environment.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(limit) / 1e6 if for_us and limit.isdigit() else 0.0

    def say(self, state: str) -> None:
        """Send one state, such as ``READY=1``. A manager that is away is no reason to stop."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as talk:
                talk.setblocking(False)
                talk.sendto(state.encode(), address)
        except OSError:
            return

    async def beat(self) -> None:
        """Send the sign of life from the event loop, at half the allowed silence: a blocked loop falls silent."""
        while self.watchdog_seconds > 0:
            self.say("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / 2)
