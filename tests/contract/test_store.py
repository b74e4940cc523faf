"""Edge: the laws of the store, each on SQLite and on a real PostgreSQL."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from sqlalchemy import create_engine, text

from daemon.store import schema
from daemon.store.base import Busy, Conflict, Missing, OverBudget, Stale, Store, StoreError
from daemon.store.database import micros
from daemon.store.lease import awake
from daemon.store.open import open_store
from daemon.types import Charge, Checkpoint, Claim, Declared, Drift, Forecast, JobStatus, Outcome
from providers.clock import VirtualClock
from providers.types import Operation
from tests.daemon.store.values import NOW, action, call, decision, job, later, report, row, situation, status

DIGEST = "ab" * 32


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite'}"
    made: str = request.getfixturevalue("postgres").create()
    return made


@pytest.fixture
def store(url: str, clock: VirtualClock) -> Iterator[Store]:
    opened = open_store(url, clock, busy_seconds=20)
    yield opened
    opened.close()


@pytest.fixture
def acting(store: Store) -> Store:
    """A store with a job and two decisions on it."""
    store.jobs.add(job())
    store.decisions.add(decision())
    store.decisions.add(decision("d-2", machine="big"))
    return store


def execute(url: str, *statements: str) -> None:
    """Meddle with the database behind the store's back."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def race(count: int, work: Callable[[int], Any], threads: int = 16) -> list[Any]:
    """Run work(0..count-1) on many threads; an error stands in the list in its result's place."""

    def caught(number: int) -> Any:
        try:
            return work(number)
        except StoreError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(caught, range(count)))


# Schema


def test_the_schema_is_what_the_tables_say(store: Store, url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        command.check(schema.config(connection))
    engine.dispose()


def test_a_newer_schema_is_refused_in_one_line(store: Store, url: str, clock: VirtualClock) -> None:
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="at schema 9999, newer than this version's") as caught:
        open_store(url, clock)
    assert "\n" not in str(caught.value)


def test_what_was_kept_is_there_after_opening_again(acting: Store, url: str, clock: VirtualClock) -> None:
    acting.actions.open(action())
    acting.close()
    again = open_store(url, clock)
    assert again.actions.unfinished() == [action()]
    assert again.jobs.get("bert") == (job(), JobStatus())
    again.close()


# Jobs


def test_a_job_is_read_as_it_was_added(store: Store) -> None:
    made = job(target_metric=("loss", 0.5), deadline=later(9), declared=(Declared(5, {"lr": 0.1}),), owner="ann")
    assert store.jobs.add(made) == made
    assert store.jobs.get("bert") == (made, JobStatus())
    store.jobs.add(job("Alpha"))
    assert [one.name for one in store.jobs.all()] == ["Alpha", "bert"]
    with pytest.raises(Missing, match="ghost"):
        store.jobs.get("ghost")


def test_a_taken_name_conflicts_and_the_same_key_returns_the_job_it_made(store: Store) -> None:
    store.jobs.add(job(), "key-1")
    assert store.jobs.add(job(owner="other"), "key-1") == job()
    assert store.jobs.add(job("another"), "key-1") == job()
    for key in (None, "key-2"):
        with pytest.raises(Conflict, match="bert"):
            store.jobs.add(job(), key)
    assert len(store.jobs.all()) == 1


def test_of_16_registrations_with_one_key_one_is_made(store: Store) -> None:
    made = race(16, lambda number: store.jobs.add(job(f"job-{number}"), "one key"))
    assert len({one.name for one in made}) == 1
    assert len(store.jobs.all()) == 1


def test_settings_are_replaced(store: Store) -> None:
    store.jobs.add(job())
    store.jobs.replace(job(state="paused", owner="ann"))
    assert store.jobs.get("bert")[0] == job(state="paused", owner="ann")
    with pytest.raises(Missing):
        store.jobs.replace(job("ghost"))


def test_removing_a_job_keeps_decisions_charges_and_outcomes(acting: Store) -> None:
    acting.telemetry.append(report("r", row("r", 0, 1)), None, status())
    acting.telemetry.save_forecasts([forecast()], {"bert": Drift()})
    acting.ledger.charge([Charge("bert", "small", NOW, 60.0, 0.5)])
    acting.ledger.settle(outcome())
    acting.jobs.remove("bert")
    assert acting.jobs.all() == []
    assert acting.status.all() == {}
    assert acting.telemetry.forecast("bert") is None
    assert acting.telemetry.drifts() == {}
    assert len(acting.telemetry.histories(["bert"])["bert"]) == 0
    assert len(acting.decisions.of("bert")) == 2
    assert acting.ledger.spent("bert") == 0.5
    assert acting.ledger.outcomes("bert") == [outcome()]
    with pytest.raises(Missing):
        acting.jobs.remove("bert")
    acting.jobs.add(job())  # and the name is free again, with nothing of the old one
    assert acting.telemetry.append(report("r", row("r", 0, 1)), None, status()) == 1


def test_a_job_with_an_open_action_is_not_removed(acting: Store) -> None:
    opened = acting.actions.open(action())
    with pytest.raises(Conflict, match="a-1"):
        acting.jobs.remove("bert")
    acting.actions.save(replace(opened, stage="cancelled"))
    acting.jobs.remove("bert")
    assert acting.decisions.get("d-1").status == "cancelled"


