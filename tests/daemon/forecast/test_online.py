"""What is learned of a job as it runs."""

import json
from dataclasses import replace

import numpy as np

from daemon.forecast.online import MOST_KEPT, Learned, Memo, from_dict, laws, learn, to_dict
from daemon.types import History
from tests.daemon.forecast.jobs import gib, job


def window(history: History, first: int, last: int) -> History:
    return replace(
        history, step=history.step[first:last], at_s=history.at_s[first:last],
        columns={name: values[first:last] for name, values in history.columns.items()},
    )  # fmt: skip


def test_a_stretch_that_left_the_window_is_remembered() -> None:
    whole = job([16, 64], [128, 128], rows=40)
    learned = learn([window(whole, 0, 40)], [Learned()])
    late = window(whole, 50, 80)
    forgetful, remembering = laws([late], [Learned()]), laws([late], learned)
    assert forgetful.cost.covariance[0].trace() > 5 * remembering.cost.covariance[0].trace()


def test_misses_widen_and_hits_narrow() -> None:
    quiet = job([16], [128], rows=120, noise=0.02)
    took = quiet.columns["step_seconds"].copy()
    took[40:] *= np.where(np.arange(80) % 2, 2.0, 0.5)
    loud = replace(quiet, columns={**quiet.columns, "step_seconds": took})
    factors = []
    for history in (quiet, loud):
        learned = [Learned()]
        for end in range(40, 110, 4):
            learned = learn([window(history, 0, end)], learned)
        factors.append(learned[0].factors["step_seconds"])
    assert factors[0] < 1.3 < factors[1]


def test_memory_beyond_the_forecast_widens_memory() -> None:
    history = job([16], [128], rows=60)
    grown = history.columns["usage.memory_gib"].copy()
    grown[50:] += 2.0
    history = replace(history, columns={**history.columns, "usage.memory_gib": grown})
    learned = learn([history], learn([window(history, 0, 50)], [Learned()]))
    assert learned[0].factors["usage.memory_gib"] > 1.5


def test_what_is_kept_is_bounded_and_comes_back() -> None:
    learned = learn([job([float(8 + k) for k in range(60)], [128.0] * 60, rows=3)], [Learned()])[0]
    assert len(learned.kept) == MOST_KEPT
    back = from_dict(json.loads(json.dumps(to_dict(learned))))
    assert back.step == learned.step
    assert [each.offer for each in back.kept] == [each.offer for each in learned.kept]
    np.testing.assert_array_equal([k.figures for k in back.kept], [k.figures for k in learned.kept])


def test_a_run_that_went_back_is_learned_anew() -> None:
    memo = Memo()
    memo.learn([job([16], [128], rows=40)])
    assert memo.of(job([16], [128], rows=40)).kept
    assert memo.of(job([16], [128], rows=10)) == Learned()


def test_empty_and_seen_rows_teach_nothing() -> None:
    history = job([16], [128], rows=40)
    once = learn([history], [Learned()])
    again = learn([history], once)
    assert again[0].factors == once[0].factors
    assert learn([window(history, 0, 0)], [Learned()]) == [Learned()]


def test_the_working_set_is_remembered_for_as_long_as_it_was_held() -> None:
    whole = job([64, 16], [128, 128], rows=40)
    learned = learn([window(whole, 0, 40)], [Learned()])
    law = laws([window(whole, 60, 80)], learned)
    peak = np.nanmax(law.memory["usage.memory_gib"].peak_gib)
    assert peak >= 0.99 * gib(np.array(64.0), np.array(128.0))
