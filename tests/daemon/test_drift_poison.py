"""A job whose reports turn to garbage for an hour: prediction goes off for it, and comes back after."""

import numpy as np
import pytest

from daemon.drift import check
from daemon.forecast.base import Horizon
from daemon.forecast.curve import Curves
from daemon.forecast.ensemble import Parts, Recurrent
from daemon.forecast.schedule import Schedules
from daemon.forecast.usage import Usages
from daemon.types import Declared, Drift, History

MINUTES = 60
TURN_MINUTES = 1.0
ROWS_A_TURN = 3
WINDOW = 256
LEAD_TURNS = 2
NAMES = ("hp.batch_size", "hp.seq_len", "step_seconds", "usage.memory_gib", "metric.loss")


def sound(rng: np.random.Generator) -> list[float]:
    """One row of a job that goes on evenly."""
    return [32.0, 128.0, 0.14 * (1 + 0.02 * rng.standard_normal()), 5.0 + 0.01 * rng.random(), 2.0 + rng.random()]


def garbage(rng: np.random.Generator) -> list[float]:
    """One row of numbers that pass every check of range, and mean nothing."""
    return [
        float(2 ** rng.integers(0, 12)), float(2 ** rng.integers(3, 12)), float(10 ** rng.uniform(-3, 3)),
        float(10 ** rng.uniform(-2, 4)), float(10 ** rng.uniform(-5, 9)),
    ]  # fmt: skip


def lived(poison: str, minutes: tuple[int, int, int]) -> list[Drift]:
    """Follow a job through sound, poisoned and again sound minutes, a turn a minute: the drift after each turn."""
    rng = np.random.default_rng(7)
    forecaster = Recurrent(Parts(Schedules(None), Curves(None), Usages(None)))
    rows: list[list[float]] = []
    drifts = [Drift()]
    made = None
    for turn in range(sum(minutes)):
        bad = minutes[0] <= turn < minutes[0] + minutes[1]
        rows += [(garbage if bad and poison == "values" else sound)(rng) for _ in range(ROWS_A_TURN)]
        step = 10 * np.arange(1, len(rows) + 1)[-WINDOW:]
        declared = (Declared(int(step[-1]) + 5, {"batch_size": 4096.0}),) if bad and poison == "declared" else ()
        columns = dict(zip(NAMES, np.array(rows[-WINDOW:]).T, strict=True))
        history = History("job", step, 1.8e9 + 2.0 * step, columns, ("here",) * len(step), 10**6, declared)
        drift = drifts[-1]
        if made is not None and turn - made[0] >= LEAD_TURNS:
            drift, made = check(drift, made[1], history), None
        forecaster.observe([history])
        if made is None:
            made = turn, forecaster.predict([history], Horizon(points=8, trajectories=8))[0]
        drifts.append(drift)
    return drifts[1:]


@pytest.mark.parametrize("poison", ["values", "declared"])
def test_an_hour_of_garbage_switches_prediction_off_and_its_end_back_on(poison: str) -> None:
    drifts = lived(poison, (30, MINUTES, 130))
    before, during, after = drifts[:30], drifts[30 : 30 + MINUTES], drifts[30 + MINUTES :]
    assert all(one.trusted for one in before)
    off = next((place for place, one in enumerate(during) if not one.trusted), MINUTES)
    assert off <= 15, "it takes some forecasts that come out wrong, and no more"
    assert not any(one.trusted for one in during[off:]), "it stays off as long as the garbage comes"
    assert "forecast error" in during[-1].reason
    assert after[-1].trusted
    assert after[-1].reason == ""
    assert after[-1].error == pytest.approx(0.0, abs=0.05)


def test_one_report_of_a_setting_is_not_remembered_for_good() -> None:
    """What garbage claimed to need, long out of the window, holds no forecast up."""
    drifts = lived("values", (10, 20, 110))
    assert drifts[-1].error == pytest.approx(0.0, abs=0.05)