def test_of_a_removal_and_an_intent_at_once_only_one_holds(store: Store) -> None:
    for number in range(8):
        name = f"job-{number}"
        store.jobs.add(job(name))
        store.decisions.add(decision(f"d-{number}", of=name))
        intent = action(f"a-{number}", f"d-{number}", f"vm-{number}", job=name)
        works = [lambda name=name: store.jobs.remove(name), lambda intent=intent: store.actions.open(intent)]
        results = race(2, lambda place, works=works: works[place]())
        assert sum(isinstance(result, StoreError) for result in results) == 1


def test_status_is_replaced_and_read_at_once(store: Store) -> None:
    store.jobs.add(job())
    store.jobs.add(job("other"))
    told = status(run="r", checkpoint=Checkpoint("c", 9, 1.5, "s3://x"), declared=(Declared(1, {"lr": 0.1}),))
    store.status.save("bert", told)
    assert store.status.all() == {"bert": told, "other": JobStatus()}
    with pytest.raises(Missing):
        store.status.save("ghost", told)


# Telemetry


def test_rows_are_counted_once(store: Store) -> None:
    store.jobs.add(job())
    rows = [row("r", seq, 10 * seq) for seq in range(5)]
    assert store.telemetry.append(report("r", *rows[:3]), "small", status()) == 3
    assert store.telemetry.append(report("r", *rows[1:], rows[4]), "small", status(next_seq=5)) == 2
    assert store.telemetry.append(report("r", *rows), "small", status(next_seq=5)) == 0
    assert store.telemetry.histories(["bert"])["bert"].step.tolist() == [0, 10, 20, 30, 40]
    assert store.status.all()["bert"].next_seq == 5
    with pytest.raises(Missing):
        store.telemetry.append(report("r", of="ghost"), None, status())


def test_of_16_equal_reports_each_row_is_counted_once(store: Store) -> None:
    store.jobs.add(job())
    rows = [row("r", seq, seq) for seq in range(20)]
    added = race(16, lambda number: store.telemetry.append(report("r", *rows), None, status()))
    assert sorted(added) == [0] * 15 + [20]


def test_rows_come_back_as_columns(store: Store) -> None:
    store.jobs.add(job(total_steps=500, owner="ann", group="g"))
    first = row("r", 0, 1, hyperparameters={"lr": 0.1}, usage={"memory_gib": 3.5}, step_seconds=0.25)
    second = row("r", 1, 2, metrics={}, total_steps=90, loss_state="diverged")
    store.telemetry.append(report("r", first), "small", status())
    store.telemetry.append(report("r", second), "big", status())
    read = store.telemetry.histories(["bert", "ghost"])
    one = read["bert"]
    assert one.step.dtype == np.int64
    assert one.at_s.tolist() == [NOW.timestamp(), later(1).timestamp()]
    assert one.offers == ("small", "big")
    assert set(one.columns) == {"hp.lr", "metric.loss", "usage.memory_gib", "step_seconds"}
    np.testing.assert_array_equal(one.columns["hp.lr"], [0.1, np.nan])
    np.testing.assert_array_equal(one.columns["step_seconds"], [0.25, np.nan])
    assert (one.total_steps, one.owner, one.group, one.diverged) == (90, "ann", "g", True)
    assert (len(read["ghost"]), read["ghost"].total_steps, read["ghost"].diverged) == (0, None, False)


def test_work_done_again_is_cut_out(store: Store) -> None:
    store.jobs.add(job())

    def tell(run: str, steps: range) -> None:
        rows = [row(run, seq, step, received_at=later(place())) for seq, step in enumerate(steps)]
        store.telemetry.append(report(run, *rows), run, status())

    ticks = iter(range(1000))
    place: Callable[[], int] = lambda: next(ticks)  # noqa: E731
    tell("first", range(0, 100, 10))
    tell("second", range(60, 120, 10))
    tell("third", range(30, 60, 10))
    one = store.telemetry.histories(["bert"])["bert"]
    assert one.step.tolist() == [0, 10, 20, 30, 40, 50]
    assert one.offers == ("first",) * 3 + ("third",) * 3
    tell("fourth", range(55, 75, 10))
    one = store.telemetry.histories(["bert"])["bert"]
    assert one.step.tolist() == [0, 10, 20, 30, 40, 50, 55, 65]
    assert (np.diff(one.at_s) > 0).all()
    assert store.telemetry.histories(["bert"], window=4)["bert"].step.tolist() == [40, 50, 55, 65]


def test_steps_ascend_and_time_never_falls(store: Store) -> None:
    store.jobs.add(job())
    steps, seconds = [1, 3, 2, 3, 4], [5, 9, 9, 9, 7]
    rows = [
        row("r", seq, step, received_at=later(at)) for seq, (step, at) in enumerate(zip(steps, seconds, strict=True))
    ]
    store.telemetry.append(report("r", *rows), None, status())
    one = store.telemetry.histories(["bert"])["bert"]
    assert one.step.tolist() == [1, 3, 4]
    assert (one.at_s - NOW.timestamp()).tolist() == [5, 9, 9]


def test_the_window_holds_the_newest_rows_of_each_job(store: Store) -> None:
    for number in range(5):
        store.jobs.add(job(f"j{number}"))
        rows = [row("r", 3 * seq, seq) for seq in range(10 + number)]  # seq may have gaps
        store.telemetry.append(report("r", *rows, of=f"j{number}"), None, status())
    read = store.telemetry.histories([f"j{number}" for number in range(5)], window=4)
    assert [one.step.tolist() for one in read.values()] == [list(range(6 + n, 10 + n)) for n in range(5)]


