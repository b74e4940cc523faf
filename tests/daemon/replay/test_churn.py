"""What a move came to is measured against the same run without it; noise in what is seen makes few moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.replay import churn
from daemon.replay.noisy import Noisy
from daemon.replay.run import Declared, Persisting, Run
from daemon.replay.trace import Trace
from policies.cost_per_progress import CostPerProgress
from policies.reactive import Reactive
from policies.types import Settings
from tests.daemon.replay.traces import HOUR, trace, traces

RULES = Settings("replay", "cost_per_progress", "v")


def test_a_move_is_worth_what_the_run_without_it_costs_more() -> None:
    made = trace([[1.0, 4.0], [1.0, 1.0]], [1.0, 1.5], ends=[4 * HOUR, 8 * HOUR], on_misfit="accumulate")
    run = Run(made, Reactive(), Persisting(made), RULES)
    usd = run.play().usd
    (move,) = churn.moves("t", "reactive", made, run.first, run.launches, 0.0)
    assert (move.before, move.after, move.needed) == ("aws/us-east-1/m0", "aws/us-east-1/m1", False)
    assert move.realised_usd == pytest.approx(4.0 + 16.0 - usd)
    assert move.promised_usd == pytest.approx(move.realised_usd, rel=0.02)
    assert move.realised_usd > move.sure_usd * 0.98


def test_without_a_needed_move_the_job_is_killed_and_then_moves() -> None:
    made = trace([[1.0, None], [1.0, 1.0]], [1.0, 10.0], ends=[4 * HOUR, 5 * HOUR])
    run = Run(made, CostPerProgress(), Declared(made), RULES)
    run.play()
    (move,) = churn.moves("t", "scaleahead", made, run.first, run.launches, 0.0)
    without = churn.played(made, run.first, run.launches, 0)
    assert without.out_of_memory == 1
    assert move.realised_usd == pytest.approx(without.usd - run.world.result().usd)


@settings(max_examples=15, deadline=None)
@given(traces(), st.sampled_from([0.0, 20.0]), st.booleans())
def test_played_again_a_run_costs_the_same(made: Trace, value: float, blind: bool) -> None:
    eyes, policy = (Persisting(made), Reactive()) if blind else (Declared(made), CostPerProgress())
    run = Run(made, policy, eyes, Settings("r", "k", "v", value_of_time_usd_per_hour=value))
    found = run.play()
    again = churn.played(made, run.first, run.launches)
    assert again.objective(value) == pytest.approx(found.objective(value), rel=1e-6)
    assert (again.moves, again.out_of_memory) == (found.moves, found.out_of_memory)


def test_noise_alone_moves_nothing() -> None:
    """Two machines nearly as good as each other: what is seen of one is off by a fifth at every poll."""
    made = trace([[1.0] * 3, [0.98] * 3], [1.0, 1.0], ends=[4 * HOUR * (s + 1) for s in range(3)])
    moves = []
    for seed in range(3):
        eyes = Noisy(Declared(made), 0.2, np.random.default_rng(seed))
        run = Run(made, CostPerProgress(), eyes, RULES)
        run.play()
        moves.append(len(run.launches))
    assert max(moves) <= 1


def test_the_same_seed_sees_the_same() -> None:
    made = trace([[1.0, 3.0], [0.9, 1.0]], [1.0, 2.0], on_misfit="accumulate")
    usd = {
        float(Run(made, Reactive(), Noisy(Persisting(made), 0.3, np.random.default_rng(seed)), RULES).play().usd)
        for seed in (5, 5, 5)
    }
    assert len(usd) == 1
