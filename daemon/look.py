"""Values: everything one turn sees of one job, gathered for the people and programs that ask."""

from dataclasses import dataclass

from daemon.types import Drift, Forecast, History, Job, JobStatus
from policies.types import Choice, Option, Settings, Situation
from providers.types import Allocation


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """A move the plan foresees: to which offer, at which step, and in how many seconds it must begin."""

    offer: str
    at_step: int
    in_seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """One job at one moment. ``reason`` says why something is missing, "" if nothing is.

    ``settings`` are the policy's that it was weighed with, ``None`` if it was not.
    ``situation`` is the one that ``choice`` was made in, so that it can be made again.
    ``shadow`` is what the reactive twin would choose now: the same engine with the present persisting.
    """

    job: Job
    status: JobStatus
    history: History
    drift: Drift
    allocation: Allocation | None = None
    forecast: Forecast | None = None
    options: tuple[Option, ...] = ()
    choice: Choice | None = None
    plan: tuple[PlannedMove, ...] = ()
    shadow: Choice | None = None
    reason: str = ""
    settings: Settings | None = None
    situation: Situation | None = None