@pytest.mark.parametrize(
    ("lost", "expected"),
    [((), 0), ((4,), 0), ((10,), 1), ((8, 12, 14), 3), ((19,), 1), ((18, 19), 2), ((6,), 0)],
    ids=[
        "none",
        "before the window",
        "one within",
        "every second",
        "the newest",
        "the two newest",
        "the window moves on",
    ],
)
def test_rows_that_are_lost_from_the_window_are_counted(
    store: Store, url: str, lost: tuple[int, ...], expected: int
) -> None:
    store.jobs.add(job())
    rows = [row("r", 2 * seq + 1, seq) for seq in range(20)]
    store.telemetry.append(report("r", *rows), None, status(run="r", next_seq=40, stride=2))
    execute(url, *(f"DELETE FROM observations WHERE step = {step}" for step in lost))
    assert store.telemetry.histories(["bert"], window=13)["bert"].missing == expected


def test_the_first_rows_of_a_run_are_missed_unless_they_were_pruned(store: Store, url: str) -> None:
    store.jobs.add(job())
    rows = [row("r", seq, seq) for seq in range(20)]
    store.telemetry.append(report("r", *rows), None, status(run="r", next_seq=20, stride=1))
    store.retention.prune(15)
    assert store.telemetry.histories(["bert"])["bert"].missing == 0
    execute(url, "DELETE FROM observations WHERE step IN (5, 6)")
    assert store.telemetry.histories(["bert"])["bert"].missing == 2


def test_declared_changes_are_joined_and_the_reported_ones_win(store: Store) -> None:
    store.jobs.add(job(declared=(Declared(50, {"lr": 0.1}), Declared(20, {"lr": 0.5}))))
    told = status(declared=(Declared(50, {"lr": 0.2}), Declared(70, {"lr": 0.3})))
    store.telemetry.append(report("r"), None, told)
    declared = store.telemetry.histories(["bert"])["bert"].declared
    assert declared == (Declared(20, {"lr": 0.5}), Declared(50, {"lr": 0.2}), Declared(70, {"lr": 0.3}))


def test_finished_jobs_of_owner_or_group_stand_beside(store: Store) -> None:
    for number in range(10):
        shared = {"owner": "ann"} if number % 2 else {"group": "g", "owner": "other"}
        store.jobs.add(job(f"old-{number}", **shared))
        rows = [row("r", seq, seq) for seq in range(700 if number == 9 else 3)]
        done = JobStatus(heard_at=later(number), state="done")
        store.telemetry.append(report("r", *rows, of=f"old-{number}"), None, done)
    store.jobs.add(job("stranger"))
    store.telemetry.append(report("r", of="stranger"), None, JobStatus(heard_at=later(99), state="done"))
    store.jobs.add(job("running", owner="ann"))
    store.jobs.add(job(owner="ann", group="g"))
    for _ in range(2):  # the second time they come out of what is kept of finished jobs
        read = store.telemetry.histories(["bert", "old-9"])
        earlier = read["bert"].earlier
        assert [one.job for one in earlier] == [f"old-{number}" for number in range(9, 1, -1)]
        assert 200 <= len(earlier[0]) <= 256
        assert earlier[0].step[-1] == 699
        assert (np.diff(earlier[0].step) > 0).all()
        assert [one.job for one in read["old-9"].earlier] == ["old-7", "old-5", "old-3", "old-1"]
    store.jobs.replace(job("old-9", owner="somebody else"))
    assert store.telemetry.histories(["bert"])["bert"].earlier[0].job == "old-8"


def forecast(number: int = 0) -> Forecast:
    paths = {"usage.memory_gib": np.array([[1.0, 1 / 3], [np.nan, np.inf]])}
    return Forecast("bert", later(number), number, np.array([5, 9]), np.array([0.25, 0.75]), paths, unknown=("disk",))


def test_the_newest_forecast_is_read_and_twenty_are_kept(store: Store, url: str) -> None:
    store.jobs.add(job())
    assert store.telemetry.forecast("bert") is None
    for number in range(23):
        store.telemetry.save_forecasts([forecast(number), replace(forecast(), job="ghost")], {})
    read = store.telemetry.forecast("bert")
    assert read is not None
    assert (read.made_at, read.at_step, read.unknown) == (later(22), 22, ("disk",))
    np.testing.assert_array_equal(read.paths["usage.memory_gib"], forecast().paths["usage.memory_gib"])
    np.testing.assert_array_equal(read.probability, [0.25, 0.75])
    engine = create_engine(url)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM forecasts")).scalar() == 20
    engine.dispose()


def test_the_newest_drift_is_read(store: Store) -> None:
    store.jobs.add(job())
    store.telemetry.save_forecasts([], {"bert": Drift(1), "ghost": Drift()})
    store.telemetry.save_forecasts([], {"bert": Drift(2, 1.5, None, 0.8, False, "worse")})
    assert store.telemetry.drifts() == {"bert": Drift(2, 1.5, None, 0.8, False, "worse")}


def test_pruning_keeps_the_newest_rows_and_does_not_take_the_old_ones_again(store: Store) -> None:
    for name in ("bert", "other"):
        store.jobs.add(job(name))
        store.telemetry.append(report("r1", *(row("r1", n, n) for n in range(10)), of=name), None, status())
    store.telemetry.append(report("r2", *(row("r2", n, 10 + n) for n in range(4))), None, status())
    assert store.retention.prune(7) == 7 + 3
    assert store.retention.prune(7) == 0
    assert store.telemetry.histories(["bert"])["bert"].step.tolist() == list(range(7, 14))
    assert store.telemetry.append(report("r1", row("r1", 2, 2)), None, status()) == 0
    assert store.retention.prune(2) == 5 + 5
    assert store.telemetry.histories(["bert"])["bert"].step.tolist() == [12, 13]


