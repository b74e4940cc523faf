"""Joint trajectories: one future of everything together."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.forecast.base import Horizon, quantiles
from daemon.forecast.calibrate import Calibration
from daemon.forecast.curve import Curves
from daemon.forecast.ensemble import Parts, Recurrent, shipped
from daemon.forecast.schedule import Schedules
from daemon.forecast.usage import Usages
from daemon.forecast.weights_file import SHIPPED
from daemon.types import Declared, History
from tests.daemon.forecast.jobs import gib, job, seconds

CHANGE = 2000
DECLARED = (Declared(CHANGE, {"seq_len": 256.0}),)


@pytest.fixture(scope="module")
def closed() -> Recurrent:
    return Recurrent(Parts(Schedules(None), Curves(None), Usages(None), reason="closed_form: a test"))


def test_a_declared_change_moves_everything_at_its_step(closed: Recurrent) -> None:
    history = job([16, 32], [128, 128], declared=DECLARED)
    forecast = closed.predict([history], Horizon())[0]
    place = forecast.steps.tolist().index(CHANGE)
    assert forecast.steps[place - 1] == CHANGE - 1
    assert "hp.seq_len" in forecast.declared
    assert (forecast.paths["hp.seq_len"][:, place] == 256).all()
    assert (forecast.paths["hp.seq_len"][:, place - 1] == 128).all()
    settings = (forecast.paths["hp.batch_size"], forecast.paths["hp.seq_len"])
    np.testing.assert_allclose(forecast.paths["step_seconds"], seconds(*settings), rtol=0.35)
    stays = (forecast.paths["hp.batch_size"] == 32).all(axis=1)
    needed = gib(np.array(32.0), np.array(256.0))
    high = forecast.paths["usage.memory_gib"] + 2.326 * forecast.deviations["usage.memory_gib"]
    assert (high[stays][:, place] >= needed).all()
    assert (forecast.paths["usage.memory_gib"][:, place] > forecast.paths["usage.memory_gib"][:, place - 1]).all()


def test_the_same_input_gives_the_same_forecast(closed: Recurrent) -> None:
    histories = [job([16, 32], [128, 128], seed=k, name=f"job-{k}") for k in range(3)]
    for one, two in zip(closed.predict(histories, Horizon()), closed.predict(histories, Horizon()), strict=True):
        for name in one.paths:
            np.testing.assert_array_equal(one.paths[name], two.paths[name])


def test_a_job_is_foretold_alike_alone_and_in_a_crowd(closed: Recurrent) -> None:
    histories = [job([16, 32][: 1 + k % 2], [128, 128][: 1 + k % 2], seed=k, name=f"j{k}", rows=5 + k % 7,
                     total=20 + 90 * k) for k in range(300)]  # fmt: skip
    crowd = closed.predict(histories, Horizon())
    assert [each.job for each in crowd] == [each.job for each in histories]
    for k in (0, 1, 150, 299):
        alone = closed.predict([histories[k]], Horizon())[0]
        assert alone.finish_step == crowd[k].finish_step
        np.testing.assert_array_equal(alone.steps, crowd[k].steps)
        np.testing.assert_allclose(alone.paths["step_seconds"].mean(), crowd[k].paths["step_seconds"].mean(), rtol=0.1)


def test_memory_that_was_only_ever_zero_stays_zero(closed: Recurrent) -> None:
    history = job([16], [128])
    history = replace(history, columns={**history.columns, "usage.gpu_memory_gib": np.zeros(len(history))})
    forecast = closed.predict([history], Horizon())[0]
    assert (forecast.paths["usage.gpu_memory_gib"] == 0).all()


def test_calibration_widens_deviations() -> None:
    wide = Calibration({"step_seconds": (3.0,) * 5})
    plain, widened = (
        Recurrent(Parts(Schedules(None), Curves(None), Usages(None), each)).predict([job([16], [128])], Horizon())[0]
        for each in (Calibration(), wide)
    )
    np.testing.assert_allclose(widened.deviations["step_seconds"], 3 * plain.deviations["step_seconds"])


def test_calibration_stretches_a_metric_about_its_median() -> None:
    loss = 0.5 + 2 / np.sqrt(1.0 + np.arange(40)) + 0.01 * np.cos(7.0 * np.arange(40))
    one = History("a", np.arange(40) * 10, np.arange(40) * 10.0, {"metric.loss": loss}, total_steps=1000)
    plain, widened = (
        Recurrent(Parts(Schedules(None), Curves(None), Usages(None), each)).predict([one], Horizon())[0]
        for each in (Calibration(), Calibration({"metric": (3.0,) * 5}))
    )
    before, after = plain.paths["metric.loss"], widened.paths["metric.loss"]
    np.testing.assert_allclose(np.median(after, axis=0), np.median(before, axis=0))
    np.testing.assert_allclose(np.ptp(after, axis=0), 3 * np.ptp(before, axis=0))


def test_a_path_that_is_not_finite_is_left_out_and_said() -> None:
    class Broken(Usages):
        def sample(self, histories: Any, grids: Any, samples: Any) -> Any:
            shape = (len(samples[0].probability), len(grids[0]))
            return [{"usage.gpu_util": (np.full(shape, np.nan), np.zeros(shape))} for _ in histories]

    forecast = Recurrent(Parts(Schedules(None), Curves(None), Broken(None))).predict([job([16], [128])], Horizon())[0]
    assert "usage.gpu_util" not in forecast.paths
    assert "usage.gpu_util" in forecast.unknown


def test_unknown_step_time_is_said(closed: Recurrent) -> None:
    history = job([16], [128])
    silent = {name: values for name, values in history.columns.items() if name != "step_seconds"}
    forecast = closed.predict([replace(history, columns=silent, at_s=np.zeros(len(history)))], Horizon())[0]
    assert "step_seconds" not in forecast.paths
    assert "step_seconds" in forecast.unknown


def test_without_weights_the_closed_form_answers_and_says_so(tmp_path: Path) -> None:
    parts = shipped(tmp_path)
    assert parts.reason.startswith("closed_form: ")
    forecast = Recurrent(parts).predict([job([16], [128])], Horizon())[0]
    assert forecast.method == "closed_form"
    assert forecast.reason == parts.reason


def test_a_corrupt_weights_file_falls_back_and_says_so(tmp_path: Path) -> None:
    for file in SHIPPED.iterdir():
        shutil.copy(file, tmp_path)
    assert shipped(tmp_path).reason == ""
    weights = tmp_path / "recurrent.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + b"\xff" * 8)
    forecast = Recurrent(shipped(tmp_path)).predict([job([16], [128])], Horizon())[0]
    assert forecast.method == "closed_form"
    assert "recurrent.safetensors" in forecast.reason


def window(history: History, first: int, last: int) -> History:
    return replace(
        history, step=history.step[first:last], at_s=history.at_s[first:last],
        columns={name: values[first:last] for name, values in history.columns.items()},
    )  # fmt: skip


def test_learning_remembers_and_does_not_break(closed: Recurrent) -> None:
    forecaster = Recurrent(Parts(Schedules(None), Curves(None), Usages(None)))
    whole = job([16, 64], [128, 128], rows=40, declared=(Declared(500, {"batch_size": 256.0}),))
    forecaster.observe([window(whole, 0, 40)])
    late = window(whole, 50, 80)
    taught = forecaster.predict([late], Horizon())[0]
    fresh = closed.predict([late], Horizon())[0]
    actual = seconds(np.array(256.0), np.array(128.0))
    errors = [abs(quantiles(each, "step_seconds", (0.5,))[0, -1] / actual - 1) for each in (taught, fresh)]
    assert errors[0] < 0.5 * errors[1]
    spreads = [each.deviations["step_seconds"][:, -1].min() for each in (taught, fresh)]
    assert spreads[0] < 0.9 * spreads[1]
    assert quantiles(taught, "step_seconds", (0.5,))[0, -1] == pytest.approx(actual, rel=0.1)


def test_strange_columns_do_not_break(closed: Recurrent) -> None:
    history = History("odd", np.array([5]), np.array([np.nan]), {"hp.batch_size": np.zeros(3), "x": np.ones(1)})
    forecast = closed.predict([history], Horizon())[0]
    assert forecast.at_step == 5
    assert abs(forecast.probability.sum() - 1) < 1e-9
