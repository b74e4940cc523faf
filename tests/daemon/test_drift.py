"""Was the last forecast right?"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.drift import MOST_MARGIN, check, scored
from daemon.forecast.base import Horizon
from daemon.forecast.persist import Persist
from daemon.types import Drift, Forecast, History

NAMES = ("step_seconds", "usage.memory_gib")


def history(values: list[float], offers: tuple[str, ...] = ()) -> History:
    step = np.arange(1, len(values) + 1)
    columns = {name: np.array(values, dtype=float) for name in NAMES}
    return History("job", step, step * 10.0, columns, offers, total_steps=10_000)


def foretold(past: History, value: float, deviation: float = 0.05, method: str = "recurrent") -> Forecast:
    """A forecast that everything will be ``value``."""
    plain = Persist().predict([past], Horizon())[0]
    shape = (1, len(plain.steps))
    return replace(
        plain, method=method, paths={name: np.full(shape, value) for name in NAMES},
        deviations={name: np.full(shape, deviation * value) for name in NAMES},
    )  # fmt: skip


def turns(
    drift: Drift, count: int, forecast: float, actual: float, before: float = 1.0, deviation: float = 0.05
) -> Drift:
    """Let ``count`` forecasts be followed by two rows each."""
    past = history([before] * 10)
    now = history([before] * 10 + [actual] * 2)
    for _ in range(count):
        drift = check(drift, foretold(past, forecast, deviation), now)
    return drift


def test_a_forecast_that_sees_the_change_gains() -> None:
    drift = turns(Drift(), 10, forecast=2.0, actual=2.0)
    assert drift.pairs == 40
    assert drift.gain == pytest.approx(1.0)
    assert drift.trusted
    assert drift.coverage80 == 1.0
    assert drift.margin == 1.0
    assert drift.error == pytest.approx(0.0)
    assert drift.error_persist == pytest.approx(0.5)


def test_a_poisoned_stream_switches_off_and_recovery_switches_on() -> None:
    drift = turns(Drift(), 20, forecast=1.0, actual=1.0)
    assert drift.trusted
    poisoned = turns(drift, 12, forecast=5.0, actual=1.0)
    assert not poisoned.trusted
    assert poisoned.gain is not None
    assert poisoned.gain < 0
    assert "above that of persistence" in poisoned.reason
    assert not turns(poisoned, 3, forecast=1.0, actual=1.0).trusted
    healed = turns(poisoned, 60, forecast=1.0, actual=1.0)
    assert healed.trusted
    assert healed.reason == ""


def test_few_pairs_and_small_errors_never_switch() -> None:
    assert turns(Drift(), 5, forecast=5.0, actual=1.0).trusted
    assert turns(Drift(), 5, forecast=5.0, actual=1.0).gain is None
    assert turns(Drift(), 100, forecast=1.015, actual=1.0).trusted


def test_the_margin_widens_while_the_band_does_not_cover_and_narrows_after() -> None:
    narrow = turns(Drift(), 12, forecast=1.2, actual=1.0, before=1.3, deviation=0.01)
    assert narrow.coverage80 == 0.0
    assert 1.3 < narrow.margin <= MOST_MARGIN
    assert turns(narrow, 60, forecast=1.2, actual=1.0, before=1.3, deviation=0.01).margin == MOST_MARGIN
    back = turns(narrow, 80, forecast=1.0, actual=1.0, before=1.3)
    assert back.margin < 1.02


def test_only_memory_drives_the_margin_where_it_is_told() -> None:
    past, now = history([1.0] * 10), history([1.0] * 10 + [1.0] * 2)
    forecast = foretold(past, 1.0)
    forecast = replace(forecast, paths={**forecast.paths, "step_seconds": forecast.paths["step_seconds"] * 1.5})
    drift = Drift()
    for _ in range(10):
        drift = check(drift, forecast, now)
    assert drift.coverage80 == 1.0
    assert drift.margin == 1.0
    assert drift.error is not None
    assert drift.error > 0.1


def test_nothing_new_and_the_fallback_change_nothing() -> None:
    past = history([1.0] * 10)
    before = Drift(pairs=3, margin=1.5)
    assert check(before, foretold(past, 1.0), past) == before
    now = history([1.0] * 12)
    assert check(before, foretold(past, 9.0, method="persist"), now) == before
    empty = History("job", np.zeros(0, np.int64), np.zeros(0), {})
    assert check(before, foretold(past, 1.0), empty) == before
    nothing = Persist().predict([empty], Horizon())[0]
    assert check(before, replace(nothing, method="recurrent"), now) == before


def test_step_time_on_another_machine_is_not_held_against_the_forecast() -> None:
    past = history([1.0] * 10, ("a",) * 10)
    now = history([1.0] * 10 + [3.0] * 2, ("a",) * 10 + ("b",) * 2)
    now = replace(now, columns={**now.columns, "usage.memory_gib": np.ones(12)})
    score = scored(foretold(past, 1.0), now)
    assert score is not None
    assert score.pairs == 2
    assert score.error == 0.0


def test_a_step_is_read_at_the_next_grid_point() -> None:
    past = history([1.0] * 10)
    forecast = foretold(past, 1.0)
    forecast = replace(
        forecast, steps=np.array([12, 13, 40]), paths={"usage.memory_gib": np.array([[1.0, 2.0, 2.0]])}, deviations={}
    )
    score = scored(forecast, replace(history([1.0] * 12 + [2.0] * 5)))
    assert score is not None
    assert score.error == 0.0
    assert score.error_persist == pytest.approx(5 * 0.5 / 7)


def test_a_crowd_of_rows_from_one_forecast_counts_as_few() -> None:
    drift = check(Drift(), foretold(history([1.0] * 10), 5.0), history([1.0] * 200))
    assert drift.pairs == 16


@given(
    values=st.lists(st.one_of(st.floats(allow_nan=True), st.just(0.0)), min_size=3, max_size=30),
    cut=st.integers(1, 29), forecast=st.floats(1e-3, 1e3), before=st.builds(
        Drift, pairs=st.integers(0, 500), margin=st.floats(1, 3), coverage80=st.one_of(st.none(), st.floats(0, 1)),
        error=st.one_of(st.none(), st.floats(0, 1)), error_persist=st.one_of(st.none(), st.floats(0, 1))),
)  # fmt: skip
def test_drift_stays_within_its_bounds(values: list[float], cut: int, forecast: float, before: Drift) -> None:
    whole = history(values)
    cut = min(cut, len(values) - 1)
    past = replace(whole, step=whole.step[:cut], at_s=whole.at_s[:cut],
                   columns={name: column[:cut] for name, column in whole.columns.items()})  # fmt: skip
    drift = check(before, foretold(past, forecast), whole)
    assert 1.0 <= drift.margin <= MOST_MARGIN
    assert drift.pairs >= before.pairs
    for share in (drift.error, drift.error_persist, drift.coverage80):
        assert share is None or 0.0 <= share <= 1.0
    assert drift.gain is None or drift.gain <= 1.0
