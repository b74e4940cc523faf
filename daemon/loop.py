"""Edge: the daemon's loop. Reports come in, jobs are looked at in batches, decisions are written, actions advance.

One observation's way: ``received`` (validated by the poller) -> stored -> ``turn`` (drift, forecast, options, choice)
-> ``_decide`` (decision, intent) -> ``_advance`` (one step of an action at a time) -> ``_close`` (measured result).
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from daemon import report as reports
from daemon import turn
from daemon.config import Config
from daemon.forecast.base import Forecaster, Horizon
from daemon.hook import Poller
from daemon.look import Look
from daemon.operate import CANNOT_BE_ASKED, Operator
from daemon.store.base import Conflict, Lease, Missing, Stale, Store, StoreError
from daemon.types import Action, Charge, Decision, Drift, Forecast, History, Job, JobStatus, Report
from daemon.watch import Forecasts, Known, PolicyLookup, Watch
from policies.types import Mode, Settings
from providers.base import Provider
from providers.clock import Clock
from providers.types import Allocation, Offer, Resources, Target

log = structlog.get_logger()

_T = TypeVar("_T")
Publish = Callable[[str, str, Mapping[str, object]], None]
"""Tell whoever listens: event, subject, detail."""


class Loop:
    """The control loop of one process. Construct it, then ``await run()`` until it is cancelled."""

    def __init__(
        self,
        *,
        store: Store,
        policies: PolicyLookup,
        providers: Mapping[str, Provider],
        forecasts: Forecasts,
        persist: Forecaster,
        poller: Poller,
        operator: Operator,
        lease: Lease,
        clock: Clock,
        config: Config,
        publish: Publish = lambda event, subject, detail: None,
    ) -> None:
        self._store = store
        self._policies = policies
        self._providers = providers
        self._forecasts = forecasts
        self._poller = poller
        self._operator = operator
        self._lease = lease
        self._clock = clock
        self._config = config
        self._publish = publish
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="turn")
        self.watch = Watch(store, policies, providers, forecasts, persist, clock, config.timing, self._threads)
        self._jobs: dict[str, Job] = {}
        self._status: dict[str, JobStatus] = {}
        self._offer_of: dict[str, str] = {}
        self._seen: dict[str, Look] = {}
        self._wake = asyncio.Event()
        self._acting: set[str] = set()
        self._problem = "starting"

    # Life.

    async def run(self) -> None:
        """Take the lease, go on with what is open, and loop until cancelled or the lease is lost.

        Raises ``Conflict`` when another process holds the lease and ``Stale`` when one takes it: then this must end.
        """
        await self._run(lambda: self._lease.acquire(self._clock.now()))
        for job in await self._run(self._store.jobs.all):
            self._jobs[job.name] = job
        self._status = dict(await self._run(self._store.status.all))
        self._acting = {action.job for action in await self._run(self._store.actions.unfinished)}
        for job in self._jobs.values():
            self._follow(job)
        self._problem = ""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._poller.run())
            tasks.create_task(self._hold())
            tasks.create_task(self._turns())
            tasks.create_task(self._actions())

    async def _hold(self) -> None:
        while True:
            await self._sleep(self._config.timing.lease_seconds / 3, real=True)
            await self._run(lambda: self._lease.renew(self._clock.now()))

    async def _turns(self) -> None:
        while True:
            try:
                seconds = self._clock.real_seconds(self._config.timing.turn_seconds)
                await asyncio.wait_for(self._wake.wait(), timeout=seconds)
            except TimeoutError:
                pass
            self._wake.clear()
            names = [name for name, job in self._jobs.items() if job.state == "active"]
            await self.turn(names)

    async def _actions(self) -> None:
        while True:
            await self._sleep(self._config.timing.look_seconds)
            try:
                actions = await self._run(self._store.actions.unfinished)
            except StoreError as error:
                log.error("cannot read the open actions", error=str(error))
                continue
            now = self._clock.now()
            await asyncio.gather(*(self._advance(action) for action in actions if action.next_at <= now))

    async def _sleep(self, seconds: float, real: bool = False) -> None:
        await asyncio.sleep(seconds if real else self._clock.real_seconds(seconds))

    async def _run(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def wake(self) -> None:
        """Look at every job soon."""
        self._wake.set()

    async def close(self) -> None:
        """Let the lease go and end the threads."""
        with contextlib.suppress(StoreError):
            await self._run(self._lease.release)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # What jobs say.

    def _follow(self, job: Job) -> None:
        if job.hook is not None and (job.state == "active" or job.name in self._acting):
            self._poller.add(
                job.name, job.hook, interval=self._config.timing.poll_seconds,
                after=lambda: self._status.get(job.name, JobStatus()).next_seq, facts=lambda: self._facts(job.name),
            )  # fmt: skip
        else:
            self._poller.remove(job.name)

    def _facts(self, name: str) -> Resources | None:
        """What a node of the job has, for the range checks of its reports."""
        look = self._seen.get(name)
        return look.allocation.offer.resources if look is not None and look.allocation is not None else None

    async def received(self, name: str, found: Report) -> None:
        """Keep a checked report; durable when this returns."""
        if name not in self._jobs:
            raise Missing(f"no job {name!r} - register it first")
        status = turn.heard(self._status.get(name, JobStatus()), found, self._clock.now())
        self._status[name] = status
        await self._run(self._store.telemetry.append, found, self._offer_of.get(name), status)
        self._publish("observed", name, {"step": found.observations[-1].step if found.observations else None})

    async def silent(self, name: str, why: str) -> None:
        """Note that a job did not answer."""
        status = self._status.get(name, JobStatus())
        if status.error != why:
            await self._save(name, replace(status, error=why))

    async def receive(self, job: str, body: bytes) -> Report:
        """Take a pushed report. Raises ``Missing`` or ``ReportRefused``."""
        if job not in self._jobs:
            raise Missing(f"no job {job!r} - register it first")
        found = reports.read(body, job, self._clock.now(), self._facts(job))
        await self.received(job, found)
        return found

    async def _save(self, name: str, status: JobStatus) -> None:
        self._status[name] = status
        await self._run(self._store.status.save, name, status)

    # One turn.

    async def turn(self, names: Sequence[str]) -> list[Look]:
        """Look at these jobs and decide for each. A fault in one job never reaches another."""
        known = [
            Known(self._jobs[name], self._status.get(name, JobStatus()), await self._moves(name))
            for name in names
            if name in self._jobs
        ]
        if not known:
            return []
        try:
            looks = await self.watch.look(known)
        except Exception:  # border: one turn. The next one comes; nothing was decided.
            log.exception("a turn failed")
            return []
        for look in looks:
            try:
                await self._conclude(look)
            except Stale:
                raise
            except Exception:  # border: one job's turn.
                log.exception("a job's turn failed", job=look.job.name)
        return looks

    async def _moves(self, name: str) -> tuple[datetime, ...]:
        outcomes = await self._run(self._store.ledger.outcomes, name)
        return tuple(outcome.at for outcome in outcomes if outcome.stage == "done")

    async def _conclude(self, look: Look) -> None:
        name = look.job.name
        self._seen[name] = look
        if look.allocation is not None:
            self._offer_of[name] = look.allocation.offer.id
            await self._run(self._charge, name, look.allocation)
            await self._notices(look.allocation, name)
        finished = self._status.get(name, JobStatus()).state == "done"
        if look.choice is None or look.forecast is None or name in self._acting or finished:
            self._publish("turn", name, {"reason": look.reason})
            return
        settings, _ = self._policies.get(look.job.policy)
        await self._decide(look, settings)

    async def _notices(self, allocation: Allocation, name: str) -> None:
        """Learn from what the platform says: a process killed for memory raises the floor for good."""
        status = self._status.get(name, JobStatus())
        fresh = [
            notice
            for notice in allocation.notices
            if notice.kind == "out_of_memory" and (status.last_notice_at is None or notice.at > status.last_notice_at)
        ]
        if not fresh:
            return
        have = allocation.offer.resources
        await self._save(
            name,
            replace(
                status, kills=status.kills + len(fresh), last_notice_at=max(notice.at for notice in fresh),
                memory_floor_gib=max(status.memory_floor_gib, have.memory_gib * 1.001),
            ),
        )  # fmt: skip
        log.warning("the job was killed for memory", job=name, machine=allocation.offer.id)
        await self._run(
            self._store.audit.note, "platform", "job killed for memory", name, {"machine": allocation.offer.id}
        )
        self._wake.set()

    async def _decide(self, look: Look, settings: Settings) -> None:
        assert look.choice is not None
        way: Mode = turn.mode(look.job, settings, look.choice.option, self._config.default_mode)
        decision = turn.decide(uuid.uuid4().hex[:20], look, settings, way, self._clock.now())
        kept = await self._once(decision)
        if kept is None:
            return
        log.info(
            "decided", job=look.job.name, decision=kept.id, status=kept.status, choice=kept.choice.option.offer.id,
            reason=kept.choice.reason,
        )  # fmt: skip
        self._publish("decision", look.job.name, {"id": kept.id, "status": kept.status, "reason": kept.choice.reason})
        if kept.status == "acting":
            await self._act(kept, look)

    async def _once(self, decision: Decision) -> Decision | None:
        """Keep a decision, unless the same one is already waiting for a person; one that no longer holds expires."""
        for last in (await self._run(self._store.decisions.of, decision.job, 1))[:1]:
            if last.status != "waiting":
                continue
            if decision.status == "waiting" and last.choice.option.offer.id == decision.choice.option.offer.id:
                return None
            await self._run(self._store.decisions.mark, last.id, "expired", "scaleahead", "waiting")
        kept = await self._run(self._store.decisions.add, decision)
        return kept if kept.id == decision.id else None

    async def _act(self, decision: Decision, look: Look) -> None:
        name = look.job.name
        assert look.allocation is not None
        self._acting.add(name)
        try:
            status = self._status.get(name, JobStatus())
            await self._run(self._operator.intend, decision, look.job, status, look.allocation)
        except Conflict as error:
            self._acting.discard(name)
            log.warning("another action holds the machine", job=name, error=str(error))
            await self._run(self._store.decisions.mark, decision.id, "cancelled", "scaleahead")

    # Actions.

    async def _advance(self, action: Action) -> None:
        self._acting.add(action.job)
        try:
            if action.job in self._jobs:
                self._poller.poll_now(action.job)
            after = await self._operator.advance(action, self._status.get(action.job, JobStatus()))
        except Stale:
            # Either the lease is gone (``_hold`` ends the process) or another writer came between: read again.
            log.warning("an action was changed by another writer", job=action.job, action=action.id)
            return
        except Exception:  # border: one action's step. It is tried again from what is committed.
            log.exception("an action's step failed", job=action.job, action=action.id)
            return
        if after.stage != action.stage:
            self._publish("action", action.job, {"id": action.id, "stage": after.stage, "note": after.note})
        if after.stage == "verifying" and after.route == "replace" and after.made is not None:
            await self._retarget(after.job, after.made)
        if after.closed:
            await self._close(after)

    async def _retarget(self, name: str, target: Target) -> None:
        job = self._jobs.get(name)
        if job is not None and job.target != target:
            self._jobs[name] = replace(job, target=target)
            await self._run(self._store.jobs.replace, self._jobs[name])

    async def _close(self, action: Action) -> None:
        self._acting.discard(action.job)
        status = self._status.get(action.job, JobStatus())
        now = self._clock.now()
        pause = lost = None
        if action.stage == "done":
            held = status.checkpoint_at if action.checkpoint else action.opened_at
            pause = (now - held).total_seconds() if held else None
            lost = await self._run(self._lost_steps, action.job, status.run)
            taken = action.checkpoint.seconds if action.checkpoint else None
            status = replace(
                status, restore_seconds=(now - action.stage_at).total_seconds(),
                checkpoint_seconds=taken or status.checkpoint_seconds,
            )  # fmt: skip
            await self._save(action.job, status)
        if action.note == CANNOT_BE_ASKED:
            await self._save(action.job, replace(status, answers_prepare=False))
        if action.stage in ("rolled_back", "cancelled") and "apacity" in action.note:
            self.watch.short_of(action.target.provider, action.new.id, 30.0)
        await self._run(self._operator.settle, action, lost, pause)
        job = self._jobs.get(action.job)
        if job is not None and job.state == "deleting":
            # Its deletion waited for the action to come to a safe end.
            await self._run(self._store.jobs.remove, job.name)
            await self.removed(job.name)
        log.info("an action is closed", job=action.job, action=action.id, stage=action.stage, note=action.note)
        self._publish("action", action.job, {"id": action.id, "stage": action.stage, "note": action.note})
        self._wake.set()

    def _lost_steps(self, name: str, run: str | None) -> int | None:
        """Steps that the present run had to do again; ``None`` before it has reported any."""
        spans = self._store.runs.spans(name)
        if len(spans) < 2 or spans[-1].run != run:
            return None
        return max(0, spans[-2].last_step - spans[-1].first_step + 1)

    # Money.

    def _charge(self, name: str, allocation: Allocation) -> None:
        """Write down what the job cost since the last charge, by the price of the machine it is on."""
        if allocation.offer.price is None or allocation.state not in ("running", "pending", "stopping"):
            return
        now = self._clock.now()
        job = self._jobs[name]
        before = self._store.ledger.charges(name)
        start = before[-1].start + timedelta(seconds=before[-1].seconds) if before else job.registered_at
        seconds = (now - start).total_seconds()
        if seconds <= 0:
            return
        usd = allocation.offer.price.usd_per_hour * seconds / 3600
        reason = "moving" if name in self._acting else "running"
        self._store.ledger.charge([Charge(name, allocation.offer.id, start, seconds, usd, reason)])

    # What people and programs ask.

    async def look(self, job: str) -> Look:
        """Forecast a job and weigh its options now, acting on nothing. Raises ``Missing``."""
        if job not in self._jobs:
            raise Missing(f"no job {job!r} - see `scaleahead job list`")
        known = Known(self._jobs[job], self._status.get(job, JobStatus()), await self._moves(job))
        return (await self.watch.look([known]))[0]

    def seen(self, job: str) -> Look | None:
        """Give what this job's last turn saw."""
        return self._seen.get(job)

    async def forecast(self, history: History, horizon: Horizon) -> Forecast:
        """Forecast a history that belongs to no registered job."""
        found, _ = await self._forecasts.forecast([history], horizon, self._config.timing.forecast_seconds)
        return replace(found[0], made_at=self._clock.now())

    async def plan(
        self, job: Job, status: JobStatus, history: History, forecast: Forecast | None, current: Offer,
        offers: Sequence[Offer], settings: Settings, spent_usd: float = 0.0,
    ) -> Look:  # fmt: skip
        """Weigh offers for a job that need not be registered."""
        if forecast is None:
            forecast = await self.forecast(history, self.watch.horizon)
        target = job.target or Target(current.provider, "vm", job.name, current.zone or current.region)
        drift = self._seen[job.name].drift if job.name in self._seen else Drift()
        look = Look(job, status, history, drift, Allocation(target, "running", current), forecast)
        return await self._run(self.watch.weigh_only, look, settings, self._policies.make(settings), offers, spent_usd)

    def kick(self, job: str) -> None:
        """Consider all jobs soon."""
        if job in self._jobs:
            self._poller.poll_now(job)
        self._wake.set()

    async def approve(self, decision: str, by: str) -> Decision:
        """Let a waiting decision be acted on. Raises ``Missing``, ``Stale``."""
        marked = await self._run(self._store.decisions.mark, decision, "approved", by, "waiting")
        job = self._jobs.get(marked.job)
        if job is None or job.target is None:
            raise Missing(f"job {marked.job!r} is gone")
        allocation = await self.watch.allocation(job.target)
        look = self._seen.get(marked.job) or await self.look(marked.job)
        await self._act(marked, replace(look, allocation=allocation))
        return await self._run(self._store.decisions.get, decision)

    async def reject(self, decision: str, by: str) -> Decision:
        """Refuse a waiting decision. Raises ``Missing``, ``Stale``."""
        return await self._run(self._store.decisions.mark, decision, "rejected", by, "waiting")

    async def registered(self, job: Job) -> None:
        """Begin to follow a job."""
        self._jobs[job.name] = job
        self._status.setdefault(job.name, JobStatus())
        self._follow(job)
        self._poller.poll_now(job.name)

    async def changed(self, job: Job) -> None:
        """Take a job's new settings."""
        await self.registered(job)
        self._wake.set()

    async def removed(self, name: str) -> None:
        """Forget a job."""
        self._poller.remove(name)
        self._jobs.pop(name, None)
        self._status.pop(name, None)
        self._seen.pop(name, None)
        self._offer_of.pop(name, None)

    def health(self) -> Mapping[str, object]:
        """Say whether the loop does its work, and if not, why."""
        reasons = [self._problem] if self._problem else []
        return {"ready": not reasons, "reasons": reasons, "jobs": len(self._jobs), "acting": sorted(self._acting)}
