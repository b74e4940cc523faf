"""The world by hand-worked bills, the oracle by brute force, and that nothing beats it."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.replay import baselines, oracle
from daemon.replay.run import Declared, Persisting, play
from daemon.replay.trace import Trace, TraceError, read
from daemon.replay.world import World
from policies.cost_per_progress import CostPerProgress
from policies.reactive import Reactive
from policies.types import Settings

HOUR = 3600.0


def trace(rows: list[list[float | None]], usd: list[float], ends: list[float] | None = None, **more: object) -> Trace:
    """Make a trace of one unit of progress a step; ``rows`` are seconds a step, one row an offer."""
    ends = ends or [HOUR * (s + 1) for s in range(len(rows[0]))]
    names = [f"aws/us-east-1/m{o}" for o in range(len(rows))]
    body = {
        "job": "made", "total_progress": ends[-1], "restart_seconds": 100, "checkpoint_every_seconds": 900,
        "boot_seconds": 200, "on_misfit": "crash",
        "offers": [{"offer": n, "gpus": 1, "gpu_memory_gib": 16, "gpu": "T4", "nodes": 1, "usd_per_hour": u}
                   for n, u in zip(names, usd, strict=True)],
        "segments": [{"to_progress": e, "hyperparameters": {"batch_size": s}, "progress_per_step": 1.0}
                     for s, e in enumerate(ends)],
        "step_seconds": dict(zip(names, rows, strict=True)),
    }  # fmt: skip
    return Trace.model_validate(body | more)


def test_a_run_without_moves_is_billed_by_the_second() -> None:
    world = World(trace([[1.0, 2.0]], [3.6]), 0)
    world.advance(math.inf)
    found = world.result()
    assert found.hours == pytest.approx(3.0)
    assert found.usd == pytest.approx(10.8)


def test_a_switch_bills_the_new_from_launch_the_old_to_half_of_restart_and_stands_still_for_restart() -> None:
    world = World(trace([[1.0], [0.5]], [36.0, 72.0]), 0)
    world.advance(1000.0)
    world.launch(1)
    world.advance(math.inf)
    while not world.done:
        world.advance(math.inf)
    found = world.result()
    left = (HOUR - 1200.0) * 0.5
    assert found.hours * HOUR == pytest.approx(1200 + 100 + left)
    assert found.usd == pytest.approx((1200 + 50) * 0.01 + (200 + 100 + left) * 0.02)
    assert (found.moves, found.out_of_memory) == (1, 0)


def test_a_kill_loses_the_work_since_the_checkpoint_and_bills_the_old_until_noticed() -> None:
    world = World(trace([[1.0, None], [1.0, 1.0]], [36.0, 72.0], ends=[1000.0, 2000.0]), 0)
    world.advance(math.inf)
    assert world.stranded
    assert world.now == pytest.approx(1060)
    assert world.progress == pytest.approx(900)
    world.launch(1)
    while not world.done:
        world.advance(math.inf)
    found = world.result()
    assert found.lost_progress == pytest.approx(100)
    assert found.hours * HOUR == pytest.approx(1060 + 200 + 100 + 1100)
    assert found.usd == pytest.approx(1060 * 0.01 + (300 + 1100) * 0.02)


def test_a_job_told_to_hold_pauses_before_the_misfit_with_the_old_machine_billed() -> None:
    world = World(trace([[1.0, None], [1.0, 1.0]], [36.0, 72.0], ends=[1000.0, 2000.0]), 0)
    world.advance(900.0)
    world.launch(1, hold_at=1000.0)
    while not world.done:
        world.advance(math.inf)
    found = world.result()
    assert found.out_of_memory == 0
    assert found.hours * HOUR == pytest.approx(1100 + 100 + 1000)
    assert found.usd == pytest.approx((1100 + 50) * 0.01 + (300 + 1000) * 0.02)


SECONDS = st.one_of(st.none(), st.floats(0.05, 5.0))


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    segments, others = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    rows: list[list[float | None]] = [[draw(SECONDS) for _ in range(segments)] for _ in range(others)]
    rows.append([draw(st.floats(0.05, 5.0)) for _ in range(segments)])
    usd = [draw(st.floats(0.2, 40.0)) for _ in rows]
    return trace(rows, usd)


@settings(max_examples=60, deadline=None)
@given(traces(), st.sampled_from([0.0, 5.0, 20.0]))
def test_the_oracle_is_the_best_of_all_plans(made: Trace, value: float) -> None:
    plans = itertools.product(range(len(made.offers)), repeat=len(made.segments))
    priced = [oracle.price(made, plan) for plan in plans]
    best = min(one.objective(value) for one in priced if math.isfinite(one.usd))
    assert oracle.solve(made, value).objective(value) == pytest.approx(best)


@settings(max_examples=20, deadline=None)
@given(traces(), st.sampled_from([0.0, 20.0]))
def test_its_plan_costs_in_the_world_what_it_says(made: Trace, value: float) -> None:
    found = oracle.solve(made, value)
    pace = made.pace()
    if any(b != a and HOUR * pace[a, s] <= 300 for s, (a, b) in enumerate(itertools.pairwise(found.offers))):
        return  # a segment shorter than boot and restart: a bound only
    world = World(made, found.offers[0])
    for s, (a, b) in enumerate(itertools.pairwise(found.offers)):
        if a != b:
            goal = float(made.ends[s])
            while (goal - world.progress) * pace[a, s] > 200 + 1e-3 or world.segment < s or not world.running:
                left = (goal - world.progress) * pace[a, world.segment] if world.running else 1e9
                world.advance(world.now + (left - 200 if world.segment == s and left < 1e9 else 100))
            world.launch(b, hold_at=goal)
    while not world.done:
        world.advance(math.inf)
    assert world.result().objective(value) == pytest.approx(found.objective(value), rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(traces(), st.sampled_from([0.0, 5.0, 20.0]))
def test_no_policy_beats_the_oracle(made: Trace, value: float) -> None:
    least = oracle.solve(made, value).objective(value) * (1 - 1e-9)
    given_settings = Settings("replay", "cost_per_progress", "v", value_of_time_usd_per_hour=value)
    ahead = play(made, CostPerProgress(), Declared(made), given_settings)
    assert ahead.objective(value) >= least
    assert ahead.out_of_memory == 0
    assert play(made, Reactive(), Persisting(made), given_settings).objective(value) >= least
    assert baselines.static(made, value, "best").result().objective(value) >= least


def test_it_moves_just_before_the_misfit_and_as_cheaply_as_the_oracle() -> None:
    made = trace([[1.0, None], [1.0, 1.0]], [1.0, 10.0], ends=[4 * HOUR, 5 * HOUR])
    found = play(made, CostPerProgress(), Declared(made), Settings("r", "cost_per_progress", "v"))
    assert (found.out_of_memory, found.moves) == (0, 1)
    assert found.usd == pytest.approx(oracle.solve(made, 0.0).usd, rel=1e-3)
    blind = play(made, Reactive(), Persisting(made), Settings("r", "reactive", "v"))
    assert blind.out_of_memory == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"total_progress": 1.0}, "not total_progress"), ({"restart_seconds": -1}, "restart_seconds"),
        ({"step_seconds": {}}, "lacks"), ({"more": 1}, "more"), ({"on_misfit": "wait"}, "on_misfit"),
    ],
)  # fmt: skip
def test_a_bad_trace_is_refused_in_one_line(tmp_path: Path, change: dict[str, object], words: str) -> None:
    body = trace([[1.0, 2.0]], [1.0]).model_dump() | change
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(body))
    with pytest.raises(TraceError, match=words) as caught:
        read(file)
    assert "\n" not in str(caught.value)
    assert " - " in str(caught.value)


def test_boot_can_be_given(tmp_path: Path) -> None:
    file = tmp_path / "good.json"
    file.write_text(trace([[1.0, 2.0]], [1.0]).model_dump_json())
    assert read(file, 7.0).boot_seconds == 7.0
    assert np.isfinite(read(file).pace()).all()
