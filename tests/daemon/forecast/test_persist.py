"""The present persists, and the grid that every forecast lies on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.forecast.base import Horizon
from daemon.forecast.grid import grid
from daemon.forecast.persist import Persist
from daemon.types import Declared, History
from tests.daemon.forecast.jobs import job


def test_everything_stays() -> None:
    history = job([16, 32], [128, 128])
    forecast = Persist().predict([history], Horizon())[0]
    assert forecast.method == "persist"
    assert list(forecast.probability) == [1.0]
    assert forecast.finish_step == history.total_steps == forecast.steps[-1]
    for name, path in forecast.paths.items():
        assert (path == path[0, 0]).all(), name
    assert forecast.paths["hp.batch_size"][0, 0] == 32
    assert forecast.paths["usage.memory_gib"][0, 0] == history.columns["usage.memory_gib"].max()
    assert forecast.paths["step_seconds"][0, 0] == pytest.approx(np.median(history.columns["step_seconds"][-32:]))


def test_no_rows_and_no_values_are_unknown() -> None:
    history = job([16], [128], rows=4)
    nothing = Persist().predict([History("job", np.zeros(0, np.int64), np.zeros(0), {})], Horizon())[0]
    assert nothing.unknown == ("everything",)
    assert not nothing.paths
    blank = replace(history, columns={"metric.loss": np.full(4, np.nan)}, at_s=np.zeros(4))
    forecast = Persist().predict([blank], Horizon())[0]
    assert forecast.unknown == ("step_seconds",)
    assert not forecast.paths


def test_an_old_value_persists_where_no_new_one_came() -> None:
    history = job([16], [128], rows=60)
    loss = np.full(60, np.nan)
    loss[3] = 2.5
    forecast = Persist().predict([replace(history, columns={"metric.loss": loss})], Horizon())[0]
    assert forecast.paths["metric.loss"][0, 0] == 2.5


def test_declared_changes_have_a_point_before_and_on_them() -> None:
    history = job([16], [128], declared=(Declared(3000, {"seq_len": 256.0}), Declared(7001, {"seq_len": 512.0})))
    steps, _ = grid(history, Horizon())
    assert {2999, 3000, 7000, 7001} <= set(steps.tolist())
    assert len(steps) == 32


def test_half_of_the_points_are_near() -> None:
    history = job([16], [128])
    steps, finish = grid(history, Horizon())
    left = finish - history.step[-1]
    near = (steps - history.step[-1] <= 0.1 * left).sum()
    assert 14 <= near <= 18
    assert steps[0] == history.step[-1] + 1


@given(
    points=st.integers(2, 40), ahead=st.integers(1, 5000), total=st.one_of(st.none(), st.integers(0, 10**7)),
    turns=st.lists(st.integers(-5, 10**6), max_size=60),
)  # fmt: skip
def test_the_grid_ascends_to_its_end(points: int, ahead: int, total: int | None, turns: list[int]) -> None:
    history = replace(job([16], [128], rows=5), total_steps=total, declared=tuple(Declared(t, {}) for t in turns))
    steps, finish = grid(history, Horizon(ahead, points))
    now = int(history.step[-1])
    left = total - now if total is not None and total > now else ahead
    assert len(steps) == min(points, left)
    assert (np.diff(steps) > 0).all()
    assert steps[0] > now
    assert steps[-1] == now + left
    assert finish == (total if total is not None and total > now else None)
    upcoming = sorted(t for t in set(turns) if now < t <= now + left)
    if upcoming and points >= 8 and left >= 8:
        assert upcoming[0] in steps