# Decisions


def test_a_decision_is_read_as_it_was_added(acting: Store) -> None:
    assert acting.decisions.get("d-1") == decision()
    assert [one.id for one in acting.decisions.of("bert")] == ["d-2", "d-1"]
    assert [one.id for one in acting.decisions.of("bert", limit=1)] == ["d-2"]
    assert acting.decisions.of("ghost") == []
    with pytest.raises(Missing):
        acting.decisions.get("ghost")


def test_a_repetition_is_counted(store: Store) -> None:
    first = store.decisions.add(decision(status="no_change"))
    again = store.decisions.add(decision("d-2", status="no_change", at=later(30)))
    assert again == replace(first, repeats=1, last_at=later(30))
    assert store.decisions.of("bert") == [again]
    for number, other in enumerate(({"machine": "big"}, {"policy_version": "v2"}, {"status": "observed"})):
        name = f"other-{number}"
        assert store.decisions.add(decision(name, **{"status": "no_change", **other})).id == name
    for name in ("w-1", "w-2"):
        assert store.decisions.add(decision(name, status="waiting")).id == name


def test_no_repetition_is_lost_among_400_at_once(store: Store) -> None:
    names = [f"job-{number}" for number in range(20)]
    for name in names:
        store.jobs.add(job(name))

    def turn(number: int) -> None:  # twenty at once come upon a job that has no decision yet
        store.decisions.add(decision(f"d-{number}", of=names[number // 20], status="no_change"))

    race(400, turn)
    assert [[one.repeats for one in store.decisions.of(name)] for name in names] == [[19]] * 20


def test_a_mark_names_who_and_is_audited(acting: Store) -> None:
    marked = acting.decisions.mark("d-1", "approved", "ann", expected="recommended")
    assert marked == decision(status="approved", by="ann") == acting.decisions.get("d-1")
    with pytest.raises(Stale, match="is approved, not recommended"):
        acting.decisions.mark("d-1", "rejected", "bob", expected="recommended")
    with pytest.raises(Missing):
        acting.decisions.mark("ghost", "rejected", "bob")
    [line] = acting.audit.since(0)
    assert line[2:] == (
        "ann", "decision marked", "d-1", {"job": "bert", "before": "recommended", "after": "approved"}
    )  # fmt: skip


def test_of_16_marks_one_holds(acting: Store) -> None:
    marks = race(16, lambda number: acting.decisions.mark("d-1", "approved", f"p{number}", expected="recommended"))
    assert sum(isinstance(mark, Stale) for mark in marks) == 15
    assert len(acting.audit.since(0)) == 1


# Actions


def test_an_intent_marks_its_decision_and_is_audited(acting: Store) -> None:
    assert acting.actions.open(action()) == action()
    assert acting.actions.unfinished() == [action()]
    assert acting.decisions.get("d-1").status == "acting"
    [line] = acting.audit.since(0)
    assert line[3:5] == ("action opened", "a-1")
    assert line[5]["new"] == "simulated/here/big"


def test_an_intent_on_nothing_or_on_what_is_over_is_refused(acting: Store) -> None:
    with pytest.raises(Missing, match="no decision ghost"):
        acting.actions.open(action(of="ghost"))
    with pytest.raises(Missing, match="no job named ghost"):
        acting.actions.open(action(job="ghost"))
    acting.decisions.mark("d-1", "rejected", "ann")
    with pytest.raises(Stale, match="rejected"):
        acting.actions.open(action())
    assert acting.actions.unfinished() == []
    assert acting.decisions.get("d-1").status == "rejected"


def test_one_action_a_target(acting: Store) -> None:
    opened = acting.actions.open(action())
    with pytest.raises(Conflict, match="simulated/here/vm/vm-1"):
        acting.actions.open(action("a-2", "d-2"))
    assert acting.decisions.get("d-2").status == "recommended"  # nothing was written
    assert acting.actions.open(action()) == opened  # the very same again, as after an unknown commit
    with pytest.raises(Conflict, match="another action"):
        acting.actions.open(action(on="vm-2"))
    acting.actions.open(action("a-3", "d-2", "vm-2"))
    acting.actions.save(replace(opened, stage="done", closed_at=NOW))
    assert [one.id for one in acting.actions.unfinished()] == ["a-3"]


def test_a_closed_action_is_unsettled_until_its_outcome_is_kept(acting: Store) -> None:
    opened = acting.actions.open(action())
    assert acting.actions.unsettled() == []
    closed = acting.actions.save(replace(opened, stage="done", closed_at=NOW))
    assert acting.actions.unsettled() == [closed]
    acting.ledger.settle(outcome())
    assert acting.actions.unsettled() == []


def test_of_16_intents_on_one_target_exactly_one_wins(store: Store) -> None:
    store.jobs.add(job())
    for number in range(16):
        store.decisions.add(decision(f"d-{number}", machine=f"m{number}"))
    won = race(16, lambda number: store.actions.open(action(f"a-{number}", f"d-{number}")))
    assert sum(isinstance(one, Conflict) for one in won) == 15
    assert len(store.actions.unfinished()) == 1
    assert [one.status for one in store.decisions.of("bert")].count("acting") == 1


def test_the_index_alone_holds_one_action_a_target(acting: Store, url: str) -> None:
    acting.actions.open(action())
    copy = (
        "INSERT INTO actions (number, id, decision, job, target, stage, is_open, opened_us, epoch, version, value)"
        " SELECT 99, 'a-9', decision, job, target, stage, is_open, opened_us, epoch, version, value FROM actions"
    )
    with pytest.raises(Exception, match=r"UNIQUE constraint|unique constraint"):
        execute(url, copy)


def test_a_step_is_saved_once(acting: Store) -> None:
    first = acting.actions.open(action())
    second = acting.actions.save(replace(first, stage="checkpointing"))
    assert second == replace(first, stage="checkpointing", version=1)
    with pytest.raises(Stale, match="at version 1, not 0"):
        acting.actions.save(replace(first, stage="stopping"))
    assert acting.actions.unfinished() == [second]
    with pytest.raises(Missing):
        acting.actions.save(action("ghost"))


@pytest.mark.parametrize("stage", ["done", "rolled_back", "cancelled", "needs_human"])
def test_a_closed_stage_marks_the_decision_and_is_final(acting: Store, stage: Any) -> None:
    closed = acting.actions.save(replace(acting.actions.open(action()), stage=stage))
    assert acting.decisions.get("d-1").status == stage
    assert acting.actions.unfinished() == []
    with pytest.raises(Stale, match="closed"):
        acting.actions.save(replace(closed, stage="starting"))
    assert [line[5]["after"] for line in acting.audit.since(0)] == ["intended", stage]


def test_of_400_saves_at_once_none_is_lost(acting: Store) -> None:
    acting.actions.open(action())

    def save(number: int) -> None:
        while True:
            [now] = acting.actions.unfinished()
            try:
                acting.actions.save(replace(now, attempts=now.attempts + 1))
                return
            except Stale:
                continue

    race(400, save, threads=4)
    [one] = acting.actions.unfinished()
    assert (one.attempts, one.version) == (400, 400)


def test_calls_are_kept_before_and_after(acting: Store) -> None:
    acting.actions.open(action())
    acting.actions.record(call("c-2", number=2))
    acting.actions.record(call("c-1"))
    assert acting.actions.calls("a-1") == [call("c-1"), call("c-2", number=2)]
    resolved = replace(call("c-1"), state="accepted", operation=Operation("op", "simulated", "running"))
    acting.actions.record(resolved)
    assert acting.actions.calls("a-1")[0] == resolved
    with pytest.raises(Missing):
        acting.actions.record(call("c-3", of="ghost"))


# Lease


only_a_file = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
only_a_server = pytest.mark.parametrize("url", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True)


@only_a_file
def test_a_file_is_held_by_one(store: Store) -> None:
    first, second = store.lease("pid 1 on alpha", 15), store.lease("pid 2 on beta", 15)
    first.acquire(NOW)
    assert first.shards == {"loop": 1}
    with pytest.raises(Conflict, match="pid 1 on alpha holds the lease until"):
        second.acquire(later(14))
    assert first.renew(later(10)) == frozenset()
    with pytest.raises(Conflict):
        second.acquire(later(20))
    second.acquire(later(26))
    assert second.shards == {"loop": 2}
    with pytest.raises(Stale, match="must end"):
        first.renew(later(26))
    first.release()  # does nothing to the other's
    second.renew(later(30))
    second.release()
    first.acquire(later(31))
    assert first.shards == {"loop": 3}


def test_of_16_who_want_a_job_one_has_it(url: str, clock: VirtualClock) -> None:
    """Ten rounds: a lease seen before its holder's sign of life was once taken by a second in half of them."""
    stores = [open_store(url, clock, connections=1) for _ in range(16)]
    leases = [store.lease(f"holder {number}", 15) for number, store in enumerate(stores)]
    for _ in range(10):
        taken = race(16, lambda number: leases[number].acquire(NOW))
        assert sum(lease.epoch_of("bert") > 0 for lease in leases) == 1
        held = [shard for lease in leases for shard in lease.shards]
        assert len(held) == len(set(held)) == (16 if leases[0].shared else 1)
        assert {type(one) for one in taken} <= ({type(None)} if leases[0].shared else {type(None), Conflict})
        for lease in leases:
            if lease.shards:
                lease.release()
    for store in stores:
        store.close()


@only_a_server
def test_a_newcomer_gets_its_part_when_the_first_gives_it_up(acting: Store, url: str, clock: VirtualClock) -> None:
    first = acting.lease("one", 15)
    first.acquire(NOW)
    assert len(first.shards) == 16
    assert first.leads
    other = open_store(url, clock)
    second = other.lease("two", 15)
    second.acquire(NOW)
    assert second.shards == {}
    assert not second.leads
    surplus = first.renew(later(3))
    assert len(surplus) == 8
    assert len(first.shards) == 16  # until they are given up
    some = frozenset(list(surplus)[:5])
    assert first.renew(later(6), giving=some) == surplus - some
    second.renew(later(6))
    assert set(second.shards) == some
    assert set(second.shards.values()) == {2}
    assert first.renew(later(7), giving=surplus - some) == frozenset()
    second.renew(later(7))
    assert (set(second.shards), set(second.shards) & set(first.shards)) == (set(surplus), set())
    mine, theirs = (first, acting), (second, other)
    if first.epoch_of("bert") == 0:
        mine, theirs = theirs, mine
    with pytest.raises(Stale, match="is with another process"):
        theirs[0].check("bert")
    with pytest.raises(Stale, match="not ours but with"):
        theirs[1].actions.open(action())
    assert mine[1].actions.open(action()).epoch == mine[0].epoch_of("bert")
    other.close()


def test_what_the_dead_held_is_taken_once_it_has_run_out(acting: Store, url: str, clock: VirtualClock) -> None:
    dead, heir = acting.lease("dead", 15), open_store(url, clock)
    dead.acquire(NOW)
    lease = heir.lease("heir", 15)
    if dead.shared:
        lease.acquire(later(14))
        assert (lease.shards, lease.leads) == ({}, False)
    else:
        with pytest.raises(Conflict):
            lease.acquire(later(14))
    lease.acquire(later(16))
    assert set(lease.shards.values()) == {2}
    assert lease.leads
    assert lease.epoch_of("bert") == 2
    with pytest.raises(Stale, match="must end"):
        dead.renew(later(17))
    assert (dead.shards, dead.epoch_of("bert")) == ({}, 0)
    lease.renew(later(18))
    heir.close()


@only_a_server
def test_a_release_that_knew_no_shards_is_kept_apart(acting: Store, url: str, clock: VirtualClock) -> None:
    """An old process and replicas never act together: whoever is first is waited for, and the other fenced."""
    lease = acting.lease("new", 15)
    lease.acquire(NOW)
    lease.release()
    execute(url, f"UPDATE leases SET holder = 'old', epoch = 7, expires_us = {micros(later(15))} WHERE shard = 'loop'")
    with pytest.raises(Conflict, match="old of an earlier release holds the lease alone until"):
        lease.acquire(later(14))
    lease.acquire(later(16))
    engine = create_engine(url)
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT holder, epoch FROM leases WHERE shard = 'loop'")).one()
    engine.dispose()
    assert tuple(kept) == ("replicas", 8)


def test_jobs_of_one_key_are_in_one_shard(store: Store) -> None:
    lease = store.lease("one", 15)
    lease.group(lambda job: "fleet" if job.startswith("f") else job)
    assert lease.shard_of("f1") == lease.shard_of("f2")
    assert len({lease.shard_of(f"job {number}") for number in range(200)}) == (16 if lease.shared else 1)


def test_a_process_that_slept_through_its_lease_knows_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = store.lease("one", 15)
    lease.acquire(NOW)
    lease.check("bert")
    woken = awake() + 16
    monkeypatch.setattr("daemon.store.lease.awake", lambda: woken)
    with pytest.raises(Stale, match="one slept through its lease"):
        lease.check("bert")


def test_a_lost_lease_writes_no_action(acting: Store, url: str, clock: VirtualClock) -> None:
    lease = acting.lease("old", 15)
    lease.acquire(NOW)
    opened = acting.actions.open(action())
    assert opened.epoch == 1
    other = open_store(url, clock)
    with pytest.raises(Stale, match="old"):
        other.actions.save(opened)  # it never had the lease
    other.lease("new", 15).acquire(later(60))
    for write in (
        lambda: acting.actions.save(opened),
        lambda: acting.actions.open(action("a-2", "d-2", "vm-2")),
        lambda: acting.actions.record(call()),
    ):
        with pytest.raises(Stale, match="new"):
            write()
    assert other.actions.unfinished() == [opened]
    assert other.actions.calls("a-1") == []
    assert other.actions.save(opened) == replace(opened, version=1, epoch=2)
    with pytest.raises(Stale):
        lease.renew(later(61))
    other.close()


def test_a_released_lease_writes_no_action(acting: Store) -> None:
    lease = acting.lease("one", 15)
    lease.acquire(NOW)
    opened = acting.actions.open(action())
    lease.release()
    with pytest.raises(Stale, match="nobody"):
        acting.actions.save(opened)


def test_repetitions_are_counted_in_one_unit(acting: Store) -> None:
    acting.decisions.repeat([], NOW)
    acting.decisions.repeat(["d-2", "d-1", "d-1", "ghost"], later(60))
    one, two = acting.decisions.get("d-1"), acting.decisions.get("d-2")
    assert (one.repeats, one.last_at) == (2, later(60))
    assert (two.repeats, two.last_at) == (1, later(60))


# Ledger


def outcome(name: str = "a-1", at: float = 0, note: str = "as promised") -> Outcome:
    return Outcome(name, "d-1", "bert", "done", None, 1.5, None, note, later(at))


def test_charges_count_once(store: Store) -> None:
    charges = [Charge("bert", "small", later(n), 60.0, 0.1, reason) for n in range(3) for reason in ("running", "lost")]
    store.ledger.charge(charges[2:])
    store.ledger.charge(charges)
    store.ledger.charge([replace(charges[0], usd=99.0)])
    store.ledger.charge([])
    assert store.ledger.spent("bert") == pytest.approx(0.6)
    assert store.ledger.spent("ghost") == 0.0
    assert store.ledger.charges("bert") == sorted(charges, key=lambda one: (one.start, one.reason))
    with pytest.raises(StoreError, match="nan"):
        store.ledger.charge([Charge("bert", "small", later(9), 60.0, float("nan"))])


def test_a_charge_grows_and_never_shrinks(store: Store) -> None:
    first = Charge("bert", "small", NOW, 60.0, 0.1)
    longer = replace(first, seconds=90.0, usd=0.15)
    for charge in (first, longer, first):
        store.ledger.charge([charge])
    assert store.ledger.charges("bert") == [longer]


def test_outcomes_are_kept_once(store: Store) -> None:
    store.ledger.settle(outcome("a-2", at=5))
    store.ledger.settle(outcome())
    store.ledger.settle(outcome(note="something else"))
    assert store.ledger.outcomes("bert") == [outcome(), outcome("a-2", at=5)]


# Audit


def test_the_log_is_read_from_a_number_on(store: Store, clock: VirtualClock) -> None:
    assert store.audit.intact()
    numbers = [store.audit.note("ann", "did", f"it\r\n\x00\x1b[31m{n}", {"n": n, "at": NOW}) for n in range(5)]
    assert numbers == [1, 2, 3, 4, 5]
    assert store.audit.since(3) == [
        (n + 1, clock.now(), "ann", "did", f"it\r\n\x00\x1b[31m{n}", {"n": n, "at": NOW}) for n in (3, 4)
    ]
    assert [line[0] for line in store.audit.since(0, limit=2)] == [1, 2]
    assert store.audit.intact()


def test_400_notes_at_once_make_one_chain(store: Store) -> None:
    numbers = race(400, lambda number: store.audit.note("ann", "did", str(number), {}))
    assert sorted(numbers) == list(range(1, 401))
    assert store.audit.intact()


DROP_TRIGGERS = {
    "sqlite": ("DROP TRIGGER audit_not_changed", "DROP TRIGGER audit_not_removed"),
    "postgresql": ("DROP TRIGGER audit_not_changed ON audit",),
}


@pytest.mark.parametrize(
    "meddling",
    [
        "UPDATE audit SET entry = replace(entry, 'did', 'hid') WHERE number = 2",
        "DELETE FROM audit WHERE number = 2",
        "DELETE FROM audit WHERE number = 3",
        "DELETE FROM audit",
        "UPDATE audit SET hash = 'x' WHERE number = 3",
    ],
)
def test_the_log_refuses_meddling_and_shows_it(store: Store, url: str, meddling: str) -> None:
    for number in range(3):
        store.audit.note("ann", "did", str(number), {})
    with pytest.raises(Exception, match="append-only"):
        execute(url, meddling)
    assert store.audit.intact()
    execute(url, *DROP_TRIGGERS[url.partition(":")[0].partition("+")[0]], meddling)
    assert not store.audit.intact()


# Tokens


def test_only_digests_are_kept(store: Store) -> None:
    assert not store.tokens.any()
    store.tokens.add("ann", DIGEST, ("read", "observe:bert"))
    assert store.tokens.any()
    assert store.tokens.scopes(DIGEST) == ("ann", ("read", "observe:bert"))
    assert store.tokens.scopes("cd" * 32) is None
    with pytest.raises(StoreError, match="digest") as caught:
        store.tokens.add("bob", "sa-canary-secret", ("admin",))
    assert "canary" not in str(caught.value)


# Faults


def test_all_that_was_acknowledged_survives_kill_9(url: str, clock: VirtualClock) -> None:
    """The child prints a number once its rows are acknowledged, and is killed in the middle of its work."""
    open_store(url, clock).close()
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).parents[1] / "daemon/store/writer.py"), url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert child.stdout is not None
    acknowledged = [int(child.stdout.readline()) for _ in range(40)]
    child.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in child.stdout.read().splitlines()]
    child.wait()
    child.stdout.close()
    store = open_store(url, clock)
    steps = store.telemetry.histories(["bert"], window=10_000)["bert"].step.tolist()
    assert set(acknowledged) <= set(steps)
    assert len(steps) <= len(acknowledged) + 1
    assert {one.subject for one in map(_line, store.audit.since(0, 10_000))} >= set(map(str, acknowledged))
    assert store.audit.intact()
    store.close()


