import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.forecast.schedule import Schedules, ScheduleSamples
from daemon.forecast.weights_file import Weights, WeightsError, load
from daemon.types import Declared, History
from tests.daemon.forecast.histories import ahead, history, ramp, strange

M = 64
HEADS = [Schedules(load()), Schedules(None)]
each_head = pytest.mark.parametrize("head", HEADS, ids=["recurrent", "closed form"])


def foretell(head: Schedules, one: History, points: int = 200) -> tuple[ScheduleSamples, np.ndarray]:
    steps = ahead(one, points)
    return head.sample([one], [steps], M)[0], steps


def changes(sample: ScheduleSamples, steps: np.ndarray, present: float, name: str = "hp.batch_size") -> np.ndarray:
    """Give the first future step at which each trajectory leaves the present, infinite for never."""
    away = sample.paths[name] != present
    return np.where(away.any(axis=1), steps[np.argmax(away, axis=1)], np.inf)


@each_head
@settings(max_examples=40, deadline=None)
@given(histories=st.lists(strange(), min_size=1, max_size=5))
def test_any_history_gives_finite_paths_and_a_distribution(head: Schedules, histories: list[History]):
    grids = [np.arange(1, 8, dtype=np.int64) * 50 + (int(one.step[-1]) if len(one) else 0) for one in histories]
    samples = head.sample(histories, grids, 16)
    assert len(samples) == len(histories)
    for one, sample in zip(histories, samples, strict=True):
        assert sample.probability.sum() == pytest.approx(1.0)
        known = {n for n, v in one.columns.items() if n.startswith("hp.") and np.isfinite(v[-256:]).any()}
        assert known <= set(sample.paths)
        for path in sample.paths.values():
            assert path.shape == (16, 7)
            assert np.isfinite(path).all()


@each_head
def test_declared_changes_are_followed_exactly_by_all_trajectories(head: Schedules):
    one = history(
        {"hp.batch_size": [16.0] * 20, "hp.seq_len": [128.0] * 20},
        total=1000,
        declared=(Declared(400, {"batch_size": 32}), Declared(700, {"batch_size": 64, "seq_len": 256})),
    )
    steps = np.array([200, 399, 400, 401, 699, 700, 900], dtype=np.int64)
    sample = head.sample([one], [steps], M)[0]
    assert (sample.paths["hp.batch_size"] == [16, 16, 32, 32, 32, 64, 64]).all()
    assert (sample.paths["hp.seq_len"] == [128, 128, 128, 128, 128, 256, 256]).all()
    assert sample.declared == ("hp.batch_size", "hp.seq_len")
    assert sample.unknown == ()


@each_head
def test_a_declared_column_that_was_never_reported_has_a_path(head: Schedules):
    one = history({"hp.lr": [0.1] * 20}, declared=(Declared(400, {"window": 8}),))
    sample = head.sample([one], [np.array([300, 500], dtype=np.int64)], M)[0]
    assert (sample.paths["hp.window"] == 8).all()


