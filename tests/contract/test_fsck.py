"""Edge: every planted inconsistency is found, on SQLite and on a real PostgreSQL, and none is repaired unasked."""

import os
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from daemon import fsck
from daemon.fsck import Finding, Truth
from daemon.store.base import Conflict, StoreError
from daemon.store.codec import dumps
from daemon.store.open import open_store
from daemon.store.survey import Surveyor
from daemon.types import Action, CallRecord, Charge, Outcome
from providers.clock import VirtualClock
from providers.types import Allocation, Offer, Target
from tests.daemon.store.values import NOW, action, call, decision, job, later, offer, report, row, status, target

NOBODY = Truth({}, ())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite'}"
    made: str = request.getfixturevalue("postgres").create()
    return made


@pytest.fixture
def sound(url: str, clock: VirtualClock) -> str:
    """A database in which nothing is broken: a job, an open action with a call, a closed one with its outcome."""
    store = open_store(url, clock)
    store.lease("host:1", 15).acquire(clock.now() - timedelta(hours=1))
    store.jobs.add(job())
    store.telemetry.append(report("r", row("r", 0, 1)), None, status())
    for name in ("d-1", "d-2"):
        store.decisions.add(decision(name, machine=name))
    store.actions.open(action(reserved_usd=2.0, budget_usd=10.0))
    store.actions.record(call(of="a-1"))
    ended = store.actions.open(action("a-2", "d-2", "vm-2"))
    store.actions.save(replace(ended, stage="done", closed_at=NOW))
    store.ledger.settle(Outcome("a-2", "d-2", "bert", "done", 1.0, 1.0, 0, "", NOW))
    store.ledger.charge(
        [Charge("bert", "small", NOW, 60.0, 0.5), Charge("bert", "small", later(60), 60.0, 0.5, "moving")]
    )
    store.close()
    return url


@dataclass(frozen=True, slots=True)
class Plant:
    """An inconsistency: what is changed behind the store's back, the law it breaks, and whether it can be repaired."""

    name: str
    law: str
    statements: tuple[str, ...]
    repaired: bool = False


def _value(of: Action | CallRecord) -> str:
    return dumps(type(of), of).replace("'", "''").replace(":", r"\:")


def _row(made: Action, is_open: int = 1, **columns: object) -> str:
    named = {
        "id": made.id, "decision": made.decision, "job": made.job, "stage": made.stage, "is_open": is_open, "epoch": 1,
        "target": f"{made.target.provider}/{made.target.place}/vm/{made.target.id}", "opened_us": 1, "version": 0,
        "reserved_usd": 0.0, **columns,
    }  # fmt: skip
    values = ", ".join(f"'{value}'" for value in named.values())
    return f"INSERT INTO actions ({', '.join(named)}, value) VALUES ({values}, '{_value(made)}')"


