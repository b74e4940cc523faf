"""Made-up curves: every family gives finite rows in order, and moves in the way it is named for."""

import numpy as np
import pytest

from daemon.forecast import prior, shapes


@pytest.mark.parametrize("family", shapes.FAMILIES)
def test_every_curve_is_finite_and_its_steps_rise_to_the_total(family: str):
    random = np.random.default_rng(0)
    for _ in range(100):
        one = prior.shape(random, family)
        assert one.group == f"prior/{family}"
        assert len(one.steps) == len(one.values) >= shapes.FEWEST
        assert np.isfinite(one.values).all()
        assert (np.diff(one.steps) > 0).all()
        assert 0 <= one.steps[0] < one.steps[-1] <= one.total
        assert np.ptp(one.values) > 0


def test_the_same_seed_makes_the_same_curves():
    first, second = (prior.shape(np.random.default_rng(4), "turns") for _ in range(2))
    assert (first.values == second.values).all()


@pytest.mark.parametrize(("family", "least"), [("overfitting", 0.3), ("late", 0.2), ("bumps", 0.2), ("turns", 0.2)])
def test_what_comes_late_is_not_told_by_the_first_half(family: str, least: float):
    random = np.random.default_rng(1)
    share = np.linspace(0.01, 1, 100)
    turned = 0
    for _ in range(200):
        values = shapes.FAMILIES[family](random, share)
        turned += (values[49] - values[24]) * (values[99] - values[49]) < 0 or abs(values[99] - values[49]) > 2 * abs(
            values[49] - values[24]
        )
    assert turned / 200 > least


def test_spikes_are_rare_and_high():
    random = np.random.default_rng(2)
    share = np.linspace(0.005, 1, 200)
    ratios = [float(np.max(v) / np.median(v)) for v in (shapes.FAMILIES["spikes"](random, share) for _ in range(100))]
    assert np.median(ratios) > 5
