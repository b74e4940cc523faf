"""Seeded bugs: a line of the real code each, changed as somebody might get it wrong, and the check that sees it."""

from dataclasses import dataclass
from types import ModuleType

from daemon import act, operate
from daemon.store import actions, lease, ledger


@dataclass(frozen=True, slots=True)
class Mutant:
    """``check`` is a scenario of the enumeration with a number of faults, or the name of another check."""

    name: str
    module: ModuleType
    old: str
    new: str
    check: tuple[str, int] | str

    @property
    def part(self) -> str:
        """Name the module without its package."""
        return self.module.__name__.rpartition(".")[2]

    def source(self) -> str:
        """Give the module's source with the bug in it; a bug that no longer fits the code is no test."""
        assert self.module.__file__ is not None
        with open(self.module.__file__, encoding="utf-8") as file:
            text = file.read()
        assert text.count(self.old) == 1, f"{self.name}: what it changes is there {text.count(self.old)} times"
        return text.replace(self.old, self.new)

    def made(self) -> ModuleType:
        """Run the changed source as a module of its own."""
        made = ModuleType(self.module.__name__)
        exec(compile(self.source(), f"{self.name}.py", "exec"), made.__dict__)
        return made


MUTANTS = (
    # What is done next.
    Mutant(
        "no checkpoint is asked for",
        act,
        'Enter("checkpointing" if action.checkpoint_required else _after_checkpoint(action))',
        "Enter(_after_checkpoint(action))",
        ("in place", 0),
    ),
    Mutant(
        "any answer counts as a checkpoint",
        act,
        'if job.state == "ready" and fresh and job.run == action.old_run:',
        'if job.state != "done":',
        ("in place", 0),
    ),
    Mutant(
        "a checkpoint is waited for without end",
        act,
        'if now >= action.deadline:\n        return Proceed("the job gave',
        'if False:\n        return Proceed("the job gave',
        ("in place, no checkpoint", 0),
    ),
    Mutant(
        "the type is not changed",
        act,
        'case "stopped" if action.stopped_by_us:\n            return Enter("modifying")',
        'case "stopped" if action.stopped_by_us:\n            return Enter("starting")',
        ("in place", 0),
    ),
    Mutant(
        "no rollback when there is no capacity",
        act,
        'return Enter("rolling_back", f"there is no capacity',
        'return Enter("needs_human", f"there is no capacity',
        ("in place, no capacity", 0),
    ),
    Mutant(
        "no rollback when the change is refused",
        act,
        'return Enter("rolling_back", f"the change was refused',
        'return Enter("needs_human", f"the change was refused',
        ("in place, change refused", 0),
    ),
    Mutant(
        "the rollback forgets the type",
        act,
        "case InPlace(aspects) if aspects and not isinstance(cloud.fault, Incompatible):",
        "case InPlace(aspects) if aspects and False:",
        ("in place, no capacity", 0),
    ),
    Mutant(
        "a stopped machine counts as rolled back",
        act,
        'case "running" if here.offer.id in (action.old.id, action.new.id):\n            return Enter("r',
        'case "running" | "stopped" if here.offer.id in (action.old.id, action.new.id):\n            return Enter("r',
        ("in place, no capacity", 0),
    ),
    Mutant(
        "the old machine is deleted before the switch",
        act,
        'return Enter("checkpointing" if action.checkpoint_required else "switching")',
        'return Enter("retiring")',
        ("replace", 0),
    ),
    Mutant(
        "the old machine is kept and paid for",
        act,
        'return Enter("retiring" if action.route == "replace" else "done",',
        'return Enter("done",',
        ("replace", 0),
    ),
    Mutant(
        "a launched machine is forgotten at a cancellation",
        act,
        'if step.stage == "cancelled" and action.made is not None:',
        "if False:",
        ("replace, no checkpoint", 0),
    ),
    Mutant(
        "a machine launched in vain is not deleted",
        act,
        "    return Perform(Terminate(action.made))",
        '    return Enter("rolled_back", action.rollback_reason)',
        ("replace, no checkpoint", 0),
    ),
    Mutant(
        "nodes that do the work are given back",
        act,
        "fresh = tuple(sorted(known - set(action.nodes)))",
        "fresh = tuple(sorted(known))[-1:]",
        ("grow, too few", 0),
    ),
    Mutant(
        "the size stays raised when no node came",
        act,
        "    if len(known) <= action.old.nodes:\n        return Perform(Resize(action.target, action.old.nodes))\n",
        "",
        ("grow, none", 0),
    ),
    Mutant(
        "a size that is not known counts as taken back",
        act,
        """return _overdue(action, now) or Wait(f"the group's size is not known: {cloud.fault}")""",
        'return Enter("rolled_back", action.rollback_reason)',
        ("grow, none", 1),
    ),
    Mutant(
        "any node is removed",
        act,
        "victims = tuple(victim for victim in action.victims if victim in present)",
        "victims = tuple(sorted(present))[: len(action.victims)]",
        ("shrink", 0),
    ),
    Mutant(
        "a machine that was let go is started again",
        act,
        'return Enter("released", "" if action.stopped_by_us else "somebody else stopped the machine")',
        "return Perform(Start(action.target))",
        ("release", 0),
    ),
    Mutant(
        "a job that went on is stopped all the same",
        act,
        'again = action.checkpoint is not None and job.state == "training" and job.run == action.old_run',
        "again = False",
        ("replace", 3),
    ),
    # How it is done.
    Mutant(
        "no record before the call",
        operate,
        '        self._store.actions.record(record)\n        self._failpoint(f"call.recorded',
        '        self._failpoint(f"call.recorded',
        ("in place", 0),
    ),
    Mutant(
        "our stop is not written down",
        operate,
        'if type(call).__name__ == "Stop" and not action.stopped_by_us:',
        "if False:",
        ("in place", 0),
    ),
    Mutant(
        "a token of its own for every repetition",
        operate,
        "{aspect}/{over}",
        "{aspect}/{len(records)}",
        ("replace", 1),
    ),
    Mutant(
        "a throttled launch gets another token",
        operate,
        "{aspect}/{over}",
        "{aspect}/{action.attempts}",
        ("replace", 2),
    ),
    Mutant(
        "a refused call is repeated at once",
        operate,
        "if action.next_at > now:\n",
        "if False:\n",
        ("in place", 1),
    ),
    Mutant(
        "a job that stands still waits for long",
        operate,
        'longest = 60.0 if action.stopped_by_us and action.route != "release" else 300.0',
        "longest = 600.0",
        ("in place, change refused", 3),
    ),
    Mutant(
        "a rollback looks for the way to the new type",
        operate,
        'wanted = action.old if action.stage == "rolling_back" else action.new',
        "wanted = action.new",
        ("in place, no capacity", 0),
    ),
    Mutant(
        "a call is made long after its record",
        operate,
        "        self._prompt(record)\n",
        "",
        "two owners",
    ),
    Mutant(
        "any decision may act",
        operate,
        'if decision.mode == "auto" or (decision.mode == "approve" and decision.by):',
        "if True:",
        "observe",
    ),
    # What is kept.
    Mutant(
        "the lease is not asked",
        lease,
        "if (row.epoch if row else 0) != epoch:",
        "if False:",
        "fenced",
    ),
    Mutant(
        "a lease is taken from its holder",
        lease,
        'if row.holder in ("", self._holder) or row.expires_us <= micros(now):',
        "if True:",
        "one holder",
    ),
    Mutant("the epoch stays", lease, "return int(row.epoch) + 1", "return int(row.epoch)", "fenced"),
    Mutant("a lost lease is renewed", lease, "kept = found.rowcount == 1", "kept = True", "lost lease"),
    Mutant("an older version is written", actions, "if before.version != action.version:", "if False:", "versions"),
    Mutant(
        "a closed action is opened again",
        actions,
        "if not before.is_open and not action.closed:",
        "if False:",
        "closed",
    ),
    Mutant(
        "a second action is let in",
        actions,
        "if connection.execute(made).first() is None:",
        "if connection.execute(made) is None:",
        "one action",
    ),
    Mutant(
        "what others set aside is not counted",
        actions,
        "for part in (spent, aside))",
        "for part in (spent,))",
        "budget",
    ),
    Mutant("what was spent is not counted", actions, "for part in (spent, aside))", "for part in (aside,))", "budget"),
    Mutant(
        "a closed action stays open",
        actions,
        '"is_open": 0 if action.closed else 1',
        '"is_open": 1',
        "closed",
    ),
    Mutant(
        "the decision is not closed",
        actions,
        "            decisions.set_status(connection, action.decision, cast(DecisionStatus, action.stage))\n",
        "            pass\n",
        "closed",
    ),
    Mutant(
        "a charge does not grow",
        ledger,
        'statement.excluded["seconds"] > col(ChargeRow.seconds)',
        'statement.excluded["seconds"] < col(ChargeRow.seconds)',
        "charges",
    ),
    Mutant(
        "a charge counts twice",
        ledger,
        "set_=grown,",
        'set_={**grown, "usd": col(ChargeRow.usd) + statement.excluded["usd"]},',
        "charges",
    ),
)
