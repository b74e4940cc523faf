"""Edge: how the commands talk to the daemon. Standard library only, so that a command starts at once."""

import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from api.text import plain

HERE = "http://127.0.0.1:8642"
SECONDS = 60.0


class Failure(Exception):
    """A command cannot do what was asked. ``str()`` is one line: what - how to mend it."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Daemon:
    """Where the daemon is, and the token to show it."""

    url: str
    token: str | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Daemon":
        """Find it by ``SCALEAHEAD_URL`` and ``SCALEAHEAD_TOKEN``, else on this host by its token file."""
        url = environment.get("SCALEAHEAD_URL", HERE).rstrip("/")
        if urlsplit(url).scheme not in ("http", "https"):
            raise Failure("SCALEAHEAD_URL is not an http or https URL - set it to one such as " + HERE, 2)
        return cls(url, environment.get("SCALEAHEAD_TOKEN") or _kept(token_file(environment)))

    def get(self, path: str) -> Any:
        """Ask for something. Raises ``Failure``."""
        return self.send("GET", path)

    def send(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> Any:  # fmt: skip
        """Send a request and read the JSON of its answer. Raises ``Failure`` with the daemon's own words."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        asked = Request(self.url + path, data, {"Accept": "application/json", **(headers or {})}, method=method)
        if data is not None and not asked.has_header("Content-type"):
            asked.add_header("Content-Type", "application/json")
        if self.token:
            asked.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            with _opener(self.url).open(asked, timeout=seconds) as answer:
                raw = answer.read()
                return json.loads(raw) if raw else None
        except HTTPError as error:
            raise Failure(_words(error)) from None
        except URLError as error:
            reason = plain(getattr(error.reason, "strerror", None) or error.reason).lower()
            hint = "start it with 'scaleahead serve' or set SCALEAHEAD_URL"
            raise Failure(f"no daemon answers at {plain(self.url)} ({reason}) - {hint}") from None
        except (OSError, ValueError) as error:
            raise Failure(f"{plain(self.url)} does not answer as a daemon would ({plain(error)}) - check it") from None


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follow nothing: the daemon never redirects."""


def _opener(url: str) -> OpenerDirector:
    host = urlsplit(url).hostname or ""
    try:
        inside = ipaddress.ip_address(host).is_loopback
    except ValueError:
        inside = host == "localhost"
    return build_opener(_Stay, ProxyHandler({})) if inside else build_opener(_Stay)


def _words(error: HTTPError) -> str:
    try:
        told = json.loads(error.read())
        detail = plain(told["detail"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"the daemon answered {error.code} - is this its address?"
    if error.code == 401:
        return f"{detail} (SCALEAHEAD_TOKEN, or the token file in the daemon's state directory)"
    return detail


def token_file(environment: Mapping[str, str]) -> Path:
    """Say where the daemon of this host keeps its first token."""
    if kept := environment.get("SCALEAHEAD_STATE_DIRECTORY"):
        return Path(kept).expanduser() / "token"
    base = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "scaleahead" / "token"


def _kept(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def name_in_path(name: str) -> str:
    """Write a name for use in a path."""
    return quote(name, safe="")


def here() -> Daemon:
    """Find the daemon that this process's environment names."""
    return Daemon.of(os.environ)