def _line(line: Any) -> Any:
    from daemon.store.base import AuditEntry

    return AuditEntry(*line)


def test_a_writer_that_waits_too_long_is_told_so_and_wrote_nothing(url: str, clock: VirtualClock) -> None:
    store = open_store(url, clock, busy_seconds=0.2)
    store.jobs.add(job())
    engine = create_engine(url)
    with engine.connect() as other:
        hold = "BEGIN IMMEDIATE" if "sqlite" in url else "LOCK TABLE statuses IN ACCESS EXCLUSIVE MODE"
        other.exec_driver_sql(hold)
        with pytest.raises(Busy, match="try again later"):
            store.status.save("bert", status(run="lost"))
        with pytest.raises(Busy):
            store.telemetry.append(report("r", row("r", 0, 0)), None, status(run="lost"))
        other.rollback()
    engine.dispose()
    assert store.status.all() == {"bert": JobStatus()}
    assert len(store.telemetry.histories(["bert"])["bert"]) == 0
    store.status.save("bert", status(run="now"))
    store.close()


# Records and reservations


def test_a_decision_keeps_the_situation_it_was_made_in(store: Store) -> None:
    store.jobs.add(job())
    seen = situation()
    made = decision(situation=seen, options=seen.options)
    store.decisions.add(made)
    assert store.decisions.get("d-1") == made
    assert store.decisions.since(NOW) == ["d-1"]
    assert store.decisions.since(NOW, "another") == []
    assert store.decisions.forget(NOW) == 0
    assert store.decisions.forget(later(1)) == 1
    bare = store.decisions.get("d-1")
    assert (bare.situation, bare.options, bare.choice) == (None, (), made.choice)


