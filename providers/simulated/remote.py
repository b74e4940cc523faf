"""Edge: a simulated cloud in another process, asked over HTTP. It has the methods of ``Cloud``."""

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from providers.errors import AnswerLost, Invalid, Unavailable
from providers.simulated import wire
from providers.simulated.state import Barrier, Fault, Group, Lag, Line, Machine, Quota, Record, Shortage, State
from providers.types import Allocation, Call, Notice, Offer, Operation, Route, Target

ANSWER_LIMIT_BYTES = 64 * 1024 * 1024


class Remote:
    """A client of ``providers.simulated.server``; each method is one request, none is repeated.

    Raises what the cloud raised. A refused connection is ``Unavailable``; one that breaks or times out after a
    mutation was sent is ``AnswerLost``, after a read ``Unavailable``. Safe for threads: a connection a request.
    """

    def __init__(self, url: str, timeout_seconds: float = 10.0, name: str = "simulated") -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not parts.port or parts.path.strip("/"):
            raise Invalid(f"{url!r} is no address of a simulated cloud - write http://127.0.0.1:PORT")
        self.name = name
        self._host, self._port = parts.hostname, parts.port
        self._timeout_seconds = timeout_seconds
        self._methods = wire.methods()

    def describe(self, target: Target) -> Allocation:
        """Say what a target is."""
        found: Allocation = self._call("describe", target=target)
        return found

    def offers(self, target: Target) -> list[Offer]:
        """List what a target could become."""
        found: list[Offer] = self._call("offers", target=target)
        return found

    def route(self, current: Allocation, offer: Offer) -> Route:
        """Find the way to an offer."""
        found: Route = self._call("route", current=current, offer=offer)
        return found

    def perform(self, call: Call, token: str) -> Operation:
        """Make one mutation."""
        found: Operation = self._call("perform", call=call, token=token)
        return found

    def poll(self, operation: Operation) -> Operation:
        """Ask how an operation stands."""
        found: Operation = self._call("poll", operation=operation)
        return found

    def labelled(self, key: str, value: str | None = None) -> list[Allocation]:
        """List what carries a label."""
        found: list[Allocation] = self._call("labelled", key=key, value=value)
        return found

    def bill(self, target: str) -> list[Line]:
        """List what a machine or group has cost."""
        found: list[Line] = self._call("bill", target=target)
        return found

    def state(self) -> State:
        """Show everything."""
        found: State = self._call("state")
        return found

    def machine(self, machine: str) -> Machine:
        """Show the truth about one machine or node."""
        found: Machine = self._call("machine", machine=machine)
        return found

    def group(self, group: str) -> Group:
        """Show the truth about one group."""
        found: Group = self._call("group", group=group)
        return found

    def records(self) -> list[Record]:
        """List the calls made."""
        found: list[Record] = self._call("records")
        return found

    def add_machine(
        self, machine: str, offer: str, labels: Mapping[str, str] | None = None, template: str = ""
    ) -> Target:
        """Set up a VM that runs now."""
        found: Target = self._call("add_machine", machine=machine, offer=offer, labels=labels or {}, template=template)
        return found

    def meddle(self, call: Call) -> Operation:
        """Do something as another user of the account would."""
        found: Operation = self._call("meddle", call=call)
        return found

    def notice(self, machine: str, notice: Notice) -> None:
        """Post a notice on a machine."""
        self._call("notice", machine=machine, notice=notice)

    def reclaim(self, machine: str) -> None:
        """Announce the reclaim of a spot machine or node."""
        self._call("reclaim", machine=machine)

    def fault(self, fault: Fault) -> None:
        """Script a fault."""
        self._call("fault", fault=fault)

    def shortage(self, shortage: Shortage) -> None:
        """Let offers run out."""
        self._call("shortage", shortage=shortage)

    def relieve(self, offers: str) -> None:
        """End the shortages that were set with this very glob."""
        self._call("relieve", offers=offers)

    def quota(self, quota: Quota) -> None:
        """Set a quota."""
        self._call("quota", quota=quota)

    def barrier(self, barrier: Barrier) -> None:
        """Forbid a change of machine type in place."""
        self._call("barrier", barrier=barrier)

    def lag(self, lag: Lag) -> None:
        """Let reads show an older state."""
        self._call("lag", lag=lag)

    def _call(self, name: str, **arguments: object) -> Any:
        """Make one request; what it gives is of the type that ``wire.methods`` says."""
        method = self._methods[name]
        status, body = self._exchange(f"/{name}", json.dumps(wire.encode(arguments)), method.changes)
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise self._lost(method.changes, f"the answer to {name} is no JSON (status {status})") from error
        if status != 200:
            raise wire.error_named(answer.get("error", ""))(answer.get("message", ""))
        return wire.decode(method.gives, answer["value"], name)

    def _exchange(self, path: str, body: str, changes: bool) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_seconds)
        try:
            try:
                connection.connect()
            except OSError as error:
                raise Unavailable(f"no cloud answers at {self._host}:{self._port}: {error}") from error
            try:
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                data = answer.read(ANSWER_LIMIT_BYTES + 1)
            except (OSError, http.client.HTTPException) as error:
                raise self._lost(changes, f"the connection broke: {error or type(error).__name__}") from error
            if len(data) > ANSWER_LIMIT_BYTES:
                raise self._lost(changes, "the answer is too long")
            return answer.status, data
        finally:
            connection.close()

    def _lost(self, changes: bool, why: str) -> AnswerLost | Unavailable:
        if changes:
            return AnswerLost(f"{why} - describe before repeating the call")
        return Unavailable(f"{why} - ask again")
