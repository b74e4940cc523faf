"""Edge: hooks for tests on loopback, good ones and hostile ones. Each hostile one is one way to answer a connection."""

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

HOSTILE_HOST = "127.0.0.2"
HEALTHY_HOST = "127.0.0.1"


@dataclass
class Wire:
    """One connection: the head of the request, and a counted way to write."""

    head: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: "Server"

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.server.sent += len(data)

    async def answer(self, body: bytes, status: str = "200 OK", headers: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
        await self.send(head.encode() + body)

    @property
    def query(self) -> str:
        return self.head.split(" ", 2)[1].partition("?")[2]


Behaviour = Callable[[Wire], Awaitable[None]]


@dataclass
class Server:
    """A listening hook. ``requests`` are the heads that came in, ``sent`` the bytes that went out."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    sent: int = 0
    open: int = 0
    most_open: int = 0


@asynccontextmanager
async def serving(behaviour: Behaviour, host: str = HOSTILE_HOST) -> AsyncIterator[Server]:
    """Serve one behaviour on a free port; on leaving, every connection is cut."""
    server = Server()
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.open += 1
        server.most_open = max(server.most_open, server.open)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            server.requests.append(head)
            for line in head.splitlines():
                if line.lower().startswith("content-length:"):
                    server.bodies.append(await reader.readexactly(int(line.split(":")[1])))
            await behaviour(Wire(head, reader, writer, server))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            server.open -= 1
            writer.close()
            tasks.discard(task)

    listening = await asyncio.start_server(connected, host, 0)
    server.url = f"http://{host}:{listening.sockets[0].getsockname()[1]}/hook"
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def body(job: str, *rows: dict[str, Any], run: str = "r1", following: int | None = None, **more: Any) -> bytes:
    """Write a hook's answer."""
    last = rows[-1]["seq"] + 1 if rows and "seq" in rows[-1] else 0
    answer = {"protocol": 1, "job": job, "run": run, "next": last if following is None else following}
    return json.dumps({**answer, "observations": list(rows), **more}).encode()


def row(seq: int, step: int | None = None, **more: Any) -> dict[str, Any]:
    """Make a good observation."""
    return {"seq": seq, "step": seq * 10 if step is None else step, "metrics": {"loss": 2.0}, **more}


def healthy(job: str) -> Behaviour:
    """Tell one new observation at every poll."""

    async def behave(wire: Wire) -> None:
        after = int(wire.query.removeprefix("after=") or -1)
        await wire.answer(body(job, row(after + 1)))

    return behave


async def hang(wire: Wire) -> None:
    """Take the request and say nothing until the other side hangs up."""
    await wire.reader.read()


async def drip(wire: Wire) -> None:
    """Send a byte at a time for ever, so that no single read takes long."""
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while True:
        await wire.send(b" ")
        await asyncio.sleep(0.01)


async def drip_head(wire: Wire) -> None:
    """Send the head of the answer a byte at a time for ever."""
    await wire.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        await wire.send(b"x")
        await asyncio.sleep(0.01)


async def ten_gigabytes(wire: Wire) -> None:
    """Announce 10 GB and send them."""
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    for _ in range(10_000):
        await wire.send(b" " * 1_000_000)


async def endless_chunks(wire: Wire) -> None:
    """Send 10 GB in chunks, without saying how much there is."""
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(10_000):
        await wire.send(b"f4240\r\n" + b" " * 1_000_000 + b"\r\n")


def gzip_bomb() -> Behaviour:
    """Send 100 MB of zeros packed to 100 kB, though nobody asked for packing."""
    packer = gzip.GzipFile(fileobj=(packed := io.BytesIO()), mode="wb", compresslevel=1)
    for _ in range(100):
        packer.write(b"0" * 1_000_000)
    packer.close()

    async def behave(wire: Wire) -> None:
        await wire.answer(packed.getvalue()[:60_000], headers="Content-Encoding: gzip\r\n")

    return behave


async def many_headers(wire: Wire) -> None:
    """Send 200,000 headers."""
    await wire.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(200):
        await wire.send(b"".join(b"X-%d-%d: y\r\n" % (number, each) for each in range(1000)))
    await wire.send(b"Content-Length: 2\r\n\r\n{}")


async def long_header(wire: Wire) -> None:
    """Send one header of 10 MB."""
    await wire.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(10):
        await wire.send(b"x" * 1_000_000)
    await wire.send(b"\r\nContent-Length: 2\r\n\r\n{}")


async def no_http(wire: Wire) -> None:
    """Answer in another protocol."""
    await wire.send(b"220 mail.example ESMTP ready\r\n")


async def hang_up(wire: Wire) -> None:
    """Close the connection at once."""


def redirect(target: str) -> Behaviour:
    """Lead on to another address."""

    async def behave(wire: Wire) -> None:
        await wire.answer(b"", "302 Found", f"Location: {target}\r\n")

    return behave


def saying(text: bytes, status: str = "200 OK") -> Behaviour:
    """Answer these bytes."""

    async def behave(wire: Wire) -> None:
        await wire.answer(text, status)

    return behave
