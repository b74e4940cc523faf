"""Edge: perform what ``daemon.act`` names. The only caller of a provider's mutations.

The law of every call: the intent is committed, the world is described, a record of the call with its token and the
lease's epoch is committed, the call is made once, its answer is committed. A process that dies between any two of
these leaves a record from which the next one goes on; a repetition carries the same token. Right before the call the
lease is looked at by this process's own clock: one that was stopped until another took over makes no call any more.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from daemon import act
from daemon.hook import HookError, NoRoute
from daemon.store.base import Lease, Stale, Store
from daemon.types import Action, CallRecord, Claim, Decision, Job, JobStatus, Outcome, Stage
from providers import errors
from providers.base import Provider
from providers.clock import Clock
from providers.types import Allocation, Call, Modify, Operation, Route, Target

log = structlog.get_logger()

_NAMESPACE = uuid.UUID("6c1f3d3e-6f0b-5c55-9b1f-3f5a86a9d0c1")
_STEPS_AT_ONCE = 6


class HookCalls(Protocol):
    """The two requests that a job answers."""

    async def prepare(
        self, job: str, decision_id: str, deadline: datetime, reason: str, advice: Mapping[str, float] | None = None
    ) -> None:
        """Ask for a checkpoint, and hand over the hyperparameters advised, if any. Raises ``daemon.hook.HookError``."""

    async def proceed(self, job: str) -> None:
        """Let the job go on. Raises ``daemon.hook.HookError``."""


class NotTrusted(Exception):
    """A mutation was asked for under a decision that nobody allowed to act. A defect, never an outcome."""


class Operator:
    """Advance open actions. ``failpoint`` is called by name between the committed steps, for crash tests."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        hook: HookCalls,
        clock: Clock,
        patience: act.Patience,
        lease: Lease,
        failpoint: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._providers = providers
        self._hook = hook
        self._clock = clock
        self._patience = patience
        self._lease = lease
        self._inherited: dict[str, datetime] = {}
        self._missed: dict[str, tuple[int, datetime]] = {}
        self._failpoint = failpoint

    def intend(self, decision: Decision, job: Job, status: JobStatus, current: Allocation) -> Action:
        """Commit the intent to carry out a decision.

        Raises ``Conflict`` while another action holds the target, ``OverBudget`` where the job's budget is used up.
        """
        self._trusted(decision)
        chosen = decision.choice.option
        if chosen.route == "stay":
            raise NotTrusted("staying is not an action")
        now = self._clock.now()
        killed = status.heard_at is None or (
            status.last_notice_at is not None and status.heard_at < status.last_notice_at
        )
        gone = max(0, current.offer.nodes - chosen.offer.nodes)
        action = Action(
            id=uuid.uuid5(_NAMESPACE, decision.id).hex[:20], decision=decision.id, job=job.name,
            target=current.target, old=current.offer, new=chosen.offer, route=chosen.route, stage="intended",
            opened_at=now, stage_at=now, next_at=now,
            deadline=now + timedelta(seconds=act.stage_seconds("intended", self._patience)),
            checkpoint_required=status.answers_prepare and not killed and status.state != "done",
            old_run=status.run, victims=tuple(node.id for node in current.nodes[-gone:]) if gone else (),
            nodes=tuple(node.id for node in current.nodes), recipe=job.recipe, epoch=self._lease.epoch_of(job.name),
            reserved_usd=chosen.move_usd, budget_usd=_held_to(decision, current), claim=_claimed(decision),
            grace_seconds=job.grace_seconds,
        )  # fmt: skip
        opened = self._store.actions.open(action)
        self._failpoint("intent.committed")
        return opened

    async def advance(self, action: Action, status: JobStatus) -> Action:
        """Take as many steps as the world allows now. Raises ``Stale`` when the lease or the action is not ours."""
        if action.route == "replace" and action.made is None:
            action = await asyncio.to_thread(self._adopted, action)
        for _ in range(_STEPS_AT_ONCE):
            # Taken before the world is read: reading may be slow, and a view must never count as newer than it is.
            now = self._clock.now()
            view = await asyncio.to_thread(self._view, action)
            step = act.advance(action, view, status, now, self._patience)
            bound = log.bind(job=action.job, decision=action.decision, action=action.id, stage=action.stage)
            match step:
                case act.Wait(why):
                    bound.debug("waiting", why=why)
                    later = max(action.next_at, now + timedelta(seconds=self._patience.look))
                    return await asyncio.to_thread(self._save, replace(action, note=why, next_at=later))
                case act.Ask():
                    return await self._ask(action)
                case act.Proceed(why):
                    await self._proceed(action.job)
                    action = await asyncio.to_thread(self._enter, action, act.Enter(_given_up(action, why), why))
                case act.GoOn():
                    await self._proceed(action.job)
                    later = now + timedelta(seconds=self._patience.look)
                    return await asyncio.to_thread(self._save, replace(action, next_at=later))
                case act.Perform(call):
                    if action.next_at > now:
                        return action  # the last call was refused, and there is nothing else to do: not at once
                    action = await asyncio.to_thread(self._perform, action, call)
                case act.Enter():
                    bound.info("entering the next stage", next=step.stage, note=step.note)
                    unchanged = step.stage in ("cancelled", "rolled_back") or (
                        action.stage == "checkpointing" and step.stage == "needs_human"
                    )
                    if unchanged and action.asked_at is not None:
                        await self._proceed(action.job)
                    action = await asyncio.to_thread(self._enter, action, step)
            if action.closed:
                return action
        return action

    def settle(self, action: Action, lost_steps: int | None, pause_seconds: float | None) -> Outcome:
        """Write down what a closed action came to."""
        price = action.new.price
        outcome = Outcome(
            action=action.id, decision=action.decision, job=action.job, stage=action.stage,
            pause_seconds=pause_seconds, promised_usd_per_hour=price.usd_per_hour if price else 0.0,
            lost_steps=lost_steps, note=action.note, at=self._clock.now(),
        )  # fmt: skip
        self._store.ledger.settle(outcome)
        return outcome

    # Reading the world.

    def _view(self, action: Action) -> act.CloudView:
        provider = self._providers[action.target.provider]
        allocation, fault = _described(provider, action.target)
        missed = self._missed_times(action, allocation, fault)
        made, lost = _described(provider, action.made) if action.made else (None, None)
        route: Route | None = None
        if allocation is not None and allocation.state != "terminated":
            wanted = action.old if action.stage == "rolling_back" else action.new
            try:
                route = provider.route(allocation, wanted)
            except errors.ProviderError as error:
                fault = error
        last = self._last_call(provider, action)
        if last is not None and last.state == "refused" and last.sent_at >= action.stage_at:
            fault = _restore(last.error)
        pending = last.call if last is not None and last.state != "refused" else None
        since = last.sent_at if last is not None and pending is not None else None
        under_way = last is not None and last.operation is not None and last.operation.state == "running"
        gone = isinstance(lost, errors.NotFound)
        inherited = self._inherited_at(action, last)
        return act.CloudView(allocation, route, made, fault, pending, since, under_way, gone, inherited, missed)

    def _missed_times(self, action: Action, seen: Allocation | None, fault: errors.ProviderError | None) -> int:
        """Count the times, well apart, at which the cloud knew no such target; anew once it shows it, or by an heir."""
        if seen is not None:
            self._missed.pop(action.id, None)
            return 0
        now = self._clock.now()
        times, last = self._missed.get(action.id, (0, None))
        if isinstance(fault, errors.NotFound) and (last is None or (now - last).total_seconds() >= act.MISSED_SECONDS):
            times += 1
            self._missed[action.id] = times, now
        return times

    def _inherited_at(self, action: Action, last: CallRecord | None) -> datetime | None:
        """Say when this owner first saw a call that an earlier one recorded and may be making at this moment.

        Also once this owner has repeated that call: the first one may be on its way all the same.
        """
        if last is not None and last.state == "sent" and last.epoch != self._lease.epoch_of(action.job):
            self._inherited.setdefault(action.id, self._clock.now())
        return self._inherited.get(action.id)

    def _last_call(self, provider: Provider, action: Action) -> CallRecord | None:
        records = self._store.actions.calls(action.id)
        if not records:
            return None
        last = records[-1]
        if last.state == "accepted" and last.operation is not None and last.operation.state == "running":
            try:
                operation = provider.poll(last.operation)
            except errors.ProviderError:
                return last
            if operation.state != "running":
                failed = operation.state == "failed"
                last = replace(
                    last, operation=operation, state="refused" if failed else "accepted", error=operation.error
                )
                self._store.actions.record(last)
        return last

    # Changing the world.

    def _perform(self, action: Action, call: Call) -> Action:
        decision = self._store.decisions.get(action.decision)
        self._trusted(decision)
        log.info("calling the cloud", job=action.job, action=action.id, stage=action.stage, call=type(call).__name__)
        if type(call).__name__ == "Stop" and not action.stopped_by_us:
            action = self._save(replace(action, stopped_by_us=True))
        records = self._store.actions.calls(action.id)
        token = _token(action, call, records)
        earlier = next((made for made in records if made.token == token), None)
        # Beyond the highest, not the count: a repetition keeps its row and takes a new number, and two rows of one
        # number would leave open which call was the last.
        number = 1 + max((made.number for made in records), default=0)
        record = CallRecord(
            id=token, action=action.id, number=number, call=call, token=token, epoch=self._lease.epoch_of(action.job),
            sent_at=self._clock.now(),
        )  # fmt: skip
        # Saved under the lease's epoch right before the call, so that an owner that lost the lease stops here.
        action = self._save(replace(action, next_at=record.sent_at))
        self._store.actions.record(record)
        self._failpoint(f"call.recorded.{type(call).__name__.lower()}")
        self._prompt(record)
        self._lease.check(action.job)
        try:
            operation = self._providers[action.target.provider].perform(call, token)
        except errors.ProviderError as error:
            return self._refused(action, record, error, earlier is not None and earlier.state != "refused")
        self._failpoint(f"call.sent.{type(call).__name__.lower()}")
        failed = operation.state == "failed"
        self._store.actions.record(
            replace(record, state="refused" if failed else "accepted", operation=operation, error=operation.error)
        )
        self._failpoint(f"call.resolved.{type(call).__name__.lower()}")
        return self._save(_after_call(action, operation, failed))

    def _prompt(self, record: CallRecord) -> None:
        """Let no call out that comes late. Raises ``Stale``.

        A process that stood still since it checked its lease may have lost it, and the next owner may be past this.
        """
        late = (self._clock.now() - record.sent_at).total_seconds()
        if not 0 <= late <= self._patience.repeat / 2:
            raise Stale(f"{late:.0f} s passed between the record of a call and the call - it is not made")

    def _refused(self, action: Action, record: CallRecord, error: errors.ProviderError, repeated: bool) -> Action:
        """Write down a refusal. One of a repetition says nothing about the first call: that may have had its effect."""
        text = f"{type(error).__name__}: {error}"
        log.warning("the cloud refused a call", job=action.job, action=action.id, error=text)
        if isinstance(error, errors.AnswerLost):
            self._store.actions.record(replace(record, state="lost", error=text))
            return self._save(action)
        unknown = repeated and isinstance(error, errors.Transient | errors.WrongState)
        self._store.actions.record(replace(record, state="lost" if unknown else "refused", error=text))
        # A job that stands still is not kept waiting for long.
        longest = 60.0 if action.stopped_by_us and action.route != "release" else 300.0
        wait = min(longest, self._patience.repeat * 2 ** min(action.attempts, 4))
        later = self._clock.now() + timedelta(seconds=wait)
        return self._save(replace(action, attempts=action.attempts + 1, next_at=later))

    def _adopted(self, action: Action) -> Action:
        """Take up a machine that the cloud said it had made, where the process died before the action knew of it."""
        said = (call.operation.made for call in self._store.actions.calls(action.id) if call.operation is not None)
        return replace(action, made=next((made for made in said if made is not None), None))

    async def _ask(self, action: Action) -> Action:
        now = self._clock.now()
        later = now + timedelta(seconds=self._patience.look)
        if action.asked_at is None:
            action = replace(action, asked_at=now)
        action = await asyncio.to_thread(self._save, replace(action, next_at=later))
        self._failpoint("checkpoint.asked")
        try:
            advice = (await asyncio.to_thread(self._store.decisions.get, action.decision)).choice.advice
            more = {"advice": advice} if advice else {}
            await self._hook.prepare(action.job, action.decision, action.deadline, _purpose(action), **more)
        except NoRoute:
            stage = _given_up(action, act.CANNOT_BE_ASKED)
            return await asyncio.to_thread(self._enter, action, act.Enter(stage, act.CANNOT_BE_ASKED))
        except HookError as error:
            log.warning("the job could not be asked for a checkpoint", job=action.job, error=str(error))
        return action

    async def _proceed(self, job: str) -> None:
        try:
            await self._hook.proceed(job)
        except HookError as error:
            # The job goes on by itself when its own deadline has passed.
            log.warning("the job could not be told to go on", job=job, error=str(error))

    def _enter(self, action: Action, step: act.Enter) -> Action:
        saved = self._save(act.enter(action, step, self._clock.now(), self._patience))
        self._failpoint(f"stage.{step.stage}")
        return saved

    def _save(self, action: Action) -> Action:
        return self._store.actions.save(action)

    def _trusted(self, decision: Decision) -> None:
        """Let nothing through that was not allowed to act: the one gate between a decision and a cloud."""
        if decision.mode == "auto" or (decision.mode == "approve" and decision.by):
            return
        raise NotTrusted(f"decision {decision.id} is in mode {decision.mode} and must not act")


