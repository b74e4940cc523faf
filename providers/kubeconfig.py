"""Edge: a kubeconfig file: where a cluster's API is, whom to trust there, and as whom to speak.

Understood are a token, a token file, a client certificate and an exec plug-in that gives a token (``aws eks
get-token``, ``gke-gcloud-auth-plugin``). What is not understood is refused by name, never passed over.
"""

import base64
import binascii
import json
import os
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from providers.clock import Clock
from providers.errors import Invalid, NotPermitted

PLUGIN_SECONDS = 30.0
EARLY = timedelta(seconds=60)
"""A token is renewed so long before it expires."""
_CLUSTER = ("server", "certificate-authority", "certificate-authority-data", "extensions")
_USER = (
    "token", "tokenFile", "client-certificate", "client-certificate-data", "client-key", "client-key-data", "exec",
    "extensions",
)  # fmt: skip
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Access:
    """How to speak with one cluster. ``token`` gives the bearer token, a fresh one if asked for; ``None``: none."""

    server: str
    tls: ssl.SSLContext | None
    token: Callable[[bool], str | None]


def contexts(path: str) -> list[str]:
    """List the contexts of a kubeconfig. Raises ``Invalid``."""
    return list(_named(_load(Path(path).expanduser()), "contexts", path))


def context_of(cluster: str, path: str) -> str:
    """Find the context of a cluster: of its very name, or one that ends with it, as each cloud's tool writes them.

    Those are an ARN, arn:aws:eks:REGION:ACCOUNT:cluster/NAME, and gke_PROJECT_LOCATION_NAME. Raises ``Invalid``.
    """
    names = contexts(path)
    found = [name for name in names if name == cluster] or [name for name in names if name.endswith(f"/{cluster}")]
    found = found or [name for name in names if name.startswith("gke_") and name.endswith(f"_{cluster}")]
    if len(found) == 1:
        return found[0]
    told = f"has {len(found)} contexts" if found else "has no context"
    raise Invalid(f"{path} {told} for cluster {cluster} - name one under contexts; it has {', '.join(names) or 'none'}")


def read(path: str, context: str, clock: Clock) -> Access:
    """Read one context of a kubeconfig. Raises ``Invalid`` in one line for what is missing or not understood."""
    file = Path(path).expanduser()
    whole = _load(file)
    chosen = _entry(_named(whole, "contexts", path), context, "context", path)
    cluster = _entry(_named(whole, "clusters", path), str(chosen.get("cluster", "")), "cluster", path)
    user = _entry(_named(whole, "users", path), str(chosen.get("user", "")), "user", path)
    _only(cluster, _CLUSTER, f"cluster {chosen['cluster']} in {path}")
    _only(user, _USER, f"user {chosen['user']} in {path}")
    server = str(cluster.get("server", "")).rstrip("/")
    address = urlsplit(server)
    if address.scheme == "http" and address.hostname in _LOOPBACK:
        return Access(server, None, _token(user, file.parent, clock))
    if address.scheme != "https":
        raise Invalid(f"{path}: the server {server!r} of context {context} must be https, or http on this host")
    return Access(server, _tls(cluster, user, file.parent, path), _token(user, file.parent, clock))


def _load(path: Path) -> Mapping[str, Any]:
    try:
        loaded = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(f"{path}: cannot be read ({error.strerror}) - name an existing kubeconfig") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: not YAML ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(loaded, dict):
        raise Invalid(f"{path}: not a kubeconfig")
    found: Mapping[str, Any] = loaded
    return found


def _named(whole: Mapping[str, Any], kind: str, path: str) -> dict[str, Any]:
    """Read a list of named things; each holds its content under the kind's singular."""
    try:
        return {str(one["name"]): one[kind[:-1]] for one in whole.get(kind) or ()}
    except (TypeError, KeyError) as error:
        raise Invalid(f"{path}: {kind} must be a list of names with a {kind[:-1]} each, {error} is missing") from None


def _entry(among: Mapping[str, Any], name: str, kind: str, path: str) -> Mapping[str, Any]:
    found = among.get(name)
    if not isinstance(found, dict):
        raise Invalid(f"{path} has no {kind} {name!r} - it has {', '.join(among) or 'none'}")
    return found


