"""Pictures of a backtest: one panel a run, groups in turn, the bands where the forecasts are, and calibration last."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from api import backtest_plot, plot
from daemon.backtest.run import OURS, Asked, Result, backtest
from daemon.forecast.persist import Persist
from tests.daemon.backtest.runs import run


def result(horizon_s: float | None) -> Result:
    runs = [
        run(2.0 / np.arange(1, 41) + number, job=f"{group}{number}", group=group)
        for group in ("a", "b", "c")
        for number in range(4)
    ]
    return backtest(runs, Asked("metric.loss", (0.25, 0.5), horizon_s), Persist())


def test_groups_take_turns():
    names = [asked[0][0].run.job for asked in backtest_plot.chosen(result(None))]
    assert names == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2"]
    assert all(len(asked) == 2 for asked in backtest_plot.chosen(result(None)))


@pytest.mark.parametrize("horizon_s", [None, 50.0])
def test_the_picture_shows_bands_where_the_forecasts_are(
    tmp_path: Path, horizon_s: float | None, monkeypatch: pytest.MonkeyPatch
):
    shown = []
    whole = plot.panels

    @contextmanager
    def watched(path: Path, rows: int, columns: int, title: str):
        with whole(path, rows, columns, title) as axes:
            shown.extend(axes)
            yield axes

    monkeypatch.setattr(plot, "panels", watched)
    found = result(horizon_s)
    backtest_plot.draw(found, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    _, answer = backtest_plot.chosen(found)[0][0]
    drawn = [line.get_ydata() for line in shown[0].lines]
    middle = answer.quantiles[:, 3]
    assert any(np.array_equal(line[-len(middle) :], middle) for line in drawn)
    assert len(shown[0].collections) == (0 if horizon_s is None else 2)
    claimed = [line for line in shown[8].lines if line.get_label() == "25% seen"]
    own = np.concatenate(
        [a.quantiles for q, a in zip(found.questions, found.answers[OURS], strict=True) if q.seen == 0.25]
    )
    came = np.concatenate([q.actual for q in found.questions if q.seen == 0.25])
    assert claimed[0].get_ydata() == pytest.approx((came[:, None] <= own).mean(axis=0))