def _held_to(decision: Decision, current: Allocation) -> float | None:
    """Name the budget that an intent is held to. What makes the hours cheaper may always be done."""
    now = current.offer.price
    cheaper = now is not None and decision.choice.option.usd_per_hour <= now.usd_per_hour
    return None if cheaper or decision.situation is None else decision.situation.budget_usd


def _claimed(decision: Decision) -> Claim | None:
    """Say what a job of a fleet comes to cost an hour. What makes the hours cheaper may always be done."""
    seen, chosen = decision.situation, decision.choice.option
    if seen is None or seen.share_usd_per_hour is None:
        return None
    before, after = seen.stay.usd_per_hour, 0.0 if chosen.route == "release" else chosen.usd_per_hour
    return Claim(decision.policy, seen.fleet_usd_per_hour if after > before else None, before, after)


def _given_up(action: Action, why: str) -> Stage:
    """Say how an action ends that changed nothing: a machine that was to be let go, and was not, is for a person."""
    return "needs_human" if action.route == "release" and why != act.FINISHED else "cancelled"


def _purpose(action: Action) -> str:
    return "letting the machine go" if action.route == "release" else f"moving to {action.new.id}"


def _token(action: Action, call: Call, records: Sequence[CallRecord]) -> str:
    """Name a call for good. A repetition has the same name until the cloud has refused it for good.

    What was throttled or lost may still take effect: under another name it could have a second one.
    """
    over = sum(
        record.state == "refused"
        and (record.operation is not None or not isinstance(_restore(record.error), errors.Transient))
        for record in records
    )
    aspect = call.aspect if isinstance(call, Modify) else ""
    return str(uuid.uuid5(_NAMESPACE, f"{action.id}/{action.stage}/{type(call).__name__}/{aspect}/{over}"))


def _after_call(action: Action, operation: Operation, failed: bool) -> Action:
    if failed:
        return replace(action, attempts=action.attempts + 1)
    return replace(action, made=operation.made or action.made)


def _described(provider: Provider, target: Target) -> tuple[Allocation | None, errors.ProviderError | None]:
    try:
        return provider.describe(target), None
    except errors.ProviderError as error:
        return None, error


def _restore(text: str | None) -> errors.ProviderError:
    """Bring a recorded error back to its place in the tree."""
    name, _, detail = (text or "").partition(": ")
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, errors.ProviderError):
        return kind(detail)
    return errors.ProviderError(text or "the cloud refused without a reason")