NO_KEYS = "SET session_replication_role = replica"
"""Foreign keys off; on SQLite a connection from outside has none."""
PLANTS = (
    Plant(
        "two open actions of one target",
        "one action",
        ("DROP INDEX one_open_action_a_target", _row(action("a-9", "d-2"))),
    ),
    Plant("two open actions of one job", "one action", (_row(action("a-9", "d-2", "vm-9")),)),
    Plant(
        "an open action of a job that is not there",
        "job",
        (_row(action("a-9", "d-2", "vm-9", job="ghost")),),
    ),
    Plant(
        "an action past its deadline", "deadline", (_row(replace(action("a-9", "d-2", "vm-9"), deadline=later(-3600))),)
    ),
    Plant("a column that is not its value's", "columns", ("UPDATE actions SET stage = 'verifying' WHERE id = 'a-1'",)),
    Plant("a closed row of an open action", "columns", ("UPDATE actions SET is_open = 0 WHERE id = 'a-1'",)),
    Plant("an action of a later epoch", "epoch", ("UPDATE actions SET epoch = 9 WHERE id = 'a-1'",)),
    Plant("a call of a later epoch", "epoch", ("UPDATE calls SET epoch = 9",)),
    Plant(
        "a reservation without an open action",
        "reservation",
        ("UPDATE actions SET reserved_usd = 3.5 WHERE id = 'a-2'",),
        True,
    ),
    Plant(
        "a reservation that is not the action's",
        "reservation",
        ("UPDATE actions SET reserved_usd = 9 WHERE id = 'a-1'",),
    ),
    Plant(
        "a decision left acting",
        "decision",
        ("UPDATE decisions SET status = 'acting' WHERE id = 'd-2'",),
        True,
    ),
    Plant("a closed action without an outcome", "outcome", ("DELETE FROM outcomes",)),
    Plant("a charge of nothing known", "ledger", ("UPDATE charges SET usd = -1 WHERE reason = 'running'",)),
    Plant("time charged twice", "ledger", ("UPDATE charges SET seconds = 100 WHERE reason = 'running'",)),
    Plant("a lease in the future", "lease", (f"UPDATE leases SET expires_us = {int(later(90000).timestamp())}000000",)),
    Plant("a row that is no JSON", "readable", ("UPDATE actions SET value = '{' WHERE id = 'a-2'",)),
    Plant("a job of unknown fields", "readable", ("UPDATE jobs SET value = '{\"x\"\\:1}'",)),
    Plant("a decision that is not compressed", "readable", ("UPDATE decisions SET value = 'abc' WHERE id = 'd-1'",)),
    Plant(
        "an audit line that was changed",
        "audit",
        ("DROP TRIGGER audit_not_changed {on audit}", "UPDATE audit SET entry = '{}' WHERE number = 1"),
    ),
    Plant(
        "an audit line that was cut off",
        "audit",
        (
            "DROP TRIGGER audit_not_removed {on audit}",
            "DELETE FROM audit WHERE number > 1",
        ),
    ),
    Plant("telemetry of an unknown job", "telemetry", (NO_KEYS, "UPDATE runs SET job = 'ghost'"), True),
    Plant("the status of an unknown job", "telemetry", (NO_KEYS, "UPDATE statuses SET job = 'ghost'"), True),
    Plant(
        "a token used twice",
        "token",
        (
            "INSERT INTO calls (id, action, number, state, epoch, value)"
            f" VALUES ('c-9', 'a-2', 2, 'sent', 1, '{_value(replace(call('c-9', 'a-2', 2), token='token-c-1'))}')",
        ),
    ),
    Plant("a call of no action", "call", (NO_KEYS, "UPDATE calls SET action = 'ghost'")),
)


def plant(url: str, statements: tuple[str, ...]) -> None:
    engine = create_engine(url)
    server = engine.dialect.name == "postgresql"
    try:
        with engine.begin() as connection:
            for statement in statements:
                if statement == NO_KEYS and not server:
                    continue
                if "audit_not_removed" in statement and server:
                    statement = statement.replace("audit_not_removed", "audit_not_changed")
                connection.execute(text(statement.replace("{on audit}", "ON audit" if server else "")))
    finally:
        engine.dispose()


def findings(url: str, clock: VirtualClock, truth: Truth = NOBODY) -> list[Finding]:
    surveyor = Surveyor(url, clock)
    try:
        return fsck.check(surveyor.read(), truth, clock.now())
    finally:
        surveyor.close()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(later(900))


def test_nothing_is_found_where_nothing_is_broken(sound: str, clock: VirtualClock) -> None:
    assert findings(sound, clock) == []


@pytest.mark.parametrize("planted", PLANTS, ids=lambda planted: planted.name)
def test_what_was_planted_is_found_and_repaired_only_when_told_to(
    sound: str, clock: VirtualClock, planted: Plant
) -> None:
    plant(sound, planted.statements)
    found = findings(sound, clock)
    assert planted.law in {finding.law for finding in found}, found
    assert all("\n" not in finding.text for finding in found)
    assert findings(sound, clock) == found
    surveyor = Surveyor(sound, clock)
    free = later(100_000)
    made = surveyor.repair(found, free)
    surveyor.close()
    assert [finding.law for finding in made] == ([planted.law] * len(made) if planted.repaired else [])
    assert bool(made) is planted.repaired
    left = {finding.law for finding in findings(sound, clock)}
    assert (planted.law not in left) is planted.repaired


