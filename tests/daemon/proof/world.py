"""A small world in memory: one cloud, one job, one action, and a daemon that may be killed and comes back.

Everything that the laws of acting speak of is here and nothing else, so that a turn takes a fraction of a millisecond.
The daemon's part is the real one: ``daemon.operate.Operator`` over ``daemon.act``. Every place where the world may fail
is a *site*: a read of the cloud, a call to it, a request to the job, a commit. A turn is run with a plan of which sites
fail how; what it met stands in ``trace``. The laws are asked at every call and after every turn.
"""

from collections.abc import Coroutine, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

from daemon import act, operate
from daemon.hook import HookError
from daemon.store.base import Conflict, Stale
from daemon.types import Action, CallRecord, Decision, Job, Outcome
from policies.types import Choice, Option, Spread
from providers.types import Allocation, Call, LaunchRecipe
from tests.daemon.proof import laws
from tests.daemon.proof.cloud import Cloud
from tests.daemon.proof.scenarios import (
    CHANGE,
    COMMIT,
    HOOK,
    NOW,
    PATIENCE,
    RESTART,
    SAVING,
    Broken,
    Killed,
    Scenario,
)


def _quiet(*_: object, **__: object) -> None:
    return None


SILENT = SimpleNamespace(debug=_quiet, info=_quiet, warning=_quiet)
SILENT.bind = lambda **_: SILENT


