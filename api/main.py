"""Edge: the composition root. Everything is made here, once, and handed to whoever needs it."""

import asyncio
import contextlib
import gc
import ipaddress
import os
import secrets
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import structlog
import uvicorn

from api.app import create_app
from api.auth import first_token
from api.deps import Services
from api.events import Bus
from api.notify import Notifier
from daemon import config as configuration
from daemon.act import Patience
from daemon.config import Config, ConfigError
from daemon.forecast.persist import Persist
from daemon.forecast.worker import ForecastProcess
from daemon.hook import Poller, trusting
from daemon.loop import Loop
from daemon.operate import Operator
from daemon.permissions import tell_lacking
from daemon.schedule import chores
from daemon.store.base import Conflict, Stale, Store, StoreError
from daemon.store.open import open_store
from policies.book import PolicyBook
from providers import catalog, registry
from providers.base import Provider
from providers.clock import Clock, ScaledClock, SystemClock
from providers.mixed import mixed
from providers.types import Offer

log = structlog.get_logger()

VERSION = "0.1.0"
EXIT_FAILURE = 1
EXIT_WRONG_USE = 2
EXIT_LEASE = 3


def serve(path: str | None = None, host: str | None = None, port: int | None = None) -> int:
    """Run the daemon until it is told to stop; give the exit status.

    0 after SIGTERM or SIGINT, 1 when something it needs cannot be had, 2 for a wrong configuration, 3 when another
    process holds or took the lease.
    """
    try:
        config = configuration.read(path, os.environ)
        config = config.model_copy(update={k: v for k, v in (("host", host), ("port", port)) if v is not None})
        _refuse_open_address(config)
        set_up_logs(config)
        return asyncio.run(_serve(config))
    except ConfigError as error:
        return _fail(str(error), EXIT_WRONG_USE)
    except (StoreError, OSError) as error:
        return _fail(str(error), EXIT_LEASE if isinstance(error, Conflict) else EXIT_FAILURE)


def _fail(what: str, status: int) -> int:
    sys.stderr.write(f"scaleahead: {what}\n")
    return status


def _refuse_open_address(config: Config) -> None:
    try:
        inside = ipaddress.ip_address(config.host).is_loopback
    except ValueError:
        inside = config.host == "localhost"
    if not inside and config.tls is None:
        raise ConfigError(f"host {config.host} is not loopback - give tls.certificate and tls.key, or use 127.0.0.1")


