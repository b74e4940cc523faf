"""Training the usage net: it begins as the plain weights, is bound by steps, and the same seed gives the same net."""

import numpy as np
import torch

from daemon.forecast import analogs, prior, usage, usage_train
from daemon.forecast.prior import Series
from daemon.forecast.usage_lessons import usage_lessons


def made(count: int) -> list[Series]:
    random = np.random.default_rng(1)
    return [prior.usage(random) for _ in range(count)]


def test_an_untrained_net_weighs_nearly_as_without_one():
    net = usage_train.fresh(0)
    told = usage_lessons(made(20), np.random.default_rng(2))
    inputs = (torch.from_numpy(part.astype(np.float32)) for part in (told.sequence, told.static, told.query))
    gate, offsets = net(*inputs)
    plain = np.array(usage.PLAIN) / sum(usage.PLAIN)
    assert np.abs(gate.detach().numpy() - plain).max() < 0.1
    assert offsets.detach().abs().max() < 0.6


def test_lessons_hold_what_each_source_says():
    told = usage_lessons(made(10), np.random.default_rng(3))
    assert told.shares.shape == (10, 8, analogs.SOURCES, usage.BINS)
    assert np.allclose(told.shares.sum(axis=3), 1.0, atol=1e-4)
    assert (np.diff(told.values, axis=1) >= 0).all()


def test_the_same_seed_gives_the_same_net_and_learns():
    told = usage_lessons(made(60), np.random.default_rng(4))
    before = float(usage_train.loss(usage_train.fresh(0), told).detach())
    first, second = (usage_train.teach(usage_train.fresh(0), made(30), 12, 0) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert float(usage_train.loss(first, told).detach()) < before


def test_merged_rows_are_means():
    one = Series("g", np.arange(400.0), np.arange(400.0), float("nan"))
    merges = set()
    for seed in range(12):
        values = usage_train.varied(one, np.random.default_rng(seed)).values
        merges.add(round(float(values[1] - values[0])))
        assert np.allclose(np.diff(values), values[1] - values[0])
    assert merges == {1, 2, 3}
