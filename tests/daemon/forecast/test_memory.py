"""Memory, given hyperparameters."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.forecast.drivers import points
from daemon.forecast.memory import TAIL
from daemon.forecast.online import Learned, laws
from daemon.types import Floats, History
from tests.daemon.forecast.jobs import gib, grid_of, job

NAME = "usage.memory_gib"


def predict(history: History, paths: dict[str, Floats]) -> tuple[Floats, Floats]:
    """Give (path, 0.99 quantile) along one trajectory."""
    law = laws([history], [Learned()])
    shape = (1, *next(iter(paths.values())).shape)
    mean, deviation = law.memory[NAME].along(points(law.driver, [paths], [int(np.prod(shape))]), shape)
    return mean[0, 0], mean[0, 0] + TAIL * deviation[0, 0]


def test_two_stretches_tell_the_third() -> None:
    mean, upper = predict(job([16, 32], [128, 128]), grid_of([64, 128], [128, 128]))
    actual = gib(np.array([64.0, 128.0]), np.array([128.0, 128.0]))
    assert mean == pytest.approx(actual, rel=0.05)
    assert (upper >= actual).all()
    assert (upper <= 1.25 * actual).all()


def test_one_stretch_covers_what_may_come() -> None:
    mean, upper = predict(job([16], [512]), grid_of([16, 32], [512, 512]))
    actual = gib(np.array([16.0, 32.0]), np.array([512.0, 512.0]))
    assert mean[0] == pytest.approx(actual[0], rel=0.02)
    assert (upper >= actual).all()
    assert upper[1] <= 2.6 * mean[0]


def test_memory_does_not_fall_when_the_batch_does() -> None:
    mean, _ = predict(job([16, 64], [128, 128]), grid_of([8, 128, 8], [128] * 3))
    assert mean[0] >= gib(np.array(64.0), np.array(128.0))
    assert mean[2] == mean[1]


def test_a_stretch_in_the_shadow_of_a_bigger_one_says_nothing() -> None:
    plain, _ = predict(job([16, 64], [128, 128]), grid_of([128], [128]))
    after, _ = predict(job([16, 64, 8], [128] * 3), grid_of([128], [128]))
    assert after == pytest.approx(plain, rel=0.03)


def test_what_was_needed_once_is_never_undercut() -> None:
    history = job([16, 32], [128, 128])
    used = history.columns[NAME].copy()
    used[10] = 9.0
    mean, _ = predict(replace(history, columns={**history.columns, NAME: used}), grid_of([16, 64], [128, 128]))
    assert (mean >= 9.0).all()


def test_a_preallocating_framework_stays_flat() -> None:
    history = job([16, 32, 64], [128] * 3)
    flat = {**history.columns, NAME: np.full(len(history), 30.0)}
    mean, upper = predict(replace(history, columns=flat), grid_of([128], [128]))
    assert mean == pytest.approx([30.0], rel=0.05)
    assert upper[0] < 40.0


def test_host_memory_beside_a_gpu_hardly_follows_the_batch() -> None:
    history = job([16], [512])
    beside = replace(history, columns={**history.columns, "usage.gpu_memory_gib": history.columns[NAME]})
    alone, _ = predict(history, grid_of([64], [512]))
    host, _ = predict(beside, grid_of([64], [512]))
    assert host[0] < 0.75 * alone[0]


def test_accumulation_holds_no_memory() -> None:
    history = job([16, 32], [128, 128])
    history = replace(history, columns={**history.columns, "hp.accumulation": np.full(len(history), 2.0)})
    less, _ = predict(history, {**grid_of([64], [128]), "hp.accumulation": np.array([[2.0]])})
    more, _ = predict(history, {**grid_of([64], [128]), "hp.accumulation": np.array([[16.0]])})
    assert more == pytest.approx(less)


def test_the_upper_edge_covers_and_does_not_waste() -> None:
    """Over random laws, 0.99 quantiles at an unseen size from two or more seen ones."""
    rng = np.random.default_rng(5)
    covered, over = [], []
    for trial in range(150):
        base, slope, square = rng.uniform(0.5, 6), 10 ** rng.uniform(-4.5, -3), rng.choice([0.0, 2e-7])
        count = int(rng.integers(2, 5))
        batch = [float(8 * 2**k) for k in range(count)]
        history = job(batch, [256.0] * count, seed=trial)
        b = history.columns["hp.batch_size"]
        true = (base + slope * b * 256 + square * b * 256**2) * (1 + 0.01 * rng.random(len(b)))
        history = replace(history, columns={**history.columns, NAME: np.maximum.accumulate(true)})
        asked = batch[-1] * rng.choice([1.5, 2.0])
        _, upper = predict(history, grid_of([asked], [256.0]))
        actual = base + slope * asked * 256 + square * asked * 256**2
        covered.append(upper[0] >= actual)
        over.append(upper[0] / actual - 1)
    assert np.mean(covered) >= 0.985
    assert np.mean(over) <= 0.10


@given(
    batch=st.lists(st.sampled_from([1.0, 4.0, 16.0, 64.0]), min_size=1, max_size=4),
    length=st.lists(st.sampled_from([16.0, 128.0, 1024.0]), min_size=4, max_size=4),
    small=st.tuples(st.floats(1, 500), st.floats(1, 4000)),
    growth=st.tuples(st.floats(1, 20), st.floats(1, 20)),
    seed=st.integers(0, 5),
)
def test_memory_is_monotone_in_batch_and_length(
    batch: list[float], length: list[float], small: tuple[float, float], growth: tuple[float, float], seed: int
) -> None:
    history = job(batch, length[: len(batch)], rows=5, noise=0.3, seed=seed)
    law = laws([history], [Learned()])
    paths = grid_of([small[0], small[0] * growth[0]], [small[1], small[1] * growth[1]])
    at = points(law.driver, [paths], [2])
    mean, upper = (at.spread(each) for each in law.memory[NAME].predict(at))
    assert mean[1] >= mean[0] * (1 - 1e-9)
    assert upper[1] >= upper[0] * (1 - 1e-9)
    assert np.isfinite(upper).all()
