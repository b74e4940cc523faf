"""The throughput law: what it recovers, how sure it is, and that its slopes are its slopes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import throughput
from daemon.gpus import DATA_SHEETS, named
from daemon.throughput import Law, Learned, Point, learn

POINTS = st.builds(
    Point, st.sampled_from(["T4", "A100", "X1"]), st.floats(1, 64), st.integers(1, 16), st.integers(1, 4),
    st.integers(0, 3),
)  # fmt: skip


def job(batch: float, replicas: int, nodes: int = 1) -> float:
    """A job made up: 0.1 s of a step stand still, 0.02 s a sample, synchronisation within 0.03 s, between 0.2 s."""
    sync = 0.0 if replicas == 1 else (0.03 if nodes == 1 else 0.2)
    return 0.1 + 0.02 * batch + sync


def seen(*at: tuple[float, int, int]) -> Learned:
    points = [Point("T4", batch, replicas, nodes) for batch, replicas, nodes in at]
    return learn(Law(), points, [job(*one) for one in at])


def test_a_curve_is_recovered() -> None:
    found, spread = seen((4, 1, 1), (8, 1, 1), (32, 1, 1)).log_seconds([Point("T4", 16), Point("T4", 64)])
    assert np.exp(found) == pytest.approx([job(16, 1), job(64, 1)], rel=0.05)
    assert spread.max() < 0.2


def test_synchronisation_is_learned_apart_within_and_between_nodes() -> None:
    once = seen((8, 1, 1), (32, 1, 1))
    asked = [Point("T4", 16, 2, 1), Point("T4", 16, 2, 2)]
    _, before = once.log_seconds(asked)
    found, after = seen((8, 1, 1), (32, 1, 1), (8, 2, 1), (8, 2, 2)).log_seconds(asked)
    assert np.exp(found) == pytest.approx([job(16, 2, 1), job(16, 2, 2)], rel=0.1)
    assert (after < before).all()
    assert after[1] < before[1] / 2


def test_accumulation_repeats_the_gradient_but_not_the_synchronisation() -> None:
    learned = seen((8, 1, 1), (8, 2, 2))
    once, thrice = np.exp(learned.log_seconds([Point("T4", 8, 2, 2), Point("T4", 8, 2, 2, 2)])[0])
    assert thrice - once == pytest.approx(2 * np.exp(learned.log_seconds([Point("T4", 8)])[0][0]), rel=1e-6)


@given(st.lists(POINTS, min_size=1, max_size=4), POINTS)
def test_slopes_are_slopes(points: list[Point], asked: Point) -> None:
    learned = learn(Law(), points, [1.0] * len(points)).asked([asked.gpu])
    _, slope = throughput._law(learned, learned.at, [asked])
    for i in range(len(learned.at)):
        nudge = np.zeros(len(learned.at))
        nudge[i] = 1e-6
        up, _ = throughput._law(learned, learned.at + nudge, [asked])
        down, _ = throughput._law(learned, learned.at - nudge, [asked])
        assert slope[0, i] == pytest.approx((up[0] - down[0]) / 2e-6, abs=1e-5)


@given(st.lists(POINTS, min_size=1, max_size=4), POINTS)
def test_predictions_are_finite_and_certain_only_of_the_place_itself(points: list[Point], asked: Point) -> None:
    learned = learn(Law(), points, [1.0] * len(points)).asked([asked.gpu])
    found, spread = learned.ratios([asked, points[0]], points[0])
    assert np.isfinite(found).all()
    assert found[1] == pytest.approx(0.0)
    assert spread[1] == pytest.approx(0.0, abs=1e-6)


def test_nothing_observed_has_no_scale() -> None:
    with pytest.raises(ValueError, match="no step was observed"):
        learn(Law(), [], [])


@pytest.mark.parametrize(
    ("called", "sheet"),
    [("A100-40GB", "A100"), ("A100-80GB", "A100-80GB"), ("RTX PRO 6000", "RTX-PRO-6000"),
     ("T4G", "T4"), ("Tesla V100-SXM2", "V100"),
     ("H100-80GB", "H100"), ("MI300X", None), ("", None), (None, None)],
)  # fmt: skip
def test_names_of_clouds_find_their_data_sheet(called: str | None, sheet: str | None) -> None:
    assert named(called) == sheet


def test_data_sheets_are_of_one_gpu_and_dense() -> None:
    for sheet in DATA_SHEETS.values():
        assert np.isfinite(sheet.features()).all()
        assert sheet.matmul >= sheet.float32