def set_up_logs(config: Config) -> None:
    """Send logs to standard error, as lines for people or as JSON."""
    # Plain traces: the default ones print local variables, and a hook's address may hold a secret.
    lines = structlog.dev.ConsoleRenderer(sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    renderer = lines if config.log == "console" else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def make_clock(config: Config) -> Clock:
    """Make the daemon's clock."""
    return ScaledClock(config.clock.rate, config.clock.origin) if config.clock.rate != 1.0 else SystemClock()


def failpoint(config: Config, environment: Mapping[str, str]) -> Callable[[str], None]:
    """Make the point that a test names in ``SCALEAHEAD_FAILPOINT``; only ever in development mode.

    There the process gets SIGKILL, or once the signal that follows a colon: ``call.recorded.stop:STOP``.
    """
    wanted, _, name = environment.get("SCALEAHEAD_FAILPOINT", "").partition(":")
    left = [signal.Signals[f"SIG{name or 'KILL'}"]] if config.development and wanted else []

    def reached(point: str) -> None:
        if left and point == wanted:
            os.kill(os.getpid(), left.pop())
            time.sleep(0.2)  # a signal may reach another thread first; this one must not go on meanwhile

    return reached


async def _serve(config: Config) -> int:
    config.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    clock = make_clock(config)
    store = open_store(config.database_url, clock)
    try:
        async with contextlib.AsyncExitStack() as stack:
            return await _run(config, clock, store, stack)
    finally:
        store.close()


async def _run(config: Config, clock: Clock, store: Store, stack: contextlib.AsyncExitStack) -> int:
    bus = Bus()
    book = PolicyBook(tuple(config.policies))
    providers = registry.connect_all(config.providers)
    forecasts = ForecastProcess(target=config.forecaster)
    loop = build(config, clock, store, book, mixed(providers), forecasts, bus)
    app = create_app(
        Services(
            store=store, policies=book, offers=listing(), control=loop, clock=clock, version=VERSION,
            open_read=config.open_read, bus=bus,
        )
    )  # fmt: skip
    # The catalog and the modules live as long as the process: without this each full collection walks them, 20 ms.
    gc.collect()
    gc.freeze()
    server = _server(config, app)
    bound = _bind(config)
    stack.push_async_callback(loop.close)
    await loop.begin()
    scheduler = chores(store, providers, clock, loop.wake, config.record_days, lambda: loop.replica.leads)
    scheduler.start()
    stack.callback(scheduler.shutdown, wait=False)
    _obey_signals(server)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    _greet(config, store, bound)
    stack.push_async_callback(forecasts.stop)
    # The page answers at once; the first turn waits until the forecaster is there, or persistence must stand in.
    working = asyncio.create_task(loop.run(ready=forecasts.start))
    # Beside the work, and never waited for at the end: a cloud that does not answer takes its time-outs.
    asking = threading.Thread(
        target=tell_lacking, args=(store, book, providers, config.default_mode), name="permissions", daemon=True
    )
    asking.start()
    watching = asyncio.create_task(book.watch(lambda problems: loop.wake()))
    notifier = Notifier(os.environ)
    beating = asyncio.create_task(notifier.beat())
    notifier.say("READY=1")
    try:
        await asyncio.wait({working, serving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done() and not working.cancelled() and (fault := working.exception()) is not None:
            return _lost(fault)
        return 0
    finally:
        notifier.say("STOPPING=1")
        bus.close()
        server.should_exit = True
        for task in (working, watching, beating):
            task.cancel()
        await asyncio.gather(working, watching, beating, serving, return_exceptions=True)


def _lost(fault: BaseException) -> int:
    if isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    status = EXIT_LEASE if isinstance(fault, Conflict | Stale) else EXIT_FAILURE
    return _fail(f"the loop ended: {fault}", status)


def build(
    config: Config, clock: Clock, store: Store, book: PolicyBook, providers: Mapping[str, Provider],
    forecasts: ForecastProcess, bus: Bus,
) -> Loop:  # fmt: skip
    """Put the loop together."""
    timing = config.timing
    # No two replicas may have one name, and containers of one image may have one host's name and number.
    lease = store.lease(f"{socket.gethostname()}:{os.getpid()}-{secrets.token_hex(3)}", timing.lease_seconds)
    poller = Poller(clock, development=config.development, trust=_trust(config))
    patience = Patience(look=timing.look_seconds, repeat=timing.repeat_seconds).stretched(timing.patience)
    operator = Operator(
        store, providers, poller, clock, patience,
        lease=lease, failpoint=failpoint(config, os.environ),
    )  # fmt: skip
    loop = Loop(
        store=store, policies=book, providers=providers, forecasts=forecasts, persist=Persist(), poller=poller,
        operator=operator, lease=lease, clock=clock, config=config,
        publish=lambda event, subject, detail: bus.announce(event, {"job": subject, **detail} if subject else detail),
    )  # fmt: skip
    poller.on_report = loop.received
    poller.on_silence = loop.silent
    return loop


def _trust(config: Config) -> ssl.SSLContext | None:
    try:
        return trusting(config.hook_ca)
    except OSError as error:
        raise ConfigError(f"hook_ca: {config.hook_ca} is no file of certificates ({error.strerror or error})") from None


def listing() -> Callable[[], Sequence[Offer]]:
    """List the catalog's offers, read once."""
    known = catalog.load().offers()
    return lambda: known


class _Server(uvicorn.Server):
    """A server that leaves signals alone: uvicorn raises them again at its end, before the rest is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _obey_signals(server: uvicorn.Server) -> None:
    """End in order at the first SIGTERM or SIGINT, at once at the second."""
    running = asyncio.get_running_loop()

    def told(number: int) -> None:
        running.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, told, number)


def _server(config: Config, app: object) -> uvicorn.Server:
    tls = config.tls
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # an ASGI app
            log_config=None, access_log=False, timeout_graceful_shutdown=5, limit_concurrency=500,
            ssl_certfile=tls.certificate if tls else None, ssl_keyfile=tls.key if tls else None,
        )
    )  # fmt: skip


def _bind(config: Config) -> socket.socket:
    try:
        bound = socket.create_server((config.host, config.port))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise OSError(f"cannot listen on {config.host}:{config.port} ({why}) - choose another with --port") from None
    return bound


def _greet(config: Config, store: Store, bound: socket.socket) -> None:
    token = first_token(store)
    scheme = "https" if config.tls else "http"
    url = f"{scheme}://{config.host}:{bound.getsockname()[1]}"
    if token is not None:
        path = config.directory / "token"
        _keep(path, token)
        sys.stdout.write(f"admin token (shown once, kept in {path}): {token}\n")
    sys.stdout.write(f"scaleahead {VERSION} serves {url}\n")
    sys.stdout.flush()


def _keep(path: Path, token: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(token + "\n")
