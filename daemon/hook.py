"""Edge: the poller, which asks jobs' hooks. Everything that comes back is untrusted.

The address is checked where the socket is made, so that no name can lead elsewhere between check and connection. An
answer is bounded in time and size, is never unpacked, and never leads on to another address. What is raised and logged
names the job and the fault, never the URL, which may hold a secret; traces are logged as text, because some renderers
print the local variables of an exception.
"""

import asyncio
import base64
import json
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from types import MappingProxyType

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from daemon.addresses import refused, wrong_url
from daemon.cadence import Cadence
from daemon.report import LARGEST_BYTES, Reading, ReportRefused, examine
from daemon.types import Report
from providers.clock import Clock
from providers.types import Resources

CONNECT_SECONDS = 2.0
TOTAL_SECONDS = 5.0
NAME_SECONDS = 30
MOST_PAGES = 8
SHORTEST_REST_SECONDS = 0.01
RESOLVER_THREADS = 16

log = structlog.get_logger()

Heard = Callable[[str, Report], Awaitable[None]]
Silent = Callable[[str, str], Awaitable[None]]
After = Callable[[], int]
Known = Callable[[], str | None]
Facts = Callable[[], Resources | None]
AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]


class HookError(OSError):
    """A hook did not do what it was asked. ``reason`` is a word; ``str()`` is one line without any secret."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class NoRoute(HookError):
    """The job does not serve this route: it cannot be asked for a checkpoint."""


class AddressRefused(OSError):
    """The address behind a name may not be asked."""


@dataclass(frozen=True, slots=True)
class Hook:
    """Where and how a job is asked. ``after`` gives the next sequence number wanted, of the process that ``run`` names.

    ``facts`` gives its node's resources.
    """

    url: URL = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    after: After
    facts: Facts
    run: Known = lambda: None
    wrong: str | None = None

    @classmethod
    def of(cls, url: str, token: str | None, after: After, facts: Facts, run: Known, development: bool) -> "Hook":
        """Take user and password out of the URL, so that they travel in a header only."""
        wrong = wrong_url(url, development)
        try:
            parsed = URL(url) if wrong is None else URL()
        except ValueError:
            parsed, wrong = URL(), "the hook is not a URL - write it like http://10.0.0.5:8700/hook"
        headers = {"Accept-Encoding": "identity", "Accept": "application/json", "User-Agent": "scaleahead"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        elif parsed.user is not None:
            pair = f"{parsed.user}:{parsed.password or ''}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return cls(
            parsed.with_user(None) if parsed.host else parsed, MappingProxyType(headers), after, facts, run, wrong
        )


def trusting(ca: str) -> ssl.SSLContext | None:
    """Trust what the system trusts and the certificates in a PEM file; ``None`` without one. Raises ``OSError``."""
    if not ca:
        return None
    trust = ssl.create_default_context()
    trust.load_verify_locations(ca)
    return trust


class Poller:
    """Ask every job's hook in turn. One a daemon; all methods are called from its event loop.

    ``on_report`` is awaited with the job and a checked report, and what it has returned from counts as kept: the next
    question goes on after it. ``on_silence`` is awaited with the job and one line when a hook does not answer well.
    Intervals are seconds of ``clock``; time-outs are real seconds. ``trust`` says whose certificates are believed,
    by default those that the system trusts.
    """

    def __init__(
        self,
        clock: Clock,
        on_report: Heard | None = None,
        on_silence: Silent | None = None,
        *,
        development: bool = False,
        chance: Random | None = None,
        resolver: AbstractResolver | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
        name_seconds: int = NAME_SECONDS,
        cadence: Cadence | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.on_report = on_report
        self.on_silence = on_silence
        self._clock = clock
        self._development = development
        self._resolver = resolver
        self._trust = trust
        self._timeout = aiohttp.ClientTimeout(total=total_seconds, sock_connect=connect_seconds)
        self._cadence = cadence or Cadence(chance or Random())
        self._name_seconds = name_seconds
        self._hooks: dict[str, Hook] = {}
        self._reached: dict[str, tuple[str, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._client: aiohttp.ClientSession | None = None
        self.polls = 0

    def add(
        self,
        job: str,
        hook_url: str,
        token: str | None = None,
        interval: float = 30.0,
        after: After = lambda: 0,
        facts: Facts = lambda: None,
        run: Known = lambda: None,
    ) -> None:
        """Ask a job every ``interval`` seconds from now on, or change how it is asked. A wrong URL is told as silence.

        ``after`` is asked before every poll for the next sequence number that is wanted (0: everything), ``run`` for
        the process whose number that is: another one is asked for everything.
        """
        hook = Hook.of(hook_url, token, after, facts, run, self._development)
        self._hooks[job] = hook
        self._cadence.add(job, f"{hook.url.host}", interval, self._clock.monotonic())
        self._wake.set()

    def remove(self, job: str) -> None:
        """Ask a job no more; what is on its way is dropped."""
        self._hooks.pop(job, None)
        self._reached.pop(job, None)
        self._cadence.remove(job)
        self._wake.set()

    def poll_now(self, job: str) -> None:
        """Ask a job at once, or again at once if it is being asked. The answer comes as any other."""
        self._cadence.hasten(job, self._clock.monotonic())
        self._wake.set()

    async def run(self) -> None:
        """Poll until cancelled, then close every connection. A fault of one hook never ends it."""
        try:
            while True:
                self._wake.clear()
                for job, turn in self._cadence.starts(self._clock.monotonic()):
                    task = asyncio.create_task(self._turn(job, turn))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                await self._rest()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def prepare(
        self, job: str, decision_id: str, deadline: datetime, reason: str, advice: Mapping[str, float] | None = None
    ) -> None:
        """Ask a job for a checkpoint. Raises ``NoRoute`` if it serves no such route, else ``HookError``."""
        body: dict[str, object] = {"decision": decision_id, "deadline": deadline.isoformat(), "reason": reason}
        await self._tell(job, "prepare", body | ({"advice": dict(advice)} if advice else {}))

    async def proceed(self, job: str) -> None:
        """Let a job that was asked for a checkpoint go on. Raises ``NoRoute`` or ``HookError``."""
        await self._tell(job, "proceed", {})

    # One turn of one job.

    async def _rest(self) -> None:
        seconds = self._cadence.wait(self._clock.monotonic())
        if seconds is None:
            await self._wake.wait()
            return
        real = max(self._clock.real_seconds(seconds), SHORTEST_REST_SECONDS)
        alarm = asyncio.get_running_loop().call_later(real, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    async def _turn(self, job: str, turn: int) -> None:
        ok = False
        hook = self._hooks.get(job)
        try:
            if hook is not None:
                await self._pages(job, hook)
                ok = True
        except HookError as error:
            await self._silent(job, hook, str(error))
        except Exception:  # border: one job's turn. Whoever keeps the reports failed; the job is asked again.
            log.error("a report could not be kept", job=job, trace=traceback.format_exc())
        finally:
            if self._cadence.landed(job, turn, ok, self._clock.monotonic()):
                self._wake.set()

    async def _silent(self, job: str, hook: Hook | None, why: str) -> None:
        if self.on_silence is None or self._hooks.get(job) is not hook:
            return
        try:
            await self.on_silence(job, why)
        except Exception:  # border: one job's turn.
            log.error("a silence could not be noted", job=job, trace=traceback.format_exc())

    async def _pages(self, job: str, hook: Hook) -> None:
        """Ask page by page until the job has told all, a bounded number of pages a turn."""
        after = hook.after() - 1
        for _ in range(MOST_PAGES):
            reading = await self._page(job, hook, after)
            if self._hooks.get(job) is not hook:
                return
            if after >= 0 and self._began_anew(job, hook, reading, after):
                after = -1
                continue
            report = reading.report
            if self.on_report is not None:
                await self.on_report(job, report)
            self._note(job, report)
            if not reading.more:
                return
            after = report.next - 1

    def _began_anew(self, job: str, hook: Hook, reading: Reading, after: int) -> bool:
        """Say whether a new process answered, whose rows are counted from the start again."""
        reached = self._reached.get(job)
        known = hook.run() if reached is None else reached[0]
        another = known is not None and known != reading.report.run
        if another:
            self._reached.pop(job, None)
        return another or reading.job_next <= after

    def _note(self, job: str, report: Report) -> None:
        known = self._reached.get(job)
        step = known[1] if known is not None and known[0] == report.run else -1
        newest = report.observations[-1].step if report.observations else step
        self._reached[job] = (report.run, max(step, newest))

    async def _page(self, job: str, hook: Hook, after: int) -> Reading:
        url = hook.url if after < 0 else hook.url.update_query(after=str(after))
        self.polls += 1
        async with self._ask(hook, "GET", url) as answer:
            if answer.status != 200:
                raise HookError(f"status_{answer.status}", "the hook must answer 200")
            body = await _body(answer)
        try:
            return examine(body, job, self._clock.now(), hook.facts(), self._reached.get(job))
        except ReportRefused as error:
            raise HookError("report_refused", str(error)) from None

    async def _tell(self, job: str, route: str, message: Mapping[str, object]) -> None:
        hook = self._hooks.get(job)
        if hook is None:
            raise NoRoute("no_hook", f"the job {job} has no hook to ask")
        url = hook.url.with_path(f"{hook.url.path.rstrip('/')}/{route}", keep_query=True)
        async with self._ask(hook, "POST", url, json.dumps(message).encode()) as answer:
            if answer.status in (404, 405, 501):
                raise NoRoute("no_route", f"the hook does not serve {route}")
            if not 200 <= answer.status < 300:
                raise HookError(f"status_{answer.status}", f"the hook did not take {route}")

    @asynccontextmanager
    async def _ask(
        self, hook: Hook, method: str, url: URL, body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make one request under all guards; every fault of it, and of reading the answer, is a ``HookError``."""
        if hook.wrong is not None:
            raise HookError("bad_url", hook.wrong)
        headers = dict(hook.headers) if body is None else {**hook.headers, "Content-Type": "application/json"}
        try:
            async with self._session().request(
                method, url, data=body, headers=headers, allow_redirects=False, timeout=self._timeout
            ) as answer:
                _check_head(answer)
                yield answer
        except HookError:
            raise
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            raise _fault(error) from None

    def _session(self) -> aiohttp.ClientSession:
        """Make the session when it is first needed, because it belongs to the running loop."""
        if self._client is None:
            connector = aiohttp.TCPConnector(
                limit=0,  # the cadence limits what is in flight
                resolver=self._resolver or Resolver(RESOLVER_THREADS),
                socket_factory=self._socket,
                ttl_dns_cache=self._name_seconds,
                ssl=self._trust or True,
            )
            self._client = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                max_line_size=4096,
                max_field_size=4096,
                read_bufsize=LARGEST_BYTES // 2,
            )
        return self._client

    def _socket(self, info: AddressInfo) -> socket.socket:
        """Make a socket for an address, unless it may not be asked. The very address that is connected to is seen."""
        family, kind, protocol, _, address = info
        why = refused(str(address[0]), self._development)
        if why is not None:
            log.warning("a hook leads to a refused address", address=str(address[0]), why=why)
            raise AddressRefused(why)
        return socket.socket(family, kind, protocol)


