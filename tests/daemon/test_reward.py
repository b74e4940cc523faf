"""Weights over experts, refined by the regret of the decisions they led to."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import engine
from daemon.forecast.base import Horizon
from daemon.forecast.persist import Persist
from daemon.replay.cautious import Cautious
from daemon.replay.rewarded import Rewarded
from daemon.replay.run import Run
from daemon.reward import MOST, SHARE, Course, came, mixed, refined, regrets, tilted
from daemon.rewards import FORETOLD, PRESENT, PRIOR, Rewards
from daemon.types import Forecast, History, Job
from policies.cost_per_progress import CostPerProgress
from policies.types import Settings
from providers.types import Offer, Price, Resources
from tests.daemon.replay.traces import HOUR, trace

NOW = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
NAMES = ("head", "steps", "present")
PARTS = st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).filter(lambda each: sum(each) > 0.01)
LOSSES = st.dictionaries(st.sampled_from([*NAMES, "nobody"]), st.floats(allow_nan=True), max_size=4)


def shares(parts: list[float]) -> dict[str, float]:
    return {name: part / sum(parts) for name, part in zip(NAMES, parts, strict=True)}


@given(PARTS, st.lists(LOSSES, max_size=5))
def test_weights_stay_weights_whatever_is_lost(parts: list[float], losses: list[dict[str, float]]) -> None:
    weights = shares(parts)
    for loss in losses:
        before, weights = weights, refined(weights, loss)
        assert set(weights) == set(NAMES)
        assert sum(weights.values()) == pytest.approx(1.0)
        asleep = [name for name in NAMES if name not in loss]
        assert all(weights[name] == before[name] for name in asleep), "who was not heard is not judged"
        awake = [name for name in NAMES if name in loss]
        mass = sum(before[name] for name in awake)
        assert all(weights[name] >= mass * SHARE / len(awake) * 0.999 for name in awake), "none is forgotten"


@given(PARTS, st.floats(0.0, 0.5), st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_only_differences_of_regret_count_and_less_is_never_worse(
    parts: list[float], first: float, second: float, more: float
) -> None:
    weights = shares(parts)
    loss = {"head": first, "steps": second, "present": second}
    found = refined(weights, loss)
    assert found == pytest.approx(refined(weights, {name: each + more for name, each in loss.items()}), abs=1e-9)
    if first <= second:
        assert found["head"] >= (1 - SHARE) * weights["head"] * 0.999


def test_the_expert_that_is_dearer_every_time_loses_its_weight() -> None:
    weights = dict(PRIOR)
    for _ in range(20):
        weights = refined(weights, {FORETOLD: 0.2, PRESENT: 0.0})
    assert weights[PRESENT] > 0.95
    for _ in range(20):
        weights = refined(weights, {FORETOLD: 0.0, PRESENT: 0.2})
    assert weights[FORETOLD] > 0.95


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=12), PARTS)
def test_tilted_trajectories_carry_their_experts_weights(owner: list[str], parts: list[float]) -> None:
    weights = shares(parts)
    found = tilted(np.full(len(owner), 1 / len(owner)), owner, weights)
    assert found.sum() == pytest.approx(1.0)
    assert (found >= 0).all()
    heard = sum(weights[name] for name in set(owner))
    if heard > 0:
        for name in set(owner):
            assert found[np.array(owner) == name].sum() == pytest.approx(weights[name] / heard)


def offer(kind: str, usd: float, memory: float) -> Offer:
    return Offer("simulated", "us-east-1", kind, Resources(4, memory), Price(usd, "a test", NOW))


SMALL, LARGE = offer("m5.xlarge", 0.2, 16), offer("r5.xlarge", 0.3, 32)
SETTINGS = Settings("default", "cost_per_progress", "v")
JOB = Job("job", NOW, "default", owner="ann", total_steps=1000)


def lived(steps: int, memory: float = 4.0, later: float | None = None) -> History:
    """A job at 10 s a step; from step 110 on its memory may be another."""
    step = np.arange(1, steps + 1)
    need = np.where(step >= 110, memory if later is None else later, memory)
    columns = {"step_seconds": np.full(steps, 10.0), "usage.memory_gib": need}
    return History("job", step, 1.8e9 + 10.0 * step, columns, (SMALL.id,) * steps, 1000, owner="ann")


def foretold(memory: float) -> tuple[Forecast, Forecast]:
    """What a forecaster says that sees memory rise at once, and what the present says."""
    present = Persist().predict([lived(100)], Horizon())[0]
    paths = {**present.paths, "usage.memory_gib": np.full((1, len(present.steps)), memory)}
    return replace(present, method="recurrent", paths=paths), present


def test_a_mixture_is_a_forecast_and_says_what_both_say() -> None:
    one, present = foretold(20.0)
    found = mixed(one, present, 0.7)
    assert found.probability.tolist() == pytest.approx([0.7, 0.3])
    assert found.paths["usage.memory_gib"][:, 0].tolist() == [20.0, 4.0]
    assert {path.shape for path in found.paths.values()} == {(2, len(present.steps))}
    assert found.deviations.keys() == present.deviations.keys()
    lost = replace(present, paths={name: each for name, each in present.paths.items() if name != "usage.memory_gib"})
    assert "usage.memory_gib" not in mixed(one, lost, 0.7).paths, "what one of them does not know stays unknown"
    assert mixed(present, present, 0.7) is present
    other = replace(present, steps=present.steps + 1)
    assert mixed(one, other, 0.7) is one


@given(st.integers(2, 60), st.integers(1, 900), st.randoms(use_true_random=False))
def test_what_came_lies_within_what_was_seen(rows: int, at: int, random: object) -> None:
    rng = np.random.default_rng(rows * 1000 + at)
    step = np.sort(rng.choice(np.arange(1, 1000), rows, replace=False))
    seconds = np.where(rng.random(rows) < 0.3, np.nan, rng.uniform(1, 9, rows))
    memory = {"usage.memory_gib": np.where(rng.random(rows) < 0.5, np.nan, rng.uniform(1, 9, rows))}
    made = replace(foretold(20.0)[1], at_step=at, steps=np.unique(np.linspace(at + 1, 1000, 20).astype(int)))
    found = came(made, Course(step, seconds, memory))
    told = (step > at) & np.isfinite(seconds)
    assert (found is None) == (not told.any())
    if found is None:
        return
    assert (np.diff(found.steps, prepend=at) > 0).all()
    assert found.steps[-1] == step[told][-1]
    for path, values in ((found.paths["step_seconds"], seconds[told]), (found.paths.get("usage.memory_gib"), None)):
        if path is not None:
            assert path.shape == (1, len(found.steps))
            assert np.isfinite(path).all()
        if values is not None:
            assert values.min() - 1e-9 <= path.min() <= path.max() <= values.max() + 1e-9


def judged(later: float) -> dict[str, float]:
    """Let one say "20 GiB from now on" and the other "as now", and the job end at ``later`` GiB."""
    rewards = Rewards()
    one, _ = foretold(20.0)
    case = engine.Case(one, SMALL, [engine.Candidate(LARGE)], SETTINGS, NOW)
    rewards.saw(JOB, lived(100), SMALL)
    rewards.decided(JOB, case, {FORETOLD: LARGE.id, PRESENT: SMALL.id})
    rewards.saw(JOB, lived(1000, later=later), SMALL)
    rewards.ended(JOB)
    rewards.ended(JOB)
    assert rewards.weights(replace(JOB, name="another")) == rewards.weights(JOB)
    assert rewards.weights(replace(JOB, owner="bob")) == PRIOR
    return dict(rewards.weights(JOB))


def test_the_end_of_a_job_judges_who_foretold_it() -> None:
    assert judged(later=4.0)[FORETOLD] < PRIOR[FORETOLD] - 0.05, "it paid for memory that was never needed"
    assert judged(later=20.0)[FORETOLD] > PRIOR[FORETOLD], "staying would have had it killed"


def test_a_job_without_a_dispute_or_an_end_teaches_nothing() -> None:
    rewards = Rewards()
    case = engine.Case(foretold(20.0)[0], SMALL, [engine.Candidate(LARGE)], SETTINGS, NOW)
    rewards.saw(JOB, lived(100), SMALL)
    rewards.decided(JOB, case, {FORETOLD: SMALL.id, PRESENT: SMALL.id})
    rewards.ended(JOB)
    rewards.decided(JOB, case, {FORETOLD: LARGE.id, PRESENT: SMALL.id})
    rewards.forget(JOB.name)
    rewards.ended(JOB)
    assert rewards.weights(JOB) == PRIOR


def test_regret_is_a_part_of_the_best_and_bounded() -> None:
    one, _ = foretold(20.0)
    options = engine.weigh(engine.Case(one, SMALL, [engine.Candidate(LARGE)], SETTINGS, NOW)).options
    found = regrets(options, {"stays": SMALL.id, "moves": LARGE.id, "elsewhere": "aws/nowhere"})
    assert found == {"stays": MOST, "moves": 0.0}
    assert regrets([option for option in options if option.offer.id == SMALL.id], {"stays": SMALL.id}) == {}


def test_without_weights_a_replay_is_what_it_was_and_with_them_all_experts_are_judged() -> None:
    hours = [0.3 * HOUR, 0.6 * HOUR, 2 * HOUR]
    made = trace([[1.0, 4.0, 4.0], [0.9] * 3], [1.0, 1.5], hours, on_misfit="accumulate", restart_seconds=3000)
    plain = Run(made, CostPerProgress(), Cautious(made), SETTINGS).play()
    even = {"steps": 0.5, "progress": 0.5, "present": 0.0}
    run = Rewarded(made, CostPerProgress(), Cautious(made, None, even), SETTINGS)
    assert run.play() == plain, "shipped weights give the shipped decisions"
    found = run.regret()
    assert found.keys() == even.keys()
    assert all(0.0 <= regret <= MOST for regret in found.values())
    assert found["present"] > found["steps"], "whoever takes the present to last stays for too long"
