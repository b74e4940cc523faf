"""The API over real values in memory: a store, a policy book and a loop that keep what they are told."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import uvicorn

from api.app import create_app
from api.auth import digest_of
from api.deps import Services
from daemon.forecast.base import Horizon
from daemon.look import Look, PlannedMove
from daemon.report import ReportRefused
from daemon.store.base import Conflict, Missing, Stale
from daemon.types import (
    Charge,
    Decision,
    Declared,
    Drift,
    Forecast,
    History,
    Job,
    JobStatus,
    Observation,
    Outcome,
    Report,
)
from policies.config import load
from policies.cost_per_progress import CostPerProgress
from policies.guards import decide
from policies.types import Choice, Option, Rejection, Settings, Situation, Spread
from providers.clock import VirtualClock
from providers.types import Allocation, Offer, Price, Resources, Target

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
EVIL = "evil\r\nSet-Cookie: a=b\x1b[31m<img src=x onerror=alert(1)>"

POLICY = """scaleahead: 1
policies:
  default:
    kind: cost_per_progress
    value_of_time_usd_per_hour: 5
"""


def offer(kind: str, memory: float, usd: float | None, cores: float = 8) -> Offer:
    price = Price(usd, "a price list", NOW - timedelta(hours=3)) if usd is not None else None
    return Offer("simulated", "here", kind, Resources(cores, memory), price)


OFFERS = (
    offer("small", 8, 0.4),
    offer("medium", 16, 0.8),
    offer("large", 32, 1.7),
    offer("huge", 128, 7.5),
    offer("unpriced", 64, None),
)


def option(of: Offer, usd: float, hours: float, misfit: float, due: float | None, route: str = "in_place") -> Option:
    def spread(x: float) -> Spread:
        return Spread(x, tuple(x * (0.8 + 0.05 * k) for k in range(9)))

    return Option(
        offer=of,
        route=route,
        kind=None if route == "stay" else "change_machine",
        usd=spread(usd),
        hours=spread(hours),
        objective=spread(usd + 5 * hours),
        saving=spread(0.0 if route == "stay" else 20 - usd),
        usd_per_hour=of.price.usd_per_hour if of.price else float("nan"),
        usd_per_progress=None,
        misfit=misfit,
        misfit_resource="memory" if misfit > 0.1 else None,
        late=0.0,
        over_budget=0.0,
        move_usd=0.05,
        pause_seconds=95,
        lead_seconds=240,
        due_seconds=due,
        price_age_hours=3,
    )


OPTIONS = (
    option(OFFERS[0], 14, 4.0, 0.97, None, "stay"),
    option(OFFERS[1], 3.1, 3.4, 0.004, 0.0),
    option(OFFERS[2], 6.2, 3.2, 0.001, 4000.0),
    option(OFFERS[3], 25.0, 3.1, 0.0, None),
)
CHOICE = Choice(
    OPTIONS[1],
    "medium holds the predicted 13.8 GiB with its margin; small would run out of memory at step 2,300",
    (
        Rejection(OFFERS[0].id, "memory", "does not fit with a chance of 0.97 (memory), 0.01 is allowed"),
        Rejection(OFFERS[2].id, "objective", "costs $2.61 more to the finish than medium"),
        Rejection(OFFERS[3].id, "usd_per_hour", "$7.50 an hour is above the policy's $4.00"),
    ),
)
STAYING = Choice(
    option(OFFERS[0], 3.0, 3.8, 0.003, None, "stay"),
    "no change, because small holds the predicted 6.1 GiB and medium would save $0.02, below its move of $0.05",
    (Rejection(OFFERS[1].id, "payback", "saves $-0.11 at the 20 % quantile, must be above $0"),),
)


def history_of(job: str, rows: int = 120, declared: Sequence[Declared] = ()) -> History:
    step = np.arange(1, rows + 1) * 20
    wave = np.sin(step / 90)
    memory = np.where(step < 1400, 4.0, 6.0) + 0.15 * wave
    memory[50:51] = np.nan
    return History(
        job=job,
        step=step,
        at_s=NOW.timestamp() - (rows - np.arange(rows)) * 15.0,
        columns={
            "usage.memory_gib": memory,
            "usage.cpu_cores": 5 + 0.5 * wave,
            "step_seconds": np.where(step < 1400, 0.5, 0.75) + 0.02 * wave,
            "metric.loss": 4 * np.exp(-step / 1500) + 0.05 * wave,
            "hp.batch_size": np.where(step < 1400, 32.0, 64.0),
        },
        offers=(OFFERS[0].id,) * rows,
        total_steps=6000,
        declared=tuple(declared),
    )


def forecast_of(history: History) -> Forecast:
    last = int(history.step[-1]) if len(history) else 0
    steps = np.linspace(last, 6000, 33)[1:].astype(np.int64)
    count = 24
    spread = np.linspace(-1, 1, count)[:, None]
    grown = np.where(steps >= 3000, 12.0, 6.0)[None, :]
    ramp = np.linspace(0.1, 1.6, len(steps))[None, :]
    pace = np.where(steps >= 3000, 1.4, 0.75)[None, :] * (1 + 0.1 * spread)
    return Forecast(
        job=history.job,
        made_at=NOW,
        at_step=last,
        steps=steps,
        probability=np.full(count, 1 / count),
        paths={
            "usage.memory_gib": grown + spread * ramp,
            "usage.cpu_cores": np.full((count, len(steps)), 5.0) + spread * 0.4,
            "step_seconds": np.broadcast_to(pace, (count, len(steps))).copy(),
            "metric.loss": 4 * np.exp(-steps / 1500)[None, :] + spread * 0.1 * ramp,
            "hp.batch_size": np.broadcast_to(np.where(steps >= 3000, 128.0, 64.0), (count, len(steps))).copy(),
        },
        finish_step=6000,
        declared=("hp.batch_size",),
    )


class Jobs:
    def __init__(self) -> None:
        self.kept: dict[str, Job] = {}
        self.keys: dict[str, str] = {}
        self.busy: set[str] = set()
        self.statuses: dict[str, JobStatus] = {}

    def add(self, job: Job, idempotency_key: str | None = None) -> Job:
        if idempotency_key in self.keys:
            return self.kept[self.keys[idempotency_key]]
        if job.name in self.kept:
            raise Conflict(f"there is a job '{job.name}' already - take another name")
        if idempotency_key:
            self.keys[idempotency_key] = job.name
        self.kept[job.name] = job
        return job

    def all(self) -> list[Job]:
        return [self.kept[name] for name in sorted(self.kept)]

    def get(self, name: str) -> tuple[Job, JobStatus]:
        if name not in self.kept:
            raise Missing(f"there is no job '{name}'")
        return self.kept[name], self.statuses.get(name, JobStatus())

    def replace(self, job: Job) -> None:
        self.get(job.name)
        self.kept[job.name] = job

    def remove(self, name: str) -> None:
        self.get(name)
        if name in self.busy:
            raise Conflict(f"an action is open on '{name}'")
        del self.kept[name]


class Statuses:
    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def all(self) -> dict[str, JobStatus]:
        return dict(self._jobs.statuses)

    def save(self, job: str, status: JobStatus) -> None:
        self._jobs.statuses[job] = status


@dataclass
class Telemetry:
    kept: dict[str, History] = field(default_factory=dict)
    forecasts: dict[str, Forecast] = field(default_factory=dict)
    drift: dict[str, Drift] = field(default_factory=dict)

    def histories(self, jobs: Sequence[str], window: int = 256) -> dict[str, History]:
        return {name: self.kept.get(name) or history_of(name, 0) for name in jobs}

    def forecast(self, job: str) -> Forecast | None:
        return self.forecasts.get(job)

    def drifts(self) -> dict[str, Drift]:
        return self.drift


class Decisions:
    def __init__(self, audit: "Audit") -> None:
        self.kept: dict[str, Decision] = {}
        self._audit = audit

    def get(self, decision: str) -> Decision:
        if decision not in self.kept:
            raise Missing(f"there is no decision '{decision}'")
        return self.kept[decision]

    def of(self, job: str, limit: int = 50) -> list[Decision]:
        return sorted((d for d in self.kept.values() if d.job == job), key=lambda d: d.at, reverse=True)[:limit]

    def since(self, at: datetime, job: str | None = None) -> list[str]:
        found = sorted(self.kept.values(), key=lambda d: d.at)
        mine = [d for d in found if d.situation is not None and job in (None, d.job)]
        return [d.id for d in mine if (d.last_at or d.at) >= at]

    def mark(self, decision: str, status: Any, by: str, expected: Any = None) -> Decision:
        found = self.get(decision)
        if expected is not None and found.status != expected:
            raise Stale(f"decision '{decision}' does not wait any more: it is {found.status}")
        self.kept[decision] = replace(found, status=status, by=by)
        self._audit.note(by, f"decision {status}", decision, {})
        return self.kept[decision]


class Runs:
    def spans(self, job: str) -> list[Any]:
        return []


class Actions:
    def unfinished(self) -> list[Any]:
        return []


@dataclass
class Ledger:
    kept: list[Charge] = field(default_factory=list)
    settled: list[Outcome] = field(default_factory=list)

    def spent(self, job: str) -> float:
        return sum(c.usd for c in self.kept if c.job == job)

    def charges(self, job: str) -> list[Charge]:
        return [c for c in self.kept if c.job == job]

    def outcomes(self, job: str) -> list[Outcome]:
        return [o for o in self.settled if o.job == job]


class Audit:
    def __init__(self) -> None:
        self.entries: list[tuple[int, datetime, str, str, str, Mapping[str, object]]] = []

    def note(self, who: str, what: str, subject: str, detail: Mapping[str, object]) -> int:
        self.entries.append((len(self.entries) + 1, NOW, who, what, subject, dict(detail)))
        return len(self.entries)

    def since(self, number: int, limit: int = 500) -> list[Any]:
        return self.entries[number : number + limit]

    def intact(self) -> bool:
        return True


class Tokens:
    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, tuple[str, ...]]] = {}

    def add(self, name: str, digest: str, scopes: Sequence[str]) -> None:
        self.kept[digest] = (name, tuple(scopes))

    def scopes(self, digest: str) -> tuple[str, Sequence[str]] | None:
        return self.kept.get(digest)

    def any(self) -> bool:
        return bool(self.kept)


class MemoryStore:
    def __init__(self) -> None:
        self.jobs = Jobs()
        self.status = Statuses(self.jobs)
        self.telemetry = Telemetry()
        self.audit = Audit()
        self.decisions = Decisions(self.audit)
        self.actions = Actions()
        self.runs = Runs()
        self.ledger = Ledger()
        self.tokens = Tokens()

    def lease(self, holder: str, seconds: float) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""


class Book:
    """Policies in memory; ``load`` is the real one."""

    def __init__(self) -> None:
        self.kept: dict[str, Settings] = {}
        self.problems: list[str] = []
        self.put("default", POLICY)

    def names(self) -> list[str]:
        return list(self.kept)

    def get(self, name: str) -> tuple[Settings, Any]:
        return self.kept[name], None

    def put(self, name: str, text: str) -> Sequence[object]:
        found, problems = load(text, f"{name}.yaml")
        if problems:
            return problems
        if [s.name for s in found] != [name]:
            return [f"{name}.yaml:1:1: the file must hold the policy '{name}' and no other"]
        self.kept[name] = found[0]
        return []


class Loop:
    """Answers as the control loop does, from what the store holds."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.told: list[tuple[str, str]] = []
        self.looks: dict[str, Look] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.ready = True

    async def look(self, job: str) -> Look:
        kept, status = self._store.jobs.get(job)
        return self.looks.get(job) or Look(kept, status, history_of(job, 0), Drift(), reason="not heard of yet")

    def seen(self, job: str) -> Look | None:
        return self.looks.get(job)

    async def receive(self, job: str, body: bytes) -> Report:
        self._store.jobs.get(job)
        try:
            sent = json.loads(body)
            rows = sent["observations"]
        except (ValueError, KeyError, TypeError) as error:
            raise ReportRefused("the report is not one of protocol 1 - see the reference") from error
        made = tuple(Observation("r1", row["seq"], row["step"], None, NOW) for row in rows)
        self.told.append(("received", job))
        return Report(job, "r1", len(made), made, dropped={"repeated": 1})

    def kick(self, job: str) -> None:
        self.told.append(("kick", job))

    async def approve(self, decision: str, by: str) -> Decision:
        return self._store.decisions.mark(decision, "approved", by, "waiting")

    async def reject(self, decision: str, by: str) -> Decision:
        return self._store.decisions.mark(decision, "rejected", by, "waiting")

    async def registered(self, job: Job) -> None:
        self.told.append(("registered", job.name))

    async def changed(self, job: Job) -> None:
        self.told.append(("changed", job.name))

    async def removed(self, name: str) -> None:
        self.told.append(("removed", name))

    async def forecast(self, history: History, horizon: Horizon) -> Forecast:
        return forecast_of(history)

    async def plan(self, *asked: Any) -> Look:
        self.asked.append(asked)
        job, status, history, forecast = asked[:4]
        return Look(job, status, history, Drift(), forecast=forecast, options=OPTIONS, choice=CHOICE)

    def health(self) -> Mapping[str, object]:
        return {"ready": self.ready, "reasons": [] if self.ready else ["the poller has not started"]}


