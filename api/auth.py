"""Edge: who is calling, and what they may do.

A bearer token is known by the SHA-256 digest under which the store keeps its scopes; the token itself is kept nowhere.
Finding a digest by index tells a guesser nothing of the token, and its 256 random bits cannot be guessed: the limit
on failures is there to bound load and to leave a trace.

Scopes: ``read``; ``observe:<job>`` (push that job's reports); ``operate`` (jobs and approvals, reading included);
``admin`` (everything).
"""

import hashlib
import ipaddress
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security.utils import get_authorization_scheme_param

from api.deps import Services, services
from api.problems import Problem
from daemon.store.base import Store

FAILURES = 10
WINDOW_SECONDS = 60.0
MOST_CALLERS = 4096
TOKEN_PREFIX = "sa_"


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone with a valid token, or anyone on this host where reading is open."""

    name: str
    scopes: tuple[str, ...]

    def may(self, scope: str) -> bool:
        """Say whether a scope is held, by itself or through a wider one."""
        held = set(self.scopes)
        if scope in held or "admin" in held:
            return True
        return "operate" in held and (scope == "read" or scope.startswith("observe:"))


class Failures:
    """Counts refused tokens by address, over the last minute. Bounded; used from several threads, each call atomic."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._good: OrderedDict[str, None] = OrderedDict()

    def wait_seconds(self, address: str, digest: str) -> float:
        """Say how long an address must wait, 0 if not at all. A token that was good before need not wait."""
        times = self._times.get(address)
        if times is None or digest in self._good:
            return 0.0
        now = self._monotonic()
        while times and now - times[0] > WINDOW_SECONDS:
            times.popleft()
        return WINDOW_SECONDS - (now - times[0]) if len(times) >= FAILURES else 0.0

    def failed(self, address: str) -> bool:
        """Count a failure; say whether it was the one that reached the limit."""
        times = self._times.setdefault(address, deque(maxlen=FAILURES))
        self._times.move_to_end(address)
        while len(self._times) > MOST_CALLERS:
            self._times.popitem(last=False)
        times.append(self._monotonic())
        return len(times) == FAILURES

    def passed(self, digest: str) -> None:
        """Remember a good token's digest."""
        self._good[digest] = None
        while len(self._good) > MOST_CALLERS:
            self._good.popitem(last=False)


def digest_of(token: str) -> str:
    """Compute the digest under which the store knows a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token(store: Store, name: str, scopes: Sequence[str]) -> str:
    """Make a token, keep its digest, and give the token: the only time that it is seen."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    store.tokens.add(name, digest_of(token), scopes)
    return token


def first_token(store: Store) -> str | None:
    """Make the admin token of a new installation; ``None`` if there is any token already."""
    if store.tokens.any():
        return None
    return new_token(store, "admin", ("admin",))


def address_of(request: Request) -> str:
    """Name the caller's address."""
    return request.client.host if request.client else "unknown"


def on_this_host(request: Request) -> bool:
    """Say whether caller and requested host name are both this host.

    The name is checked because a foreign page can make a browser call this host under the page's own name.
    """
    host = request.url.hostname or ""
    return host in ("localhost", "127.0.0.1", "::1") and _loopback(address_of(request))


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def caller(request: Request, given: Annotated[Services, Depends(services)]) -> Caller:
    """Find who is calling. Raises a 401 problem, or 429 after too many failures from one address."""
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    if not token or scheme.lower() != "bearer":
        if given.open_read and on_this_host(request) and not scheme:
            return Caller("anyone on this host", ("read",))
        raise _unknown("this needs a token - send it as 'Authorization: Bearer TOKEN'")
    failures: Failures = request.app.state.failures
    address = address_of(request)
    digest = digest_of(token)
    if (wait := failures.wait_seconds(address, digest)) > 0:
        seconds = str(int(wait) + 1)
        detail = f"too many refused tokens from this address - wait {seconds} seconds"
        raise Problem(429, detail, headers={"Retry-After": seconds})
    found = given.store.tokens.scopes(digest)
    if found is None:
        if failures.failed(address):
            given.store.audit.note("unknown", "tokens refused", address, {"failures": FAILURES})
        raise _unknown("this token is not known - check that it is whole, or add one with 'scaleahead token add'")
    failures.passed(digest)
    return Caller(found[0], tuple(found[1]))


def _unknown(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="scaleahead"'})


def needs(scope: str) -> Callable[..., Caller]:
    """Make the dependency that lets only callers with a scope pass. ``{name}`` in it is the job of the path."""

    def check(request: Request, who: Annotated[Caller, Depends(caller)]) -> Caller:
        wanted = scope.replace("{name}", str(request.path_params.get("name", "")))
        if not who.may(wanted):
            raise Problem(403, f"this needs a token with the scope {wanted} - '{who.name}' does not have it")
        return who

    return check


Reader = Annotated[Caller, Depends(needs("read"))]
Sender = Annotated[Caller, Depends(needs("observe:{name}"))]
Operator = Annotated[Caller, Depends(needs("operate"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
