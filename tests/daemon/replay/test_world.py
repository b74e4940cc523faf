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
from daemon.replay.cautious import Cautious
from daemon.replay.run import Declared, Persisting, play
from daemon.replay.trace import Trace, TraceError, read, redrawn
from daemon.replay.world import World
from policies.cost_per_progress import CostPerProgress
from policies.reactive import Reactive
from policies.types import Settings
from tests.daemon.replay.traces import HOUR, trace, traces


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
    guess = play(made, CostPerProgress(), Cautious(made), given_settings)
    assert guess.objective(value) >= least
    assert guess.out_of_memory == 0
    careful = oracle.solve(made, value, unwarned=True).objective(value)
    assert careful >= least
    assert guess.objective(value) >= careful * (1 - 1e-9)


@settings(max_examples=20, deadline=None)
@given(traces(), st.sampled_from([0.0, 20.0]))
def test_moving_inside_a_segment_is_no_better(made: Trace, value: float) -> None:
    """The oracle's claim, by brute force on the same trace with every segment cut in three."""
    ends = np.concatenate([[0.0], made.ends])
    cut = [
        (float(a + (b - a) * third / 3), s) for s, (a, b) in enumerate(itertools.pairwise(ends)) for third in (1, 2, 3)
    ]
    finer = made.model_copy(update={
        "segments": [made.segments[s].model_copy(update={"to_progress": end}) for end, s in cut],
        "step_seconds": {name: [row[s] for _, s in cut] for name, row in made.step_seconds.items()},
    })  # fmt: skip
    assert oracle.solve(finer, value).objective(value) == pytest.approx(oracle.solve(made, value).objective(value))


@settings(max_examples=30, deadline=None)
@given(traces(), st.sampled_from([0.0, 5.0]), st.floats(0.1, 1.0), st.integers(0, 2))
def test_cheaper_prices_never_raise_the_bill(made: Trace, value: float, cut: float, which: int) -> None:
    """Whichever prices fall, the optimum falls; where all fall alike, the same moves are made for less."""

    def cheaper(chosen: set[int]) -> Trace:
        offers = [one.model_copy(update={"usd_per_hour": one.usd_per_hour * (cut if o in chosen else 1.0)})
                  for o, one in enumerate(made.offers)]  # fmt: skip
        return made.model_copy(update={"offers": offers})

    full = oracle.solve(made, value).objective(value)
    assert oracle.solve(cheaper({which}), value).objective(value) <= full * (1 + 1e-9)
    rules = Settings("replay", "cost_per_progress", "v")
    before = play(made, CostPerProgress(), Declared(made), rules)
    after_trace = cheaper({0, 1, 2})
    after = play(after_trace, CostPerProgress(), Declared(after_trace), rules)
    assert after.usd <= before.usd * cut * (1 + 1e-6)


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


def test_redrawn_lengths_keep_order_and_total() -> None:
    made = trace([[1.0, 2.0, 3.0, 4.0]], [1.0])
    other = redrawn(made, np.random.default_rng(3))
    assert other == redrawn(made, np.random.default_rng(3))
    assert other.ends[-1] == made.total_progress
    assert (np.diff(other.ends, prepend=0.0) > 0).all()
    assert not np.allclose(other.ends, made.ends)
    assert [s.hyperparameters for s in other.segments] == [s.hyperparameters for s in made.segments]
