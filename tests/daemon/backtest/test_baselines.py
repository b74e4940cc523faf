"""The forecasts to beat: right where they must be, finite everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.backtest import baselines
from daemon.backtest.question import ask, declarations, earlier_runs, history
from daemon.backtest.shockwave import Regimes, shockwave
from tests.daemon.backtest.runs import decaying, ramped, run

STEPS = np.arange(0.0, 400, 10)


def test_a_power_law_is_continued():
    values = 0.5 + 2 * (1 + STEPS) ** -0.5
    asked = np.array([1000.0, 4000.0])
    np.testing.assert_allclose(baselines.power_law(STEPS, values, asked), 0.5 + 2 * (1 + asked) ** -0.5, rtol=1e-6)


def test_a_line_is_continued():
    found = baselines.linear_trend(STEPS, 3 + 0.1 * STEPS, np.array([500.0]))
    np.testing.assert_allclose(found, [53.0])


def test_a_period_is_repeated():
    values = np.where(np.arange(60) % 6 < 2, 9.0, 1.0)
    found = baselines.periodic_naive(np.arange(60.0), values, np.arange(60.0, 72.0))
    np.testing.assert_allclose(found, np.where(np.arange(60, 72) % 6 < 2, 9.0, 1.0))


def test_the_mean_weighs_rows_by_their_steps():
    found = baselines.mean_so_far(np.array([0.0, 10.0, 11.0]), np.array([1.0, 1.0, 5.0]), np.array([20.0]))
    np.testing.assert_allclose(found, [(10 + 10 + 5) / 21])


def test_persistence_of_a_steady_pace_gives_the_total_time():
    question = ask(run(np.ones(50), elapsed=np.arange(50) * 20.0), "elapsed_s", 0.4, None)
    assert question is not None
    for name, point in baselines.SIMPLE.items():
        made = baselines.answer(point, question)
        assert made is not None, name
        np.testing.assert_allclose(made.mean, [980.0], rtol=1e-6, err_msg=name)


def test_nearest_neighbours_are_earlier_jobs_only():
    runs = [decaying(seed) for seed in range(10)]
    before = earlier_runs(runs)
    assert before[0] == ()
    assert [one.job for one in before[3]] == ["job-2", "job-1", "job-0"]
    question = ask(runs[9], "metric.loss", 0.5, None, before[9])
    assert question is not None
    made = baselines.nearest(question, question.earlier)
    assert made is not None
    assert abs(made.mean[0] - question.actual[0]) < 0.1
    assert baselines.nearest(question, (runs[9],)) is None


def test_an_earlier_start_comes_first_whatever_the_order_of_the_file():
    late, early = decaying(5), decaying(2)
    assert earlier_runs([late, early])[0] == (early,)
    assert earlier_runs([late, early])[1] == ()


def test_shockwave_told_knows_a_ramp_of_even_regimes():
    question = ask(ramped(), "elapsed_s", 0.5, None)
    assert question is not None
    told, blind = shockwave(question, told=True), shockwave(question, told=False)
    assert told is not None
    assert blind is not None
    actual = question.actual[0]
    assert abs(told.mean[0] / actual - 1) < 0.05
    assert abs(blind.mean[0] / actual - 1) > 0.15


def test_shockwave_has_no_word_on_runs_without_regimes():
    question = ask(decaying(1), "elapsed_s", 0.5, None)
    assert question is not None
    assert shockwave(question, told=True) is None


def test_what_is_declared_is_the_true_future_and_nothing_else():
    one = ramped()
    told = declarations(one, 30, ("hp.batch_size",))
    assert [(d.from_step, dict(d.hyperparameters)) for d in told] == [
        (291, {"batch_size": 128.0}),
        (400, {"batch_size": 256.0}),
    ]
    question = ask(one, "elapsed_s", 0.5, None)
    assert question is not None
    seen = history(question)
    assert seen.declared == ()
    assert len(seen) == question.size
    assert all(len(values) == question.size for values in seen.columns.values())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.floats(-1e12, 1e12), st.just(float("nan")), st.just(3.0)), min_size=2, max_size=30),
    st.floats(0.05, 0.95),
    st.sampled_from(["final", "seconds"]),
)
def test_any_run_gets_finite_ordered_answers(values: list[float], seen: float, horizon: str):
    question = ask(run(values), "metric.loss", seen, None if horizon == "final" else 60.0)
    if question is None:
        return
    for name, point in baselines.SIMPLE.items():
        made = baselines.answer(point, question)
        assert made is not None, name
        assert np.isfinite(made.mean).all(), name
        assert np.isfinite(made.quantiles).all(), name
        assert (np.diff(made.quantiles, axis=1) >= 0).all(), name


@pytest.mark.parametrize("seen", [0.2, 0.5, 0.9])
def test_every_later_point_up_to_the_horizon_is_asked(seen: float):
    question = ask(run(np.arange(100.0)), "metric.loss", seen, 50.0)
    assert question is not None
    assert (question.steps - question.now).tolist() == [10, 20, 30, 40, 50]
    assert question.actual.tolist() == (question.steps / 10).tolist()


def test_shockwave_in_our_place_comes_back_to_what_was_seen_and_follows_what_is_declared():
    whole = ramped()
    question = ask(whole, "elapsed_s", 0.5, None)
    assert question is not None
    ahead = np.arange(310, 591, 20)
    told, blind = (history(question, names) for names in (("hp.batch_size",), ()))
    declared, seen = Regimes().sample([told, blind], [ahead, ahead], 16)
    assert (declared.paths["hp.batch_size"][:, -1] == 256.0).all()
    assert set(np.unique(seen.paths["hp.batch_size"])) == {64.0, 128.0}
    assert (seen.paths["hp.batch_size"][:, 0] == 128.0).mean() > 0.5
    again = Regimes().sample([blind], [ahead], 16)[0]
    np.testing.assert_array_equal(seen.paths["hp.batch_size"], again.paths["hp.batch_size"])
