"""The time of a step, given hyperparameters."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.forecast.drivers import points, role
from daemon.forecast.online import Learned, laws
from daemon.forecast.stretches import MOST, cut, packed, step_seconds
from daemon.types import Floats, History
from tests.daemon.forecast.jobs import grid_of, job, seconds


def predict(history: History, paths: dict[str, Floats]) -> tuple[Floats, Floats]:
    law = laws([history], [Learned()])
    size = next(iter(paths.values())).size
    at = points(law.driver, [paths], [size])
    mean, deviation = (at.spread(each) for each in law.cost.predict(at))
    return mean, deviation


def test_two_stretches_tell_the_third() -> None:
    history = job([16, 32], [128, 128])
    mean, deviation = predict(history, grid_of([64, 128], [128, 128]))
    actual = seconds(np.array([64.0, 128.0]), np.array([128.0, 128.0]))
    assert mean == pytest.approx(actual, rel=0.05)
    assert (np.abs(mean - actual) < 3 * deviation).all()


def test_one_stretch_scales_with_tokens_and_widens_with_distance() -> None:
    mean, deviation = predict(job([16], [128]), grid_of([16, 32, 64, 128], [128] * 4))
    assert mean[0] == pytest.approx(seconds(np.array(16.0), np.array(128.0)), rel=0.02)
    assert 1.3 < mean[1] / mean[0] < 2.0
    assert (np.diff(deviation / mean) > 0).all()


def test_slow_steps_do_not_count() -> None:
    history = job([16, 32], [128, 128])
    took = history.columns["step_seconds"].copy()
    took[::9] *= 20
    plain, _ = predict(history, grid_of([64], [128]))
    spoilt, _ = predict(replace(history, columns={**history.columns, "step_seconds": took}), grid_of([64], [128]))
    assert spoilt == pytest.approx(plain, rel=0.03)


def test_what_was_seen_on_another_machine_is_not_lost() -> None:
    history = job([16, 32, 32], [128] * 3, offers=["slow", "slow", "fast"], speeds=[1, 1, 4])
    mean, _ = predict(history, grid_of([16, 64], [128, 128]))
    assert mean == pytest.approx(seconds(np.array([16.0, 64.0]), np.array([128.0, 128.0])) / 4, rel=0.05)


def test_an_earlier_run_tells_what_this_one_has_not_seen() -> None:
    before = job([16, 32, 64], [128, 128, 256], speeds=[2, 2, 2], name="before")
    history = job([16], [128], earlier=(before,))
    actual = seconds(np.array([64.0]), np.array([256.0]))
    alone, _ = predict(replace(history, earlier=()), grid_of([64], [256]))
    taught, _ = predict(history, grid_of([64], [256]))
    assert abs(taught - actual) < 0.3 * abs(alone - actual)
    assert taught == pytest.approx(actual, rel=0.05)


def test_attention_is_expected_to_cost_by_its_window() -> None:
    far = {
        window: predict(job([16], [window]), grid_of([16], [4 * window]))[0][0]
        / predict(job([16], [window]), grid_of([64], [window]))[0][0]
        for window in (64.0, 16384.0)
    }
    assert far[64.0] == pytest.approx(1.0, abs=0.03)
    assert far[16384.0] > 1.5


def test_a_row_that_is_half_of_the_setting_before_counts_by_its_steps() -> None:
    history = job([16, 64], [128, 128], rows=30, noise=0.0)
    old, new = history.columns["step_seconds"][[0, -1]]
    took = np.append(history.columns["step_seconds"][:30], [old, 0.4 * old + 0.6 * new, new])
    steps = np.append(history.step[:30], history.step[29] + np.array([1, 4, 14]))
    cut_short = {name: values[:33] for name, values in history.columns.items()} | {"step_seconds": took}
    mean, _ = predict(replace(history, step=steps, at_s=history.at_s[:33], columns=cut_short), grid_of([64], [128]))
    assert mean == pytest.approx(new, rel=0.05)


def test_the_newest_rows_of_a_stretch_count_most() -> None:
    history = job([16], [128], rows=240, noise=0.005)
    took = history.columns["step_seconds"].copy()
    took[-70:] *= 1.5
    mean, _ = predict(replace(history, columns={**history.columns, "step_seconds": took}), grid_of([16], [128]))
    assert mean == pytest.approx(1.5 * seconds(np.array(16.0), np.array(128.0)), rel=0.05)


def test_step_time_is_read_from_receipt_times_where_the_job_is_silent() -> None:
    history = job([16], [128], noise=0.0)
    silent = {name: values for name, values in history.columns.items() if name != "step_seconds"}
    polled = replace(history, columns=silent, at_s=np.repeat(history.at_s[::5], 5))
    found = step_seconds(polled)
    assert np.nanmedian(found) == pytest.approx(seconds(np.array(16.0), np.array(128.0)), rel=0.01)
    mean, _ = predict(replace(history, columns=silent), grid_of([16], [128]))
    assert mean == pytest.approx(seconds(np.array(16.0), np.array(128.0)), rel=0.02)


def test_no_step_time_gives_no_law() -> None:
    history = job([16], [128], rows=3)
    blank = {name: np.full(3, np.nan) if name == "step_seconds" else v for name, v in history.columns.items()}
    law = laws([replace(history, columns=blank, at_s=np.zeros(3))], [Learned()])
    assert not law.cost.known[0]


def test_a_schedule_that_moves_at_every_step_keeps_its_slope() -> None:
    batch = [float(8 + k) for k in range(200)]
    history = job(batch, [128] * 200, rows=1)
    seen = packed(cut([history], laws([history], [Learned()]).driver), 1)
    assert seen.work.shape[1] <= MOST + 1
    mean, _ = predict(history, grid_of([400], [128]))
    assert mean == pytest.approx(seconds(np.array(400.0), np.array(128.0)), rel=0.08)


def test_accumulation_is_work_and_a_learning_rate_is_not() -> None:
    ones = np.ones(4)
    assert role("hp.gradient_accumulation_steps", ones) == "accumulation"
    assert role("hp.lr", ones) is None
    assert role("hp.num_frames", np.array([8.0, 16.0])) == "proxy"
    assert role("hp.num_frames", np.array([8.0, 8.0])) == "proxy"
    assert role("hp.num_frames", np.array([8.5, 8.0])) is None
    assert role("hp.num_layers", np.array([12.0, 12.0])) is None
    history = job([16, 16], [128, 128])
    steps = np.repeat([1.0, 2.0], 30)
    took = history.columns["step_seconds"] * steps
    history = replace(history, columns={**history.columns, "hp.accumulation": steps, "step_seconds": took})
    mean, _ = predict(history, {**grid_of([16], [128]), "hp.accumulation": np.array([[4.0]])})
    assert mean == pytest.approx(4 * seconds(np.array(16.0), np.array(128.0)), rel=0.1)


def test_what_was_never_seen_to_move_costs_when_it_is_declared_to() -> None:
    history = job([16], [128])
    frames = {**history.columns, "hp.frames": np.full(len(history), 8.0)}
    doubled = {**grid_of([16], [128]), "hp.frames": np.array([[16.0]])}
    mean, deviation = predict(replace(history, columns=frames), doubled)
    assert 1.3 < mean[0] / seconds(np.array(16.0), np.array(128.0)) < 2.1
    assert deviation[0] > 0.08 * mean[0]


def test_a_full_machine_is_expected_to_have_less_that_is_fixed() -> None:
    ratio = [predict(job([b], [1024]), grid_of([b, 2 * b], [1024] * 2))[0] for b in (4.0, 64.0)]
    small, full = (mean[1] / mean[0] for mean in ratio)
    assert small < full < 2.05


@given(
    batch=st.lists(st.sampled_from([1.0, 8.0, 16.0, 64.0]), min_size=1, max_size=5),
    length=st.sampled_from([16.0, 128.0, 2048.0]),
    asked=st.lists(st.floats(1, 1e4), min_size=2, max_size=6),
    noise=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_the_answer_is_positive_and_finite(batch: list[float], length: float, asked: list[float], noise: float) -> None:
    history = job(batch, [length] * len(batch), rows=4, noise=noise)
    history.columns["step_seconds"][:] = np.abs(history.columns["step_seconds"]) + 1e-6
    mean, deviation = predict(history, grid_of(asked, [length] * len(asked)))
    assert np.isfinite(mean).all()
    assert (mean > 0).all()
    assert np.isfinite(deviation).all()
    assert (deviation > 0).all()