def decision_of(name: str, job: str, choice: Choice, status: str, minutes: float) -> Decision:
    return Decision(
        id=name,
        job=job,
        at=NOW - timedelta(minutes=minutes),
        policy="default",
        policy_version="a1b2c3",
        mode="approve",
        status=status,
        current=OFFERS[0],
        choice=choice,
        options=(choice.option, *OPTIONS[1:]) if choice is STAYING else OPTIONS,
        inputs_hash="00ff",
        forecast={"method": "recurrent", "memory_gib": {"p50": 12.0, "p99": float("nan")}},
        shadow="the reactive twin would stay on small",
        repeats=14 if choice is STAYING else 0,
        last_at=NOW - timedelta(minutes=minutes - 3) if choice is STAYING else None,
    )


@dataclass
class World:
    """The fakes together, and tokens of each scope."""

    store: MemoryStore
    book: Book
    loop: Loop
    clock: VirtualClock
    services: Services
    tokens: dict[str, str]

    def fill(self) -> None:
        """Register three jobs: one under a waiting decision, one at ease, one that was never heard of."""
        declared = (Declared(3000, {"batch_size": 128.0}),)
        for name, total in (("bert-large", 6000), ("resnet-50", 6000), ("unheard", None)):
            target = Target("simulated", "vm", f"vm-{name}", "here")
            self.store.jobs.kept[name] = Job(
                name, NOW - timedelta(hours=1), "default", target=target, total_steps=total, declared=declared,
                budget_usd=40.0, deadline=NOW + timedelta(hours=9),
            )  # fmt: skip
        choices = {"bert-large": CHOICE, "resnet-50": STAYING}
        for name, choice in choices.items():
            history = history_of(name, declared=declared)
            status = JobStatus(heard_at=NOW - timedelta(seconds=12), run="r1", checkpoint_seconds=11.0)
            job = self.store.jobs.kept[name]
            plan = (PlannedMove(OFFERS[1].id, 2900, 240.0), PlannedMove(OFFERS[0].id, 5600, 3100.0))
            now = Allocation(job.target or Target("", "vm", "", ""), "running", OFFERS[0])
            self.loop.looks[name] = Look(
                job, status, history, Drift(41, 1.0, 0.46, 0.82), now, forecast_of(history), OPTIONS, choice,
                plan if name == "bert-large" else (), STAYING,
            )  # fmt: skip
            self.store.jobs.statuses[name] = status
            self.store.telemetry.kept[name] = history
            charge = Charge(name, OFFERS[0].id, NOW - timedelta(hours=1), 3600, 0.4)
            self.store.ledger.kept.append(charge)
        waiting = decision_of("d-2", "bert-large", CHOICE, "waiting", 1)
        stayed = decision_of("d-1", "bert-large", STAYING, "no_change", 20)
        other = decision_of("d-3", "resnet-50", STAYING, "no_change", 9)
        self.store.decisions.kept = {d.id: d for d in (waiting, stayed, other)}

    def record(self) -> None:
        """Keep one decision that was really made, with its record: a move to medium that was carried out."""
        options = tuple(replace(one, misfit=0.0, price_age_hours=1.0) for one in OPTIONS[:2])
        seen = Situation("bert-large", NOW, self.book.kept["default"], options)
        made = decision_of("d-9", "bert-large", decide(CostPerProgress(), seen), "done", 0)
        self.store.decisions.kept["d-9"] = replace(made, situation=seen, options=options)