@each_head
@pytest.mark.parametrize("dwell", [60, 200, 1500])
@pytest.mark.parametrize("stages", [6, 8])
def test_a_regular_ramp_is_foreseen_after_two_changes(head: Schedules, dwell: int, stages: int):
    one = ramp([16, 32, 64], dwell, dwell // 4, stages * dwell, every=max(dwell // 40, 1))
    sample, steps = foretell(head, one, 400)
    first = changes(sample, steps, 64)
    due = 3 * dwell
    right = (np.abs(first - due) <= 0.15 * dwell) & (sample.paths["hp.batch_size"].max(axis=1) >= 128)
    assert sample.probability[right].sum() > 0.8
    assert sample.unknown == ()


@each_head
def test_after_one_change_another_is_visible_but_not_sure(head: Schedules):
    one = ramp([16, 32], 200, 50, 1200)
    sample, steps = foretell(head, one)
    again = sample.probability[np.isfinite(changes(sample, steps, 32))].sum()
    assert 0.1 <= again <= 0.45
    assert sample.unknown == ("hp.batch_size",)


@each_head
def test_a_constant_mostly_stays_but_is_said_to_be_unknown(head: Schedules):
    one = history({"hp.batch_size": [32.0] * 50, "hp.layers": [12.0] * 50}, total=5000)
    sample, steps = foretell(head, one)
    first = changes(sample, steps, 32)
    moves = sample.probability[np.isfinite(first)].sum()
    assert 0.05 <= moves <= 0.4
    assert np.ptp(first[np.isfinite(first)]) > 1000
    assert sample.unknown == ("hp.batch_size",)
    assert (sample.paths["hp.layers"] == 12).all()


@each_head
def test_the_longer_a_regime_has_lasted_the_less_is_expected(head: Schedules):
    def moves(rows: int) -> float:
        sample, steps = foretell(head, history({"hp.batch_size": [32.0] * rows}, total=10_000))
        return float(sample.probability[np.isfinite(changes(sample, steps, 32))].sum())

    assert moves(900) < moves(100)


@each_head
def test_an_earlier_run_that_began_alike_is_replayed(head: Schedules):
    step = np.arange(0, 1001, 10)
    jump = history({"hp.batch_size": np.where(step < 700, 16.0, 256.0)}, step=step, total=1000, job="before")
    other = history({"hp.batch_size": np.where(step < 50, 512.0, 1024.0)}, step=step, total=1000, job="other")
    now = {"hp.batch_size": [16.0] * 40}
    alone, steps = foretell(head, history(now, total=1000), 100)
    taught, _ = foretell(head, history(now, total=1000, earlier=(jump, other)), 100)

    def foreseen(sample: ScheduleSamples) -> float:
        due = np.abs(changes(sample, steps, 16) - 700) <= 10
        return float(sample.probability[due & (sample.paths["hp.batch_size"][:, -1] == 256)].sum())

    assert foreseen(alone) < 0.1
    assert foreseen(taught) > 0.6
    assert alone.unknown == ("hp.batch_size",)
    assert taught.unknown == ()


@each_head
def test_an_earlier_run_of_another_length_is_laid_over_by_share(head: Schedules):
    step = np.arange(0, 2001, 10)
    jump = history({"hp.batch_size": np.where(step < 1400, 16.0, 256.0)}, step=step, total=2000, job="before")
    taught, steps = foretell(head, history({"hp.batch_size": [16.0] * 40}, total=1000, earlier=(jump,)), 100)
    due = np.abs(changes(taught, steps, 16) - 700) <= 10
    assert taught.probability[due].sum() > 0.6


@each_head
def test_no_path_leaves_all_reason(head: Schedules):
    one = ramp([2.0**k for k in range(3, 9)], 40, 5, 4000)
    columns = {"hp.batch_size": one.columns["hp.batch_size"], "hp.resolution": one.columns["hp.batch_size"]}
    sample, _ = foretell(head, history(columns, step=one.step, total=4000))
    assert sample.paths["hp.batch_size"].max() <= 16 * 256
    assert sample.paths["hp.resolution"].max() <= 4 * 256


@each_head
def test_one_odd_row_is_no_regime(head: Schedules):
    batch = np.full(60, 32.0)
    batch[[19, 39]] = 7.0
    steady, steps = foretell(head, history({"hp.batch_size": np.full(60, 32.0)}, total=5000))
    odd, _ = foretell(head, history({"hp.batch_size": batch}, total=5000))
    assert (odd.paths["hp.batch_size"] == steady.paths["hp.batch_size"]).all()
    assert len(steps) == odd.paths["hp.batch_size"].shape[1]


@each_head
def test_columns_that_changed_together_change_together(head: Schedules):
    one = ramp([16, 32, 64], 200, 50, 1200)
    columns = {"hp.batch_size": one.columns["hp.batch_size"], "hp.seq_len": one.columns["hp.batch_size"] * 8}
    sample, steps = foretell(head, history(columns, step=one.step, total=1200))
    batch, length = changes(sample, steps, 64), changes(sample, steps, 512, "hp.seq_len")
    both = np.isfinite(batch) & np.isfinite(length)
    assert both.mean() > 0.8
    assert np.median(np.abs(batch[both] - length[both])) <= 20


@each_head
def test_the_same_input_gives_the_same_samples_alone_or_in_a_batch(head: Schedules):
    one, two = ramp([16, 32], 200, 50, 1200, job="one"), ramp([8, 16, 32], 100, 10, 900, job="two")
    grids = [ahead(one, 20), ahead(two, 20)]
    together = head.sample([one, two], grids, M)
    again = head.sample([one, two], grids, M)
    alone = head.sample([two], grids[1:], M)[0]
    assert (together[1].paths["hp.batch_size"] == again[1].paths["hp.batch_size"]).all()
    assert (together[1].paths["hp.batch_size"] == alone.paths["hp.batch_size"]).mean() > 0.99


@pytest.mark.parametrize("shape", ["linear", "cosine", "exponential"])
def test_a_learning_rate_goes_on_along_its_curve(shape: str):
    step = np.arange(0, 501, 5)
    steps = np.array([600, 800, 1000], dtype=np.int64)

    def rate(at: np.ndarray) -> np.ndarray:
        return {
            "linear": 1e-3 * (1 - at / 1000),
            "cosine": 5e-4 * (1 + np.cos(np.pi * at / 1000)),
            "exponential": 1e-3 * np.exp(-at / 300),
        }[shape]

    one = history({"hp.lr": rate(step)}, step=step, total=1000)
    path = Schedules(None).sample([one], [steps], 4)[0].paths["hp.lr"]
    assert path == pytest.approx(np.tile(rate(steps), (4, 1)), rel=0.02, abs=2e-6)


def test_weights_of_another_shape_are_refused():
    with pytest.raises(WeightsError, match="do not fit"):
        Schedules(Weights({"schedule.gru.bias": np.zeros(3, dtype=np.float32)}))
    with pytest.raises(WeightsError, match="no net"):
        Schedules(Weights({}))


@each_head
def test_columns_that_never_changed_do_not_move_as_one(head: Schedules):
    one = history({"hp.batch_size": [32.0] * 50, "hp.seq_len": [512.0] * 50}, total=5000)
    sample, steps = foretell(head, one)
    batch = np.isfinite(changes(sample, steps, 32))
    length = np.isfinite(changes(sample, steps, 512, "hp.seq_len"))
    assert (batch & length).sum() < 0.7 * min(batch.sum(), length.sum())
