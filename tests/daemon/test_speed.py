"""Speed on another offer: what was observed counts first, then how busy the cores are, then public figures."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.speed import GPU_RELATIVE_SPEED, Speeds, learn
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
    assert 0.25 < factors[2] < 0.4
    assert factors[3] < factors[2]


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


@given(st.sampled_from(sorted(GPU_RELATIVE_SPEED)), st.sampled_from(sorted(GPU_RELATIVE_SPEED)))
def test_there_and_back_is_no_change(one: str, other: str) -> None:
    (there,), _ = Speeds().factors(gpu(one), [gpu(other)])
    (back,), _ = Speeds().factors(gpu(other), [gpu(one)])
    assert there * back == pytest.approx(1.0)
