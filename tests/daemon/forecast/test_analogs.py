"""Weights on a series' own past: what repeats weighs most, shares sum to 1, and quantiles are those of the pool."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.forecast import analogs
from daemon.forecast.analogs import SOURCES
from daemon.forecast.spread import LEVELS

BINS = 96


def gates(weights: list[float], near: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.array(weights) / sum(weights), (*near.shape, SOURCES))


def series(size: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    bins = np.zeros((1, BINS))
    bins[0, BINS - size :] = np.round(random.standard_normal(size), 1)
    return bins


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, BINS), seed=st.integers(0, 99), period=st.integers(1, 64),
    far=st.lists(st.integers(1, 10**6), min_size=1, max_size=6),
    weights=st.lists(st.floats(0.0, 1.0), min_size=SOURCES, max_size=SOURCES).filter(lambda w: sum(w) > 0.01),
)  # fmt: skip
def test_the_pool_is_made_of_known_values_alone(
    size: int, seed: int, period: int, far: list[int], weights: list[float]
):
    bins, sizes = series(size, seed), np.array([size])
    seen = analogs.past(bins, sizes)
    near = analogs.wrapped(np.array([far]), np.array([period]), sizes)
    assert (near >= 1).all()
    shares = analogs.pooled(seen, near, gates(weights, near))
    assert shares.sum(axis=2) == pytest.approx(1.0, abs=1e-4)
    assert (shares[..., size:] == 0).all()
    found = analogs.quantiles(seen.values, shares)
    known = bins[0, BINS - size :]
    assert (np.diff(found, axis=2) >= -1e-6).all()
    assert found.min() >= known.min() - 1e-6
    assert found.max() <= known.max() + 1e-6


def test_equal_weights_give_the_quantiles_of_the_values():
    bins = series(BINS, 3)
    seen = analogs.past(bins, np.array([BINS]))
    near = np.array([[1, 7]])
    found = analogs.quantiles(seen.values, analogs.pooled(seen, near, gates([0, 0, 0, 0, 0, 1, 0, 0], near)))
    wanted = np.quantile(bins[0], LEVELS, method="hazen")
    assert found[0, 0] == pytest.approx(wanted, abs=1e-5)
    assert found[0, 1] == pytest.approx(wanted, abs=1e-5)


def test_the_lag_that_repeats_weighs_most():
    place = np.arange(BINS)
    bins = np.where(place % 12 < 9, 1.0, -1.0)[None] + 0.01 * np.sin(place**2)[None]
    lags, least = analogs.likeness(bins, np.array([BINS]))
    assert set(np.argsort(lags[0, 1])[-4:].tolist()) <= {12, 24, 36, 48, 60, 72}
    assert least[0, 1] < 0.001


def test_a_period_that_is_no_whole_number_of_bins_keeps_its_phase():
    place = np.arange(BINS + 30)
    whole = np.where((place / 7.4) % 1 < 0.3, -1.0, 1.0)
    seen = analogs.past(whole[None, :BINS], np.array([BINS]))
    near = analogs.wrapped(np.arange(1, 31)[None], np.array([7]), np.array([BINS]))
    shares = analogs.pooled(seen, near, gates([1, 1, 1, 0, 0, 0, 0, 0], near))
    median = analogs.quantiles(seen.values, shares)[0, :, LEVELS.index(0.5)]
    naive = whole[BINS - 7 + np.arange(30) % 7]
    assert np.abs(median - whole[BINS:]).mean() < 0.5 * np.abs(naive - whole[BINS:]).mean()


@pytest.mark.parametrize(("far", "near"), [(1, 1), (48, 48), (49, 39), (58, 48), (1048, 48)])
def test_beyond_what_was_seen_whole_periods_are_taken_off(far: int, near: int):
    assert analogs.wrapped(np.array([[far]]), np.array([10]), np.array([BINS]))[0, 0] == near


def test_a_series_is_weighed_alike_whatever_stands_beside_it():
    alone, size = series(BINS, 5), np.array([BINS])
    beside = np.concatenate([alone, series(20, 6)])
    lags, least = analogs.likeness(alone, size)
    both, least_of_both = analogs.likeness(beside, np.array([BINS, 20]))
    assert both[0] == pytest.approx(lags[0], rel=1e-4)
    assert least_of_both[0] == pytest.approx(least[0], rel=1e-4)
