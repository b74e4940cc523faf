"""How ``serve`` takes signals."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
import uvicorn

from api.main import _obey_signals


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_before")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.fault("A11")
async def test_the_first_signal_asks_for_an_end_and_the_second_ends_at_once(number: int):
    server = uvicorn.Server(uvicorn.Config("no:app"))
    _obey_signals(server)
    os.kill(os.getpid(), number)
    async with asyncio.timeout(5):
        while not server.should_exit:
            await asyncio.sleep(0)
    assert signal.getsignal(number) is signal.SIG_DFL
    for left in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(left)