def test_there_are_at_least_12_kinds() -> None:
    assert len({planted.law for planted in PLANTS} | {"orphan", "forgotten"}) >= 12


def test_nothing_is_repaired_beside_a_running_daemon(sound: str, clock: VirtualClock) -> None:
    plant(sound, ("UPDATE actions SET reserved_usd = 3.5 WHERE id = 'a-2'",))
    store = open_store(sound, clock)
    lease = store.lease("host:2", 15)
    lease.acquire(clock.now())
    found = findings(sound, clock)
    surveyor = Surveyor(sound, clock)
    with pytest.raises(Conflict, match="host:2 holds the lease - stop the daemon"):
        surveyor.repair(found, clock.now())
    surveyor.close()
    store.close()
    assert findings(sound, clock) == found


def seen(on: Target, state: str, **labels: str) -> Allocation:
    here: Offer = offer()
    return Allocation(on, state, here, labels={f"scaleahead-{key}": value for key, value in labels.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(("owner", "law"), [("ghost", ["orphan"]), ("a-2", ["orphan"]), ("a-1", [])])
def test_a_machine_of_no_open_action_and_no_job_is_an_orphan(
    sound: str, clock: VirtualClock, owner: str, law: list[str]
) -> None:
    machine = seen(target("vm-x"), "running", action=owner)
    assert [finding.law for finding in findings(sound, clock, Truth({}, (machine,)))] == law
    gone = replace(machine, state="terminated")
    assert findings(sound, clock, Truth({}, (gone,))) == []


def test_the_machine_that_a_job_moved_to_is_no_orphan(sound: str, clock: VirtualClock) -> None:
    store = open_store(sound, clock)
    store.jobs.replace(job(target=target("vm-x")))
    store.close()
    assert findings(sound, clock, Truth({}, (seen(target("vm-x"), "running", action="a-2"),))) == []


@pytest.mark.parametrize(
    ("stage", "ours", "law"),
    [
        ("needs_human", True, ["forgotten"]), ("cancelled", True, ["forgotten"]), ("needs_human", False, []),
        ("done", True, []), ("rolled_back", True, []), ("released", True, []),
    ],
)  # fmt: skip
def test_a_machine_that_we_stopped_and_forgot_is_found_and_one_that_a_person_stopped_is_not(
    sound: str, clock: VirtualClock, stage: str, ours: bool, law: list[str]
) -> None:
    ended = action("a-9", "d-2", "vm-9", stage=stage, stopped_by_us=ours, closed_at=clock.now())
    plant(sound, (_row(ended, is_open=0),))
    truth = Truth({target("vm-9"): seen(target("vm-9"), "stopped")}, ())
    assert [finding.law for finding in findings(sound, clock, truth)] == law
    up = Truth({target("vm-9"): seen(target("vm-9"), "running")}, ())
    assert findings(sound, clock, up) == []


def test_a_cloud_that_does_not_answer_is_said_to_be_unknown(sound: str, clock: VirtualClock) -> None:
    [finding] = findings(sound, clock, Truth({}, (), (("simulated", "no answer"),)))
    assert (finding.law, finding.repair) == ("cloud", None)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, clock: VirtualClock) -> None:
    with pytest.raises(StoreError, match="there is no database at"):
        Surveyor(f"sqlite:///{tmp_path / 'none.sqlite'}", clock)
    assert os.listdir(tmp_path) == []


def test_a_database_of_another_version_is_not_upgraded(sound: str, clock: VirtualClock) -> None:
    plant(sound, ("UPDATE alembic_version SET version_num = '0001'",))
    with pytest.raises(StoreError, match="scaleahead db upgrade"):
        Surveyor(sound, clock)