def test_a_record_that_comes_again_is_kept_from_then_on(store: Store) -> None:
    store.jobs.add(job())
    seen = situation()
    store.decisions.add(decision(situation=seen, options=seen.options))
    store.decisions.repeat(["d-1"], later(100))
    assert store.decisions.forget(later(50)) == 0
    assert store.decisions.since(later(50)) == ["d-1"]


def test_two_intents_at_once_do_not_exceed_a_budget(acting: Store) -> None:
    """$5 of $10 is spent; each of eight moves sets $2 aside, so that two are let through."""
    acting.ledger.charge([Charge("bert", "x", NOW, 3600, 5.0)])
    for number in range(8):
        acting.decisions.add(decision(f"m-{number}", machine=f"m{number}"))

    def opened(number: int) -> Any:
        return acting.actions.open(
            action(f"a-{number}", f"m-{number}", f"vm-{number}", reserved_usd=2.0, budget_usd=10.0)
        )

    results = race(8, opened)
    assert sum(isinstance(one, OverBudget) for one in results) == 6
    assert len(acting.actions.unfinished()) == 2
    refused = next(one for one in results if isinstance(one, OverBudget))
    assert str(refused).startswith("job bert has spent or set aside 9.00 of 10.00 dollars, and this move takes 2.00")


