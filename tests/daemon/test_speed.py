"""Speed on another offer: what was observed counts first, then how busy the cores are, then public figures."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.gpus import DATA_SHEETS
from daemon.speed import Speeds, learn, point
from daemon.types import History
from providers.types import Offer, Price, Resources

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def cpu(name: str, cores: float) -> Offer:
    return Offer("aws", "us-east-1", name, Resources(cores, 16), Price(1.0, "a test", NOW))


def gpu(model: str, count: int = 1, nodes: int = 1) -> Offer:
    return Offer("aws", "us-east-1", f"{model}-{count}", Resources(8, 64, count, model, 16.0), None, nodes=nodes)


def test_the_same_machine_takes_the_same_time() -> None:
    factors, spread = Speeds().factors(cpu("a", 4), [cpu("a", 4)])
    assert factors.tolist() == [1.0]
    assert spread.tolist() == [0.0]


def test_idle_cores_promise_nothing_and_too_few_cost() -> None:
    factors, _ = Speeds(cpu_cores_used=2.0).factors(cpu("a", 8), [cpu("b", 16), cpu("c", 2), cpu("d", 1)])
    assert factors.tolist() == [1.0, 1.0, 2.0]


def test_busy_cores_promise_less_than_in_proportion() -> None:
    (factor,), _ = Speeds(cpu_cores_used=4.0).factors(cpu("a", 4), [cpu("b", 8)])
    assert 0.5 < factor < 1.0


def test_unknown_use_never_promises_a_gain() -> None:
    factors, _ = Speeds().factors(cpu("a", 4), [cpu("b", 64), cpu("c", 2)])
    assert factors.tolist() == [1.0, 2.0]


def test_a_job_on_gpus_cannot_run_without() -> None:
    (factor,), _ = Speeds().factors(gpu("T4"), [cpu("a", 8)])
    assert math.isinf(factor)


def test_a_later_gpu_is_faster_and_more_of_them_less_than_in_proportion() -> None:
    factors, _ = Speeds().factors(gpu("T4"), [gpu("A100-40GB"), gpu("H100"), gpu("T4", 4), gpu("T4", 4, 2)])
    assert factors[1] < factors[0] < 1
    assert 0.25 < factors[2] < 1
    assert factors[3] > factors[2] / 2


def history(offers: tuple[str, ...], seconds: list[float], batch: list[float]) -> History:
    n = len(seconds)
    return History(
        "j", np.arange(n), np.arange(n) * 1.0,
        {"step_seconds": np.array(seconds), "hp.batch_size": np.array(batch)}, offers,
    )  # fmt: skip


def test_what_was_observed_replaces_the_prior() -> None:
    there, here = cpu("a", 4), cpu("b", 8)
    ran = history((there.id,) * 4 + (here.id,) * 4, [2.0] * 4 + [0.5] * 4, [8.0] * 8)
    (factor,), _ = learn(ran, here).factors(here, [there])
    assert factor == pytest.approx(4.0)


def test_observations_at_other_hyperparameters_are_not_compared() -> None:
    there, here = cpu("a", 4), cpu("b", 8)
    ran = history((there.id,) * 4 + (here.id,) * 4, [2.0] * 4 + [0.5] * 4, [8.0] * 4 + [16.0] * 4)
    assert learn(ran, here).observed == {}


def on_gpus(runs: list[tuple[Offer, float, float]], rows: int = 4) -> History:
    """Runs of (offer, batch, seconds), each of a few rows."""
    every = [run for run in runs for _ in range(rows)]
    return history(tuple(o.id for o, _, _ in every), [s for _, _, s in every], [b for _, b, _ in every])


def test_a_move_teaches_the_speed_of_other_counts_of_that_gpu() -> None:
    small, many, more = gpu("T4"), gpu("A100-40GB", 4), gpu("A100-40GB", 8)
    prior, ignorance = Speeds().factors(small, [more])
    ran = on_gpus([(small, 8.0, 1.0), (many, 8.0, 0.9), (small, 8.0, 1.0)])  # Four of them hardly helped.
    taught, spread = learn(ran, small, [many, more]).factors(small, [many, more])
    assert taught[0] == pytest.approx(0.9)
    assert taught[1] > 1.5 * prior[0]
    assert spread[1] < ignorance[0]


def test_steps_at_other_batches_teach_how_much_of_a_step_grows_with_the_batch() -> None:
    here, two = gpu("T4"), gpu("T4", 2)
    flat = on_gpus([(here, 8.0, 1.0), (here, 16.0, 1.0), (here, 32.0, 1.0)])
    steep = on_gpus([(here, 8.0, 1.0), (here, 16.0, 2.0), (here, 32.0, 4.0)])
    (idle,), _ = learn(flat, here, [two]).factors(here, [two])
    (busy,), _ = learn(steep, here, [two]).factors(here, [two])
    assert busy < 0.8 < idle


def test_steps_at_another_length_teach_nothing_of_the_present_one() -> None:
    here = gpu("T4")
    ran = on_gpus([(here, 8.0, 1.0), (here, 8.0, 5.0)])
    columns = {**ran.columns, "hp.seq_len": np.array([128.0] * 4 + [512.0] * 4)}
    steps = learn(History("j", ran.step, ran.at_s, columns, ran.offers), here).steps
    assert steps is not None
    assert np.exp(steps.log_seconds([point(here, 8.0)])[0]) == pytest.approx([5.0], rel=0.01)


def test_hyperparameters_that_are_not_known_are_one_setting() -> None:
    here = gpu("T4")
    ran = history((here.id,) * 4, [2.0] * 4, [math.nan] * 4)
    assert learn(ran, here).steps is not None


@given(st.sampled_from(sorted(DATA_SHEETS)), st.integers(1, 8), st.integers(1, 4))
def test_a_gpu_without_a_data_sheet_promises_nothing(model: str, count: int, nodes: int) -> None:
    (there,), _ = Speeds().factors(gpu(model, count, nodes), [gpu("X1", count, nodes)])
    (back,), _ = Speeds().factors(gpu("X1", count, nodes), [gpu(model, count, nodes)])
    assert min(there, back) >= 1.0


def test_ignorance_widens() -> None:
    _, (same, known, unknown) = Speeds().factors(gpu("T4"), [gpu("T4"), gpu("V100"), gpu("X1")])
    assert same == 0.0 < known < unknown


@given(st.sampled_from(sorted(DATA_SHEETS)), st.sampled_from(sorted(DATA_SHEETS)))
def test_there_and_back_never_gains(one: str, other: str) -> None:
    (there,), _ = Speeds().factors(gpu(one), [gpu(other)])
    (back,), _ = Speeds().factors(gpu(other), [gpu(one)])
    assert there * back >= 1 - 1e-9