class Resolver(AbstractResolver):
    """The system's resolver in threads of its own, so that slow names hold up neither the store nor the clouds."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name. Raises ``OSError``."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=int(address[1]), family=kind, proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]  # fmt: skip

    async def close(self) -> None:
        """End the threads without waiting for slow names."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _check_head(answer: aiohttp.ClientResponse) -> None:
    if 300 <= answer.status < 400:
        raise HookError("redirect_refused", "the hook redirects, and redirects are not followed")
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("identity", ""):
        raise HookError("encoding_refused", "the hook's answer is compressed, and only plain answers are read")
    if answer.content_length is not None and answer.content_length > LARGEST_BYTES:
        raise HookError("too_large", f"the hook's answer is over {LARGEST_BYTES} bytes")


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """Read an answer piece by piece, and no further than its largest size."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > LARGEST_BYTES:
            raise HookError("too_large", f"the hook's answer is over {LARGEST_BYTES} bytes")
    return bytes(body)


def _fault(error: Exception) -> HookError:
    """Say a fault of the HTTP library in our words; its own texts may hold the URL."""
    match error:
        case TimeoutError():
            return HookError("timeout", "the hook did not answer in time")
        case aiohttp.ClientConnectorDNSError():
            return HookError("no_address", "the hook's name has no address")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return HookError("tls", "the hook's certificate or encryption is not accepted")
        case aiohttp.ClientConnectorError(os_error=AddressRefused() as why):
            return HookError("address_refused", str(why))
        case aiohttp.ClientConnectorError():
            return HookError("no_connection", "the hook's host takes no connection")
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return HookError("bad_http", "the hook's answer is not HTTP, or was cut short")
        case aiohttp.InvalidURL():
            return HookError("bad_url", "the hook's URL is not accepted")
        case _:
            return HookError("connection_lost", f"the connection to the hook failed ({type(error).__name__})")