def test_a_closed_action_sets_nothing_aside(acting: Store) -> None:
    first = acting.actions.open(action(reserved_usd=6.0, budget_usd=10.0))
    with pytest.raises(OverBudget):
        acting.actions.open(action("a-2", "d-2", "vm-2", reserved_usd=6.0, budget_usd=10.0))
    acting.actions.save(replace(first, stage="cancelled"))
    acting.actions.open(action("a-2", "d-2", "vm-2", reserved_usd=6.0, budget_usd=10.0))


@pytest.fixture
def fleet(store: Store) -> Store:
    """Eight jobs at a dollar an hour each, with a decision on each."""
    for number in range(8):
        store.jobs.add(job(f"j{number}"))
        store.decisions.add(decision(f"d-{number}", f"j{number}"))
    store.actions.costs("default", {f"j{number}": 1.0 for number in range(8)} | {"ghost": 99.0})
    return store


def claiming(number: int, after: float, cap: float | None = 12.0, before: float = 1.0) -> Any:
    claim = Claim("default", cap, before, after)
    return action(f"a-{number}", f"d-{number}", f"vm-{number}", job=f"j{number}", claim=claim)


def test_jobs_at_once_do_not_exceed_the_cap_of_their_fleet(fleet: Store, url: str, clock: VirtualClock) -> None:
    """They cost $8 of $12 an hour; each move takes one from $1 to $2.50, so that two are let through."""
    other = open_store(url, clock, busy_seconds=20)
    stores = (fleet, other)  # as two replicas are
    results = race(8, lambda number: stores[number % 2].actions.open(claiming(number, 2.5)))
    other.close()
    refused = [one for one in results if isinstance(one, OverBudget)]
    assert (len(refused), len(fleet.actions.unfinished())) == (6, 2)
    assert str(refused[0]).startswith("the jobs of default cost or have claimed ")


