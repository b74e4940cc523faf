"""Edge: the daemon's loop. Reports come in, jobs are looked at in batches, decisions are written, actions advance.

One observation's way: ``received`` (validated by the poller) -> stored -> ``turn`` (drift, forecast, options, choice)
-> ``_decide`` (decision, intent) -> ``_advance`` (one step of an action at a time) -> ``_close`` (measured result).
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import structlog

from daemon import report as reports
from daemon import turn
from daemon.bill import Bill
from daemon.config import Config
from daemon.fleets import Known
from daemon.forecast.base import Forecaster, Horizon
from daemon.hook import Poller
from daemon.look import Look
from daemon.newest import Newest
from daemon.operate import Operator
from daemon.replica import Replica
from daemon.rewards import Rewards
from daemon.store.base import Conflict, Lease, Missing, Stale, Store, StoreError
from daemon.types import Action, Decision, Drift, Forecast, History, Job, JobStatus, Report
from daemon.watch import Forecasts, PolicyLookup, Watch
from policies.base import shares
from policies.types import Mode, Settings
from providers.base import Provider
from providers.clock import Clock
from providers.types import Allocation, Offer, Resources, Target

log = structlog.get_logger()

_T = TypeVar("_T")
JOBS_AT_ONCE = 128
"""Jobs in one turn: bounds its memory, and how long its writes keep other writers waiting."""
USES_THE_NEW = frozenset({"verifying", "retiring", "done"})
"""Stages of a replacement in which the job belongs to the new machine."""
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
        self.replica = Replica(lease, store)
        self._clock = clock
        self._config = config
        self._publish = publish
        # Apart, because a queue is first come, first served: a sweep that waits for slow clouds must hold up neither
        # what jobs report nor, least of all, the lease, which has a thread of its own.
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="store")
        self._sweepers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="sweep")
        rewards = Rewards() if config.refine_by_reward else None
        self.watch = Watch(
            store, policies, providers, forecasts, persist, clock, config.timing, self._sweepers, rewards
        )
        self._jobs: dict[str, Job] = {}
        self._ours: set[str] = set()
        self._approved: dict[str, str] = {}
        self._status: dict[str, JobStatus] = {}
        self._offer_of: dict[str, str] = {}
        self._seen: dict[str, Look] = {}
        self._moved: dict[str, tuple[datetime, ...]] = {}
        self._newest = Newest(store)
        self._bill = Bill(store, clock)
        self._amending: dict[str, asyncio.Lock] = {}
        self._unsettled: dict[str, Action] = {}
        self._wake = asyncio.Event()
        self._woken: set[str] | None = set()
        self._acting: set[str] = set()
        self._hasten = asyncio.Event()
        self._problem = "starting"

    # Life.

    async def begin(self) -> None:
        """Take the lease and read what is known. Raises ``Conflict`` when another process holds the lease."""
        await self.replica.join(self._key)
        self._jobs = {job.name: job for job in await self._run(self._store.jobs.all)}
        await self._take_up({name for name in self._jobs if self.replica.ours(name)})

    def _key(self, name: str) -> str:
        """Keep the jobs of one fleet together, however many: their budget is shared out among those looked at."""
        job = self._jobs.get(name)
        return f"fleet {job.policy}" if job is not None and self._shares(job.policy) else name

    async def _take_up(self, names: Set[str]) -> None:
        """Read what is known of jobs that have become ours, and begin to work for them."""
        known = await self._run(self._kept, names)
        jobs = {name: job for name, (job, _) in known.items()}
        unsettled = [a for a in await self._run(self._store.actions.unsettled) if self.replica.ours(a.job)]
        still_open = [a for a in await self._run(self._store.actions.unfinished) if self.replica.ours(a.job)]
        for name in names:
            self._let_go(name)
        self._jobs.update(jobs)
        self._ours.update(jobs)
        self._status.update({name: status for name, (_, status) in known.items()})
        self._unsettled.update({action.id: action for action in unsettled})
        for action in still_open:
            if action.job in jobs:
                self.watch.promised(jobs[action.job], action.new)
        self._acting.update(action.job for action in (*still_open, *unsettled))
        for job in jobs.values():
            self._follow(job)
        self.wake()
        self._hasten.set()

    def _kept(self, names: Set[str]) -> dict[str, tuple[Job, JobStatus]]:
        """Read jobs and what is known of them; what was removed meanwhile is left out."""
        if len(names) > 1:
            status = self._store.status.all()
            found = [job for job in self._store.jobs.all() if job.name in names]
            return {job.name: (job, status.get(job.name, JobStatus())) for job in found}
        with contextlib.suppress(Missing):
            return {name: self._store.jobs.get(name) for name in names}
        return {}

    def _let_go(self, name: str) -> None:
        """Forget what a worker knows of a job, which is another replica's or gone; that there is such a job stays."""
        self._poller.remove(name)
        self.watch.forget(name)
        self._bill.forget(name)
        self._newest.forget(name)
        for known in (self._status, self._seen, self._offer_of, self._moved, self._amending):
            known.pop(name, None)
        self._unsettled = {key: action for key, action in self._unsettled.items() if action.job != name}
        self._acting.discard(name)
        self._ours.discard(name)

    async def _divide(self) -> None:
        """Let go the jobs that are not ours any more, and take up those that have become ours."""
        ours = {name for name in self._jobs if self.replica.ours(name)}
        gone, gained = self._ours - ours, ours - self._ours
        for name in gone:
            self._let_go(name)
        if gained:
            await self._take_up(gained)
            for name in gained & self._approved.keys():
                await self._go_on(name)
        if gone or gained:
            log.info("jobs changed hands", taken_up=len(gained), let_go=len(gone))
            self._publish("shards", "", {"shards": self.replica.shards})

    async def _hear(self, what: str, subject: str) -> None:
        """Learn what was done through another replica, or through this one, which changes nothing then."""
        if what.startswith("job "):
            try:
                job, _ = await self._run(self._store.jobs.get, subject)
            except Missing:
                await self.removed(subject)
            else:
                if job != self._jobs.get(subject):
                    await self.changed(job)
        elif what == "decision marked":
            decision = await self._run(self._store.decisions.get, subject)
            self._newest.forget(decision.job)
            if decision.status == "approved":
                self._approved[decision.job] = decision.id
                if self._mine(decision.job):
                    await self._go_on(decision.job)

    async def _go_on(self, name: str) -> None:
        """Act on what was approved through another replica, if nobody has yet."""
        try:
            decision = await self._run(self._store.decisions.get, self._approved.pop(name))
            job = self._jobs.get(name)
            if decision.status != "approved" or name in self._acting or job is None or job.target is None:
                return
            with self.replica.at_work([name]):
                await self._act(decision, await self._seen_now(job))
        except Exception:  # border: one job's approval. It stays approved; the next turn asks anew.
            log.exception("what was approved could not be begun", job=name)

    def _mine(self, name: str) -> bool:
        """Whether this process works for a job now."""
        return self.replica.ours(name) and (name in self._ours or name not in self._jobs)

    async def run(self, ready: Callable[[], Awaitable[None]] | None = None) -> None:
        """Loop until cancelled; the first turn waits for ``ready`` to return, polling and the lease do not.

        Raises ``Stale`` when another process takes the lease: then this one must end.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._poller.run())
            tasks.create_task(self._hold())
            if self.replica.shared:
                tasks.create_task(self.replica.heed(self._hear, self._divide))
            tasks.create_task(self._turns(ready))
            tasks.create_task(self._actions())

    async def _hold(self) -> None:
        await self.replica.hold(self._config.timing.lease_seconds, lambda seconds: self._sleep(seconds, real=True))

    async def _turns(self, ready: Callable[[], Awaitable[None]] | None = None) -> None:
        if ready is not None:
            await ready()
        self._problem = ""
        due = self._clock.monotonic() + self._config.timing.turn_seconds
        while True:
            seconds = self._clock.real_seconds(max(0.0, due - self._clock.monotonic()))
            try:
                await asyncio.wait_for(self._wake.wait(), timeout=seconds)
            except TimeoutError:
                self._woken = None
            if self._woken is None:
                due = self._clock.monotonic() + self._config.timing.turn_seconds
            names = self._wanted()
            for batch in self._batches(names):
                await self.turn(batch)

    def _batches(self, names: Sequence[str]) -> list[list[str]]:
        """Cut a turn into batches; the jobs of one fleet are looked at together, however many."""
        alone: list[str] = []
        fleets: dict[str, list[str]] = {}
        for name in names:
            policy = self._jobs[name].policy
            together = self._shares(policy)
            (fleets.setdefault(policy, []) if together else alone).append(name)
        cut = [alone[start : start + JOBS_AT_ONCE] for start in range(0, len(alone), JOBS_AT_ONCE)]
        return [*cut, *fleets.values()]

    def _shares(self, policy: str) -> bool:
        try:
            return shares(self._policies.get(policy)[1])
        except LookupError:
            return False

    def _wanted(self) -> list[str]:
        """Take the active jobs to look at now: those with news, or all of them."""
        woken, self._woken = self._woken, set()
        self._wake.clear()
        names = self._jobs if woken is None else [name for name in self._jobs if name in woken]
        return [name for name in names if self._jobs[name].state == "active" and self._mine(name)]

    async def _actions(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                seconds = self._clock.real_seconds(self._config.timing.look_seconds)
                await asyncio.wait_for(self._hasten.wait(), seconds)
            self._hasten.clear()
            try:
                actions = await self._run(self._store.actions.unfinished)
            except StoreError as error:
                log.error("cannot read the open actions", error=str(error))
                continue
            now = self._clock.now()
            due = [action for action in actions if action.next_at <= now and self._mine(action.job)]
            with self.replica.at_work(action.job for action in (*due, *self._unsettled.values())):
                await asyncio.gather(*(self._advance(action) for action in due))
                for action in list(self._unsettled.values()):
                    await self._settled(action)

    async def _sleep(self, seconds: float, real: bool = False) -> None:
        await asyncio.sleep(seconds if real else self._clock.real_seconds(seconds))

    async def _run(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def wake(self, job: str | None = None) -> None:
        """Look soon at one job, or at every one."""
        if job is None:
            self._woken = None
        elif self._woken is not None:
            self._woken.add(job)
        self._wake.set()

    async def close(self) -> None:
        """Let the lease go and end the threads."""
        await self.replica.leave()
        for threads in (self._sweepers, self._threads):
            threads.shutdown(wait=False, cancel_futures=True)

    # What jobs say.

    def _follow(self, job: Job) -> None:
        if job.hook is not None and self._mine(job.name) and (job.state == "active" or job.name in self._acting):
            self._poller.add(
                job.name, job.hook, job.hook_token, self._config.timing.poll_seconds,
                after=lambda: self._status.get(job.name, JobStatus()).next_seq, facts=lambda: self._facts(job.name),
                run=lambda: self._status.get(job.name, JobStatus()).run,
            )  # fmt: skip
        else:
            self._poller.remove(job.name)

    def _facts(self, name: str) -> Resources | None:
        """What a node of the job has, for the range checks of its reports."""
        look = self._seen.get(name)
        return look.allocation.offer.resources if look is not None and look.allocation is not None else None

    async def received(self, name: str, found: Report) -> None:
        """Keep a checked report; durable when this returns."""
        await self._find(name)

        def keep(status: JobStatus) -> None:
            self._store.telemetry.append(found, self._offer_of.get(name), status)

        await self._amend(name, lambda status: turn.heard(status, found, self._clock.now()), keep)
        self._publish("observed", name, {"step": found.observations[-1].step if found.observations else None})

    async def _find(self, name: str) -> None:
        """Raise ``Missing`` where there is no such job; another replica may have registered it a moment ago."""
        if name not in self._jobs and self.replica.shared:
            job, _ = await self._run(self._store.jobs.get, name)
            await self.registered(job)
        if name not in self._jobs:
            raise Missing(f"no job {name!r} - register it first")

    async def _now(self, name: str) -> tuple[Job, JobStatus]:
        """Give a job and its status: from memory, or from the store where another replica may have written either."""
        told_by_itself = self._jobs[name].hook is None
        if self.replica.shared and (told_by_itself or not self._mine(name)):
            return await self._run(self._store.jobs.get, name)
        return self._jobs[name], self._status.get(name, JobStatus())

    async def silent(self, name: str, why: str) -> None:
        """Note that a job did not answer."""
        if self._status.get(name, JobStatus()).error != why:
            await self._amend(name, lambda status: replace(status, error=why))

    async def receive(self, job: str, body: bytes) -> Report:
        """Take a pushed report. Raises ``Missing`` or ``ReportRefused``."""
        await self._find(job)
        found = reports.read(body, job, self._clock.now(), self._facts(job))
        await self.received(job, found)
        return found

    async def _amend(
        self, name: str, change: Callable[[JobStatus], JobStatus], keep: Callable[[JobStatus], None] | None = None
    ) -> None:
        """Change what is known of a job, one change after the other, and in memory only once the store has it.

        What memory knows the poller does not ask for again, so a report that could not be kept must not count.
        """
        async with self._amending.setdefault(name, asyncio.Lock()):
            status = change((await self._now(name))[1])
            if keep is None:
                await self._run(self._store.status.save, name, status)
            else:
                await self._run(keep, status)
            self._status[name] = status

    # One turn.

    async def turn(self, names: Sequence[str]) -> list[Look]:
        """Look at these jobs and decide for each. A fault in one job never reaches another."""
        names = [name for name in names if name in self._jobs and self._mine(name)]
        with self.replica.at_work(names):
            return await self._turn(names)

    async def _turn(self, names: Sequence[str]) -> list[Look]:
        try:
            known = [await self._known(name) for name in names]
            looks = await self.watch.look(known) if known else []
            if not self.replica.valid():
                self._problem = "the lease could not be renewed in time; nothing is decided until it is"
                return []
            await self._run(self._bill.charge, looks, frozenset(self._acting))
        except Exception:  # border: one turn. The next one comes; nothing was decided.
            log.exception("a turn failed")
            self._problem = "the last turn failed; nothing is decided - see the log"
            return []
        self._problem = ""
        for look in looks:
            try:
                await self._conclude(look)
            except Stale:
                raise
            except Exception:  # border: one job's turn.
                log.exception("a job's turn failed", job=look.job.name)
        await self._run(self._newest.count, self._clock.now())
        return looks

    async def _known(self, name: str) -> Known:
        """Gather what is remembered of a job. Its moves are read once a process, and then kept up by ``_close``."""
        moves = self._moved.get(name)
        if moves is None:
            outcomes = await self._run(self._store.ledger.outcomes, name)
            moves = tuple(outcome.at for outcome in outcomes if outcome.stage == "done")
        if self._mine(name):
            self._moved[name] = moves
        job, status = await self._now(name)
        return Known(job, status, moves, name in self._acting)

    async def _conclude(self, look: Look) -> None:
        name = look.job.name
        self._seen[name] = turn.brief(look)
        if look.allocation is not None:
            self._offer_of[name] = look.allocation.offer.id
            await self._notices(look.allocation, name)
        finished = self._status.get(name, JobStatus()).state == "done"
        if look.choice is None or look.settings is None or name in self._acting or finished:
            self._publish("turn", name, {"reason": look.reason})
            return
        settings, _ = self._policies.get(look.job.policy)
        if settings.version != look.settings.version:
            # Weighed under a policy that was edited meanwhile: the new one has not been asked.
            self.wake(name)
            return
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
        await self._amend(
            name,
            lambda status: replace(
                status, kills=status.kills + len(fresh), last_notice_at=max(notice.at for notice in fresh),
                memory_floor_gib=max(status.memory_floor_gib, have.memory_gib * 1.001),
            ),
        )  # fmt: skip
        log.warning("the job was killed for memory", job=name, machine=allocation.offer.id)
        await self._run(
            self._store.audit.note, "platform", "job killed for memory", name, {"machine": allocation.offer.id}
        )
        self.wake(name)

    async def _decide(self, look: Look, settings: Settings) -> None:
        assert look.choice is not None
        way: Mode = turn.mode(look.job, settings, look.choice.option, self._config.default_mode)
        decision = turn.decide(uuid.uuid4().hex[:20], look, settings, way, self._clock.now())
        kept = await self._run(self._newest.keep, decision, look)
        if kept is None:
            return
        log.info(
            "decided", job=look.job.name, decision=kept.id, status=kept.status, choice=kept.choice.option.offer.id,
            reason=kept.choice.reason,
        )  # fmt: skip
        self._publish("decision", look.job.name, {"id": kept.id, "status": kept.status, "reason": kept.choice.reason})
        if kept.status == "acting":
            await self._act(kept, look)

    async def _act(self, decision: Decision, look: Look) -> None:
        name = look.job.name
        assert look.allocation is not None
        self._acting.add(name)
        try:
            status = self._status.get(name, JobStatus())
            await self._run(self._operator.intend, decision, look.job, status, look.allocation)
        except Conflict as error:
            self._acting.discard(name)
            log.warning("the intent was refused", job=name, error=str(error))
            await self._run(self._store.decisions.mark, decision.id, "cancelled", "scaleahead")
        except StoreError:
            # No intent, as far as is known; one that was committed all the same is found among the open actions.
            self._acting.discard(name)
            raise

    # Actions.

    async def _advance(self, action: Action) -> None:
        self._acting.add(action.job)
        try:
            if action.job in self._jobs:
                self._poller.poll_now(action.job)
            after = await self._operator.advance(action, self._status.get(action.job, JobStatus()))
            there = {action.stage, after.stage} & USES_THE_NEW
            if after.route == "replace" and there and after.made is not None:
                await self._retarget(after.job, after.made)
        except Stale:
            # Either the lease is gone (``_hold`` ends the process) or another writer came between: read again.
            log.warning("an action was changed by another writer", job=action.job, action=action.id)
            return
        except Exception:  # border: one action's step. It is tried again from what is committed.
            log.exception("an action's step failed", job=action.job, action=action.id)
            return
        if after.stage != action.stage:
            self._publish("action", action.job, {"id": action.id, "stage": after.stage, "note": after.note})
        if after.closed:
            self._unsettled[after.id] = after
            await self._settled(after)

    async def _settled(self, action: Action) -> None:
        """Bring a closed action to its end; what fails is tried again at the next look."""
        try:
            await self._close(action)
        except Exception:  # border: one action's end.
            log.exception("a closed action could not be settled", job=action.job, action=action.id)
        else:
            self._unsettled.pop(action.id, None)

    async def _retarget(self, name: str, target: Target) -> None:
        job = self._jobs.get(name)
        if job is not None and job.target != target:
            self._jobs[name] = replace(job, target=target)
            await self._run(self._store.jobs.replace, self._jobs[name])

    async def _close(self, action: Action) -> None:
        pause = lost = None
        closed_at = action.closed_at or self._clock.now()
        if action.job in self._jobs:
            status = self._status.get(action.job, JobStatus())
            if action.stage == "done":
                held = status.checkpoint_at if action.checkpoint else action.opened_at
                pause = (closed_at - held).total_seconds() if held else None
                lost = await self._run(self._lost_steps, action.job, status.run)
            await self._amend(action.job, lambda status: turn.moved(status, action, closed_at))
        if action.stage in ("rolled_back", "cancelled") and "apacity" in action.note:
            self.watch.short_of(action.target.provider, action.new.id, 30.0)
        await self._run(self._bill.overlap, action)
        await self._run(self._operator.settle, action, lost, pause)
        self._moved.pop(action.job, None)
        self._acting.discard(action.job)
        job = self._jobs.get(action.job)
        if job is not None and job.state == "deleting":
            # Its deletion waited for the action to come to a safe end.
            await self._run(self._store.jobs.remove, job.name)
            await self._run(self._store.audit.note, "scaleahead", "job removed", job.name, {})
            await self.removed(job.name)
        log.info("an action is closed", job=action.job, action=action.id, stage=action.stage, note=action.note)
        self._publish("action", action.job, {"id": action.id, "stage": action.stage, "note": action.note})
        self.wake(action.job)

    def _lost_steps(self, name: str, run: str | None) -> int | None:
        """Steps that the present run had to do again; ``None`` before it has reported any."""
        spans = self._store.runs.spans(name)
        if len(spans) < 2 or spans[-1].run != run:
            return None
        return max(0, spans[-2].last_step - spans[-1].first_step + 1)

    # What people and programs ask.

    async def look(self, job: str) -> Look:
        """Forecast a job and weigh its options now, acting on nothing. Raises ``Missing``."""
        await self._find(job)
        return (await self.watch.look([await self._known(job)]))[0]

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
        """Ask a job and consider it soon."""
        if job in self._jobs:
            self._poller.poll_now(job)
        self.wake(job)

    async def approve(self, decision: str, by: str) -> Decision:
        """Let a waiting decision be acted on. Raises ``Missing``, ``Stale``."""
        asked = await self._run(self._store.decisions.get, decision)
        job = self._jobs.get(asked.job)
        if job is None or job.target is None:
            raise Missing(f"job {asked.job!r} is gone")
        with self.replica.at_work([asked.job]):
            # Everything that may fail comes before the mark: an approval not acted on can be given again.
            look = await self._seen_now(job) if self._mine(asked.job) else None
            marked = await self._run(self._store.decisions.mark, decision, "approved", by, "waiting")
            self._newest.forget(asked.job)
            if look is not None:  # else the replica whose job it is hears of it
                await self._act(marked, look)
        return await self._run(self._store.decisions.get, decision)

    async def _seen_now(self, job: Job) -> Look:
        """Give what the last turn saw of a job, with what its target is now."""
        assert job.target is not None
        allocation = await self.watch.allocation(job.target)
        return replace(self._seen.get(job.name) or await self.look(job.name), allocation=allocation)

    async def reject(self, decision: str, by: str) -> Decision:
        """Refuse a waiting decision. Raises ``Missing``, ``Stale``."""
        marked = await self._run(self._store.decisions.mark, decision, "rejected", by, "waiting")
        self._newest.forget(marked.job)
        return marked

    async def registered(self, job: Job) -> None:
        """Begin to follow a job."""
        self._jobs[job.name] = job
        if self.replica.shared and self.replica.ours(job.name) and job.name not in self._ours:
            await self._take_up({job.name})
        elif self.replica.ours(job.name):
            self._ours.add(job.name)
            self._status.setdefault(job.name, JobStatus())
            self._follow(job)
        self._poller.poll_now(job.name)

    async def changed(self, job: Job) -> None:
        """Take a job's new settings."""
        await self.registered(job)
        self.wake(job.name)

    async def removed(self, name: str) -> None:
        """Forget a job."""
        self._let_go(name)
        self._jobs.pop(name, None)
        self._approved.pop(name, None)

    def health(self) -> Mapping[str, object]:
        """Say whether the loop does its work, and if not, why."""
        reasons = [self._problem] if self._problem else []
        return {
            "ready": not reasons, "reasons": reasons, "jobs": len(self._jobs), "acting": sorted(self._acting),
            "shards": self.replica.shards, "working_for": len(self._ours), "leads": self.replica.leads,
        }  # fmt: skip
