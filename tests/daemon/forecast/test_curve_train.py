from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from daemon.forecast import curve_lessons, curve_train, prior, shapes
from daemon.forecast.curve import Curves
from daemon.forecast.curve_lessons import CurveLessons, scale_of
from daemon.forecast.curve_train import Pool
from daemon.forecast.prior import Random, Series
from daemon.forecast.schedule import Schedules
from daemon.forecast.weights_file import Weights
from daemon.types import Floats
from tests.daemon.forecast.histories import ahead, history


def recorded(groups: int = 4, runs: int = 3) -> list[Series]:
    random = np.random.default_rng(1)
    step = np.arange(1.0, 41)
    return [
        Series(f"file/g{group}", step, (1 + group) * step**-0.5 + 0.01 * random.random(40), 40.0, "metric.val", step)
        for group in range(groups)
        for _ in range(runs)
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(curve_train, "LESSONS", 200)
    monkeypatch.setattr(curve_train, "MADE_UP", 120)


def test_the_same_seed_teaches_the_same(small: None):
    first, second, other = (curve_train.teach(recorded(), 2, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_each_member_is_taught_without_a_part_of_the_groups(small: None, monkeypatch: pytest.MonkeyPatch):
    taught: list[set[str]] = []

    def watch(net: nn.Module, lessons: CurveLessons, pools: Sequence[Pool], steps: int, random: Random) -> None:
        taught.append({pool.group for pool in pools})

    monkeypatch.setattr(curve_train, "_descend", watch)
    curve_train.teach(recorded(), 4, 0)
    everything = {f"file/g{place}" for place in range(4)}
    assert [everything - one for one in taught] == [{"file/g0", "file/g3"}, {"file/g1"}, {"file/g2"}]
    curve_train.teach(recorded(groups=2), 4, 0)
    assert all({"file/g0", "file/g1", "prior/power"} < one for one in taught[3:])
    families = {f"prior/{family}" for family in shapes.FAMILIES}
    left_out = [families - one for one in taught[3:]]
    assert set.union(*left_out) == families
    assert sum(len(one) for one in left_out) == len(families)


def test_made_up_curves_are_taught_with_doubt_and_others_without(small: None, monkeypatch: pytest.MonkeyPatch):
    doubts: set[float] = set()
    loss = curve_train._loss

    def watch(net: nn.Module, lessons: CurveLessons, weight: Floats, doubt: Floats) -> torch.Tensor:
        doubts.update(doubt.tolist())
        return loss(net, lessons, weight, doubt)

    monkeypatch.setattr(curve_train, "_loss", watch)
    curve_train.teach(recorded(), 2, 0)
    assert doubts == {1.0, curve_train.DOUBT}


def test_what_is_taught_answers(small: None):
    curves = Curves(Weights(curve_train.tensors(curve_train.teach(recorded(), 4, 0))))
    step = np.arange(1, 41)
    one = history({"metric.loss": 1 + step**-0.5}, step=step, total=80)
    grid = ahead(one)
    path, _ = curves.sample([one], [grid], Schedules(None).sample([one], [grid], 8))[0]["metric.loss"]
    assert np.isfinite(path).all()


def test_a_group_is_scaled_from_its_best_end_to_its_beginning():
    falling = [Series("g", np.arange(3.0), np.array([10.0, 5.0, end]), 3.0) for end in (1.0, 2.0, 3.0)]
    rising = [Series("g", np.arange(3.0), np.array([0.1, 0.5, end]), 3.0) for end in (0.7, 0.8, 0.9)]
    assert scale_of(falling) == pytest.approx((1.02, 8.98))
    assert scale_of(rising) == pytest.approx((0.1, 0.798))


def test_lessons_hold_what_came_in_both_scales():
    random = np.random.default_rng(3)
    series = [prior.curve(random) for _ in range(64)]
    told = curve_lessons.curve_lessons(
        series, random, [(float(one.values.min()), float(np.ptp(one.values))) for one in series]
    )
    assert len(told) == 64
    for part in (told.sequence, told.static, told.query, told.centre, told.unit, told.target, told.came):
        assert np.isfinite(part).all()
    assert (np.abs(told.target) <= 20).all()
    assert ((told.came >= -1) & (told.came <= 2)).all()
    assert (told.unit > 0).all()
