"""Learned speeds in a replay: what fits, what is seen and what is not, and that a slow surprise is left again."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.replay.learned import Learning, Room
from daemon.replay.run import Declared, play
from daemon.replay.trace import Trace
from daemon.replay.world import World
from policies.cost_per_progress import CostPerProgress
from policies.types import Settings

SETTINGS = Settings("made", "cost_per_progress", "v1", value_of_time_usd_per_hour=5.0)
OFFERS = (("one", "T4", 1, 16.0, 0.5), ("four", "T4", 4, 16.0, 3.9), ("big", "A100-40GB", 8, 40.0, 22.0))


def trace(batches: tuple[int, ...] = (8, 64), **more: object) -> Trace:
    """A job whose batch grows; a GPU takes 1 sample for a GiB, 0.02 s (T4) or 0.004 s (A100) a sample."""
    each = {"T4": 0.02, "A100-40GB": 0.004}
    rows = {
        f"aws/us-east-1/{name}": [0.1 + each[gpu] * b / n if b / n <= memory else None for b in batches]
        for name, gpu, n, memory, _ in OFFERS
    }
    filled = {
        f"aws/us-east-1/{name}": [b / n / memory if b / n <= memory else None for b in batches]
        for name, _, n, memory, _ in OFFERS
    }
    offers = [{"offer": f"aws/us-east-1/{name}", "gpus": n, "gpu_memory_gib": m, "gpu": gpu, "nodes": 1,
               "usd_per_hour": usd} for name, gpu, n, m, usd in OFFERS]  # fmt: skip
    ends = [20000.0 * (s + 1) for s in range(len(batches))]
    body = {
        "job": "made", "total_progress": ends[-1], "restart_seconds": 100, "checkpoint_every_seconds": 900,
        "boot_seconds": 200, "on_misfit": "crash", "offers": offers, "step_seconds": rows,
        "gpu_memory_fraction": filled,
        "segments": [{"to_progress": e, "hyperparameters": {"batch_size": b}, "progress_per_step": 1.0}
                     for e, b in zip(ends, batches, strict=True)],
    }  # fmt: skip
    return Trace.model_validate(body | more)


def learning(made: Trace) -> Learning:
    return Learning(Declared(made), made, 0.08, 5.0, np.random.default_rng(0))


def test_a_run_that_outgrows_its_machine_is_played_without_a_kill() -> None:
    made = trace()
    result = play(made, CostPerProgress(), learning(made), SETTINGS)
    assert result.out_of_memory == 0


def test_nothing_is_seen_of_what_has_not_run() -> None:
    """The same looks, with the table changed wherever the run has not been: nothing may change."""
    honest = trace()
    other = trace(
        step_seconds=honest.step_seconds | {"aws/us-east-1/four": [9.0, 9.0], "aws/us-east-1/big": [7.0, 7.0]}
    )
    seen = []
    for made in (honest, other):
        eyes, world = learning(made), World(made, 0)
        eyes.future(world)
        world.advance(60.0)
        seen.append(eyes.future(world).pace)
    assert np.array_equal(*seen)


def test_the_present_machine_is_as_fast_as_it_was_seen_to_be_and_others_are_not_sure() -> None:
    made = trace()
    eyes, world = learning(made), World(made, 0)
    eyes.future(world)
    world.advance(60.0)
    after = eyes.future(world).pace[:, 0]
    assert after[:, 0] == pytest.approx(made.pace()[0, 0])
    assert after[:, 2].std() > 0


def test_more_memory_holds_in_proportion_more_and_less_may_be_half_taken() -> None:
    room = Room(0.0)
    room.see(40.0, 24.0, 0.5)
    assert room.holds(40.0) == pytest.approx(48.0)
    assert room.holds(80.0) == pytest.approx(96.0)
    assert room.holds(16.0) == pytest.approx(12.0)  # 8 GiB taken of each: 48 x 8 / 32


@given(st.floats(1, 100), st.floats(0.01, 1.0), st.floats(8, 80), st.floats(8, 80), st.floats(0, 7.9))
def test_what_is_taken_to_fit_fits_whatever_part_of_the_memory_is_fixed(
    size: float, share: float, seen: float, asked: float, fixed: float
) -> None:
    """True room is affine in the memory, less a fixed part of up to half of the smaller GPU."""
    fixed = min(fixed, 0.5 * min(seen, asked))
    room = Room(0.0)
    room.see(seen, size, share)
    true = size / share * (asked - fixed) / (seen - fixed)
    assert room.holds(asked) <= true * (1 + 1e-9)


def test_what_ran_fits_and_more_of_it_only_with_a_margin() -> None:
    room = Room(0.08)
    room.see(16.0, 12.0, 1.0)
    assert room.fits(16.0, 12.0)
    assert not room.fits(16.0, 12.5)
    assert not room.fits(32.0, 24.0)
    assert room.fits(32.0, 22.0)


def test_a_machine_that_turns_out_slow_is_left_again() -> None:
    made = trace(batches=(8, 8))
    eyes, world = learning(made), World(made, 0)
    eyes.future(world)
    world.advance(60.0)
    pace = eyes.future(world).pace[:, 0]
    rate = made.prices + 5.0
    here = pace[0, 0] * rate[0]
    assert (pace * rate <= here * 2).all()
    assert math.isfinite(here)