def test_what_an_open_action_has_claimed_is_not_noted_away(fleet: Store) -> None:
    first = fleet.actions.open(claiming(0, 5.0))
    fleet.actions.costs("default", {"j0": 1.0})
    with pytest.raises(OverBudget):
        fleet.actions.open(claiming(1, 1.5))
    fleet.actions.open(claiming(1, 0.5, cap=None))  # cheaper hours are always allowed
    fleet.actions.save(replace(first, stage="cancelled"))
    fleet.actions.open(claiming(2, 5.0))


@pytest.mark.parametrize(
    ("stage", "left"),
    [("done", 0.0), ("rolled_back", 4.0), ("cancelled", 4.0), ("released", 5.0), ("needs_human", 0.0)],
)
def test_a_closed_action_leaves_what_its_job_costs_then(fleet: Store, stage: Any, left: float) -> None:
    first = fleet.actions.open(claiming(0, 5.0))
    fleet.actions.save(replace(first, stage=stage))
    with pytest.raises(OverBudget):
        fleet.actions.open(claiming(1, 1.0 + left + 0.01))
    fleet.actions.open(claiming(1, 1.0 + left))


def test_a_job_that_leaves_its_fleet_counts_no_more(fleet: Store) -> None:
    fleet.jobs.replace(replace(job("j0"), policy="another"))
    fleet.jobs.remove("j1")
    fleet.actions.open(claiming(2, 7.0))


def test_without_a_budget_nothing_is_counted(acting: Store) -> None:
    acting.ledger.charge([Charge("bert", "x", NOW, 3600, 500.0)])
    acting.actions.open(action(reserved_usd=6.0))


@pytest.mark.fault("A15")
def test_a_database_of_the_first_version_keeps_its_decisions(url: str, clock: VirtualClock) -> None:
    """Rows written before records existed hold their options in the value."""
    opened = open_store(url, clock)
    opened.jobs.add(job())
    opened.decisions.add(decision())
    opened.close()
    execute(
        url,
        "DROP TABLE rates",
        "DROP TABLE fleets",
        "DROP INDEX ix_decisions_at_us",
        "ALTER TABLE decisions DROP COLUMN record",
        "ALTER TABLE decisions DROP COLUMN at_us",
        "ALTER TABLE actions DROP COLUMN reserved_usd",
        "UPDATE alembic_version SET version_num = '0001'",
    )
    again = open_store(url, clock)
    assert again.decisions.get("d-1") == decision()
    assert again.decisions.since(NOW) == []
    again.close()