async def _inline(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def at_once(module: ModuleType) -> ModuleType:
    """Make a copy of ``daemon.operate`` run in its caller's thread and say nothing: no loop and no thread is needed."""
    module.asyncio = SimpleNamespace(to_thread=_inline)  # type: ignore[attr-defined]
    module.log = SILENT  # type: ignore[attr-defined]
    return module


def finish(work: Coroutine[Any, Any, Action]) -> Action:
    """Run a coroutine that waits for nothing to its end."""
    try:
        work.send(None)
    except StopIteration as end:
        found: Action = end.value
        return found
    work.close()
    raise Broken("the operator waits for something that this world does not have")


class World(Cloud):
    """All that changes in a schedule. ``save`` and ``restore`` go back and forth between turns."""

    def __init__(self, scenario: Scenario, module: ModuleType, patience: act.Patience = PATIENCE) -> None:
        super().__init__(scenario)
        self.patience = patience
        self.epoch = self.owner = 1
        self.records: dict[str, CallRecord] = {}
        self.settled: Outcome | None = None
        self.registered = Job(
            "bert", NOW, "default", hook="http://127.0.0.1:1/", target=scenario.target,
            recipe=LaunchRecipe("train") if scenario.route == "replace" else None,
        )  # fmt: skip
        self.decision = _decision(scenario)
        store = SimpleNamespace(actions=self, decisions=self, ledger=SimpleNamespace(settle=self._settle))
        self.operator = module.Operator(
            store, {"simulated": self}, self, SimpleNamespace(now=lambda: self.now_at), patience,
            lease=SimpleNamespace(epoch_of=lambda job: self.owner, check=lambda job: None), failpoint=self._failpoint,
        )  # fmt: skip

    # Going back and forth.

    def save_all(self) -> tuple[Any, ...]:
        return (
            self.now_at, self.epoch, self.action, dict(self.records), self.settled, dict(self.machines), self.desired,
            dict(self.launched), self.shown, self.shown_until, self.ours_since, self.job, dict(self.inherited),
        )  # fmt: skip

    @property
    def inherited(self) -> dict[str, datetime]:
        """When the present owner first saw a call that one before it left without an answer, by action."""
        found: dict[str, datetime] = self.operator._inherited
        return found

    def restore(self, kept: tuple[Any, ...]) -> None:
        (
            self.now_at, self.owner, self.action, records, self.settled, machines, self.desired,
            launched, self.shown, self.shown_until, self.ours_since, self.job, inherited,
        ) = kept  # fmt: skip
        self.epoch = self.owner
        self.inherited.clear()
        self.inherited.update(inherited)
        self.records, self.machines, self.launched = dict(records), dict(machines), dict(launched)

    def key(self) -> tuple[Any, ...]:
        """Tell two states apart where what follows may differ: times count from now, and only while they matter."""
        now, action, job = self.now_at, self.action, self.job
        due = tuple((name, m.state, m.offer.machine_type, m.due and m.due - now) for name, m in self.machines.items())
        hidden = None
        if self.shown is not None and now < self.shown_until:
            told = tuple((name, m.state, m.offer.machine_type) for name, m in self.shown[0].items())
            hidden = (told, self.shown[1], self.shown_until - now)
        working: Any = (job.on, job.run, job.state, job.asked_at and max(job.asked_at + SAVING - now, timedelta()))
        working += (job.until and job.asked_at and max(job.until - now, timedelta()),)
        stopped = self.ours_since and now - self.ours_since
        if action is None:
            return (None, due, self.desired, hidden, working)
        sent: Any = None
        last = max(self.records.values(), key=lambda record: record.number, default=None)
        if last is not None:
            age = min(now - last.sent_at, timedelta(seconds=self.patience.repeat))
            sent = (type(last.call).__name__, last.state, last.operation and last.operation.state, age, last.error)
            sent += (action.stage_at <= last.sent_at,)
        return (
            action.stage, max(action.deadline - now, timedelta()), max(action.next_at - now, timedelta()),
            action.asked_at is None or (job.saved_at or NOW) >= action.asked_at, action.asked_at is None,
            action.stopped_by_us, action.made, action.attempts, bool(action.checkpoint),
            job.heard_at >= action.stage_at, frozenset((made.id, made.state) for made in self.records.values()),
            self.settled is None, due, self.desired, tuple(self.launched.values()), hidden, stopped, working, sent,
            tuple(min(now - seen, timedelta(seconds=self.patience.grace)) for seen in self.inherited.values()),
        )  # fmt: skip

    # Sites.

    def lawful(self, call: Call, token: str) -> None:
        laws.of_a_call(self, call, token)

    def _failpoint(self, name: str) -> None:
        # The others follow a commit at once, which is a site already.
        if name.startswith("call.sent") and self.site(name, COMMIT):
            raise Killed(name)

    def _committed(self, what: str) -> None:
        if self.site(f"committed {what}", COMMIT):
            raise Killed(what)

    # The store's part: the same guards as the real one's.

    def open(self, action: Action) -> Action:
        before = self.action
        if before is not None and before.id != action.id and not before.closed:
            raise Conflict("an action is open on this target")
        if before is None or before.id != action.id:
            self.action = action
        self._committed("intent")
        return self.action or action

    def save(self, action: Action) -> Action:
        self._fenced()
        before = self.action
        if before is None or before.version != action.version:
            raise Stale(f"action {action.id} was changed by another writer")
        if before.closed and not action.closed:
            raise Broken(f"a closed action was opened again as {action.stage}")
        self.action = replace(action, version=action.version + 1)
        self._committed(action.stage)
        return self.action

    def record(self, call: CallRecord) -> None:
        self._fenced()
        self.records[call.id] = call
        self._committed(f"record {call.state}")

    def calls(self, action: str) -> list[CallRecord]:
        return sorted(self.records.values(), key=lambda record: record.number)

    def get(self, decision: str) -> Decision:
        return self.decision

    def _settle(self, outcome: Outcome) -> None:
        if self.settled is not None:
            raise Broken("an action was settled twice")
        self.settled = outcome
        self._committed("outcome")

    def _fenced(self) -> None:
        if self.owner != self.epoch:
            raise Stale(f"the owner of epoch {self.owner} writes under epoch {self.epoch}")

    # The job's part.

    async def prepare(self, job: str, decision_id: str, deadline: datetime, reason: str, advice: Any = None) -> None:
        if self.site("prepare", HOOK):
            raise HookError("refused", "a test")
        if self.job.on and self.job.asked_at is None:
            self.job = replace(self.job, asked_at=self.now_at, until=deadline)

    async def proceed(self, job: str) -> None:
        if self.site("proceed", HOOK):
            raise HookError("refused", "a test")
        self.go_on()

    # A turn.

    def turn(self, plan: Mapping[int, str]) -> None:
        """Let the time come at which something is due, then let the daemon take its turn. Raises ``Broken``."""
        self.trace, self.plan, self.refused = [], plan, []
        action = self.action
        if action is not None and not action.closed:
            self.now_at = max(self.now_at, action.next_at)
        self.live()
        try:
            if action is None:
                self.operator.intend(self.decision, self.registered, self.status(), self.describe_quietly())
            elif not action.closed:
                finish(self.operator.advance(action, self.status()))
            elif self.settled is None:
                self.operator.settle(action, None, None)
        except Killed:
            self.now_at += RESTART
            self.epoch = self.owner = self.epoch + 1
            self.inherited.clear()
        self.now_at += timedelta(seconds=1)
        laws.between_turns(self)

    def describe_quietly(self) -> Allocation:
        """Look at the target as the loop does before it intends: a fault there means no intent."""
        kept, self.trace, self.plan = (self.trace, self.plan), [], {}
        seen = self.describe(self.scenario.target)
        self.trace, self.plan = kept
        return seen

    @property
    def over(self) -> bool:
        return self.settled is not None

    def check_end(self, disturbed: bool) -> None:
        """Ask what must hold at the end, once everything under way has come to rest."""
        kept = self.save_all()
        for _ in range(3):
            self.now_at += CHANGE
            self.live()
        try:
            laws.at_the_end(self, disturbed)
        finally:
            self.restore(kept)


def _decision(scenario: Scenario) -> Decision:
    nothing = Spread.exactly(0.0)
    option = Option(
        scenario.new, scenario.route, "change_machine", nothing, nothing, nothing, nothing, 0.3, None, 0.0, None, 0.0,
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    )  # fmt: skip
    return Decision(
        "decision-1", "bert", NOW, "default", "v1", "auto", "acting", scenario.old, Choice(option, "a test"),
        (option,), "hash", {},
    )  # fmt: skip


def operator_module(acting: ModuleType | None = None, source: str | None = None) -> ModuleType:
    """Give a fresh copy of ``daemon.operate``, over another ``daemon.act`` or from another source where wanted."""
    made = ModuleType("daemon.operate_copy")
    text = source if source is not None else _source(operate)
    exec(compile(text, "operate.py", "exec"), made.__dict__)
    if acting is not None:
        made.act = acting  # type: ignore[attr-defined]
    return at_once(made)


def _source(module: ModuleType) -> str:
    assert module.__file__ is not None
    with open(module.__file__, encoding="utf-8") as file:
        return file.read()