def _only(given: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    strange = sorted(key for key in given if key not in known and given[key])
    if strange:
        raise Invalid(f"{what} has {', '.join(strange)}, not understood here - known are {', '.join(known[:-1])}")


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path, path: str) -> ssl.SSLContext:
    authority = _content(cluster, "certificate-authority", folder, path)
    certificate = _content(user, "client-certificate", folder, path)
    key = _content(user, "client-key", folder, path)
    if bool(certificate) != bool(key):
        raise Invalid(f"{path}: a client certificate needs its key, and a key its certificate")
    try:
        tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if certificate and key:
            _identify(tls, certificate, key)
    except (ssl.SSLError, ValueError) as error:
        raise Invalid(f"{path}: a certificate or key cannot be used ({error})") from None
    return tls


def _identify(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load a certificate and its key; the standard library takes them from a file only."""
    with tempfile.TemporaryDirectory() as folder:  # for its owner alone
        file = Path(folder) / "both.pem"
        file.touch(mode=0o600)
        file.write_bytes(certificate + b"\n" + key)
        tls.load_cert_chain(file)


def _content(given: Mapping[str, Any], name: str, folder: Path, path: str) -> bytes | None:
    """Read what is given as data or as a file, whose path is relative to the kubeconfig."""
    try:
        if given.get(f"{name}-data"):
            return base64.b64decode(str(given[f"{name}-data"]), validate=True)
        return (folder / str(given[name])).read_bytes() if given.get(name) else None
    except binascii.Error:
        raise Invalid(f"{path}: {name}-data is not base64") from None
    except OSError as error:
        raise Invalid(f"{path}: {name} {given[name]} cannot be read ({error.strerror})") from None


def _token(user: Mapping[str, Any], folder: Path, clock: Clock) -> Callable[[bool], str | None]:
    if user.get("exec"):
        return _Plugin(user["exec"], folder, clock)
    if user.get("tokenFile"):
        return _TokenFile(folder / str(user["tokenFile"]))
    token = str(user["token"]) if user.get("token") else None
    return lambda _: token


class _TokenFile:
    """Reads a token from a file each time: such tokens are replaced under their name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, _: bool) -> str:
        try:
            return self._path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise NotPermitted(f"the token file {self._path} cannot be read ({error.strerror})") from None


class _Plugin:
    """Asks an exec plug-in for a token and keeps it until it is about to expire. Safe for threads."""

    def __init__(self, told: Mapping[str, Any], folder: Path, clock: Clock) -> None:
        if not isinstance(told, dict) or not told.get("command") or not told.get("apiVersion"):
            raise Invalid("an exec plug-in of a kubeconfig needs command and apiVersion")
        command = str(told["command"])
        # Of a path, that to the kubeconfig counts; a bare name is looked for in PATH.
        self._command = [str(folder / command) if "/" in command else command, *map(str, told.get("args") or ())]
        self._environment = {str(one["name"]): str(one["value"]) for one in told.get("env") or ()}
        self._request = {"kind": "ExecCredential", "apiVersion": told["apiVersion"], "spec": {"interactive": False}}
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: tuple[str, datetime | None] | None = None

    def __call__(self, fresh: bool) -> str:
        with self._lock:
            if fresh or self._kept is None or self._old(self._kept[1]):
                self._kept = self._asked()
            return self._kept[0]

    def _old(self, until: datetime | None) -> bool:
        return until is not None and self._clock.now() >= until - EARLY

    def _asked(self) -> tuple[str, datetime | None]:
        environment = {**os.environ, **self._environment, "KUBERNETES_EXEC_INFO": json.dumps(self._request)}
        name = self._command[0]
        try:
            run = subprocess.run(
                self._command, env=environment, capture_output=True, timeout=PLUGIN_SECONDS, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            raise NotPermitted(f"{name} cannot be run for a token ({error.strerror}) - install it") from None
        except subprocess.TimeoutExpired:
            raise NotPermitted(f"{name} gave no token within {PLUGIN_SECONDS:g} s") from None
        if run.returncode:
            said = " ".join(run.stderr.decode(errors="replace").split())[-300:]
            raise NotPermitted(f"{name} gave no token: {said or f'exit status {run.returncode}'}")
        try:
            status = json.loads(run.stdout)["status"]
            until = status.get("expirationTimestamp")
            return str(status["token"]), datetime.fromisoformat(until) if until else None
        except (ValueError, KeyError, TypeError):
            # Its output may hold a secret, so none of it is shown.
            raise NotPermitted(f"{name} answered with no ExecCredential that holds a token") from None