@pytest.fixture
def world() -> World:
    store, book, clock = MemoryStore(), Book(), VirtualClock(NOW)
    loop = Loop(store)
    given = Services(store, book, lambda: OFFERS, loop, clock, "0.1.0")
    scopes = {
        "read": ("read",),
        "observe": ("observe:bert-large",),
        "operate": ("operate",),
        "admin": ("admin",),
    }
    tokens = {}
    for name, held in scopes.items():
        tokens[name] = f"sa_{name}"
        store.tokens.add(name, digest_of(tokens[name]), held)
    return World(store, book, loop, clock, given, tokens)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """Calls an ASGI app in this process, as a server would."""

    def __init__(self, app: Any, token: str | None) -> None:
        self.app = app
        self.token = token

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None,
        token: str | None = None, address: str = "10.0.0.9", chunks: Sequence[bytes] | None = None,
    ) -> Answer:  # fmt: skip
        sent = {"host": "testserver", **(headers or {})}
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if body is not None and not isinstance(body, bytes):
            sent.setdefault("content-type", "application/json")
        if chunks is None and raw:
            sent.setdefault("content-length", str(len(raw)))
        if held := (self.token if token is None else token):
            sent["authorization"] = f"Bearer {held}"
        pure, _, query = path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": pure, "raw_path": pure.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in sent.items()],
            "client": (address, 50000), "server": ("testserver", 80),
        }  # fmt: skip
        parts = [*(chunks if chunks is not None else [raw])]
        got: list[Any] = []

        async def receive() -> Any:
            if parts:
                part = parts.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(parts)}
            await asyncio.sleep(3600)

        async def send(message: Any) -> None:
            got.append(message)

        try:
            await self.app(scope, receive, send)
        except Exception:
            if not got:
                raise
        assert got, "the app answered nothing"
        headers_out = {k.decode().lower(): v.decode("latin-1") for k, v in got[0]["headers"]}
        whole = b"".join(m.get("body", b"") for m in got[1:])
        return Answer(got[0]["status"], headers_out, whole)

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: object = None, **more: Any) -> Answer:
        return await self.call("POST", path, body, **more)


@pytest.fixture
def app(world: World) -> Any:
    return create_app(world.services)


@pytest.fixture
def api(app: Any, world: World) -> Browser:
    """A caller with the admin token."""
    return Browser(app, world.tokens["admin"])


class Server(uvicorn.Server):
    """A real server in a thread, on a free port of loopback."""

    url = ""

    def install_signal_handlers(self) -> None:
        """The test process keeps its own."""


@pytest.fixture
def server(app: Any, world: World) -> Iterator[Server]:
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    made = Server(config)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    wait = threading.Event()
    for _ in range(500):
        if made.started:
            break
        wait.wait(0.01)
    assert made.started
    made.url = f"http://127.0.0.1:{made.servers[0].sockets[0].getsockname()[1]}"
    yield made
    made.should_exit = True
    thread.join(10)
    assert not thread.is_alive()
