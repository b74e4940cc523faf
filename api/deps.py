"""Values: what the routes are given. The composition root fills it once; routes read it from the app's state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import Request

from api.events import Bus
from daemon.forecast.base import Horizon
from daemon.look import Look
from daemon.store.base import Store
from daemon.types import Decision, Forecast, History, Job, JobStatus, Report
from policies.base import Policy
from policies.types import Settings
from providers.clock import Clock
from providers.types import Offer


class Policies(Protocol):
    """The policies in force. Every method is synchronous and may read or write files."""

    @property
    def problems(self) -> Sequence[object]:
        """What is wrong with the policy files now; each reads as ``file:line:column: message``."""

    def names(self) -> Sequence[str]:
        """List the policies by name."""

    def get(self, name: str) -> tuple[Settings, Policy]:
        """Read one. Raises ``KeyError``."""

    def put(self, name: str, text: str) -> Sequence[object]:
        """Keep a policy's new text, unless something is wrong with it: then nothing changes and that is returned."""


class Sight(Protocol):
    """What can be asked of the loop; nothing here acts."""

    async def look(self, job: str) -> Look:
        """Forecast a job and weigh its options now. Raises ``Missing``."""

    def seen(self, job: str) -> Look | None:
        """Give what this job's last turn saw, ``None`` before its first. Does no work."""

    async def forecast(self, history: History, horizon: Horizon) -> Forecast:
        """Forecast a history that belongs to no registered job."""

    async def plan(
        self,
        job: Job,
        status: JobStatus,
        history: History,
        forecast: Forecast | None,
        current: Offer,
        offers: Sequence[Offer],
        settings: Settings,
        spent_usd: float = 0.0,
    ) -> Look:
        """Weigh offers for a job that need not be registered; without a forecast the history is forecast first."""

    def health(self) -> Mapping[str, object]:
        """Say ``ready`` and ``reasons``, and whatever else a person on call wants to know."""


class Reins(Protocol):
    """What can be told to the loop about jobs and decisions."""

    async def receive(self, job: str, body: bytes) -> Report:
        """Take a pushed report; durable on return. Raises ``Missing``, ``daemon.report.ReportRefused``."""

    async def approve(self, decision: str, by: str) -> Decision:
        """Let a waiting decision be acted on. Raises ``Missing``; ``Stale`` if it does not wait any more."""

    async def reject(self, decision: str, by: str) -> Decision:
        """Refuse a waiting decision. Raises as ``approve`` does."""

    def kick(self, job: str) -> None:
        """Consider this job soon."""


class Register(Protocol):
    """What the loop is told after the store has been changed. Each is idempotent."""

    async def registered(self, job: Job) -> None:
        """A job was registered (or its registration was repeated)."""

    async def changed(self, job: Job) -> None:
        """A job's settings or state have changed."""

    async def removed(self, name: str) -> None:
        """A job is gone."""


class Control(Sight, Reins, Register, Protocol):
    """The loop, as delivery sees it."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that the routes work with.

    ``offers`` lists all that the catalog and the providers have now; it may block. ``open_read`` lets callers on this
    host read without a token. ``bus`` carries the live events of this process.
    """

    store: Store
    policies: Policies
    offers: Callable[[], Sequence[Offer]]
    control: Control
    clock: Clock
    version: str
    open_read: bool = False
    bus: Bus = field(default_factory=Bus)


def services(request: Request) -> Services:
    """Find the services of the app that answers this request."""
    found: Services = request.app.state.services
    return found
