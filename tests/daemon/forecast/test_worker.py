"""The process that runs the forecaster: whatever becomes of it, there is an answer in time."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from daemon.forecast.base import Horizon
from daemon.forecast.worker import RECURRENT, UNAVAILABLE, ForecastProcess, unsound
from daemon.types import History
from tests.daemon.forecast.jobs import job

HORIZON = Horizon(points=8, trajectories=8)
BROKEN = "tests.daemon.forecast.broken:"
PATIENCE = 30.0


@contextlib.asynccontextmanager
async def running(target: str, **options: float) -> AsyncIterator[ForecastProcess]:
    process = ForecastProcess(target, **{"pause_seconds": 0.05, **options})
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


def named(*names: str) -> list[History]:
    return [job([16], [128], rows=6, name=name) for name in names]


async def recovered(process: ForecastProcess, before: int | None) -> int:
    """Wait, bounded, until another child is ready."""
    for _ in range(int(PATIENCE / 0.05)):
        if process.pid is not None and process.pid != before:
            return process.pid
        await asyncio.sleep(0.05)  # a real process is waited for
    raise AssertionError("no new child came")


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_forecasts_come_in_order_whatever_the_child_prints() -> None:
    async with running(BROKEN + "Sound") as process:
        forecasts, reason = await process.forecast(named("a", "b", "c"), HORIZON, PATIENCE)
        assert reason == ""
        assert [(each.job, each.method) for each in forecasts] == [("a", "sound"), ("b", "sound"), ("c", "sound")]
        assert forecasts[0].paths["step_seconds"].dtype == np.float64
        assert await process.forecast([], HORIZON, PATIENCE) == ([], "")


async def test_many_asks_at_once_are_each_answered_with_their_own() -> None:
    async with running(BROKEN + "Sound") as process:
        asks = [named(f"a{k}", f"b{k}") for k in range(40)]
        horizons = [HORIZON if k % 3 else Horizon(points=5, trajectories=8) for k in range(40)]
        answers = await asyncio.gather(
            *(process.forecast(ask, horizon, PATIENCE) for ask, horizon in zip(asks, horizons, strict=True))
        )
        for k, (forecasts, reason) in enumerate(answers):
            assert reason == ""
            assert [each.job for each in forecasts] == [f"a{k}", f"b{k}"]
            assert len(forecasts[0].steps) == (8 if k % 3 else 5)


async def test_the_recurrent_forecaster_runs_there() -> None:
    async with running(RECURRENT) as process:
        histories = [job([16, 32], [128, 128], name=f"job-{k}") for k in range(40)]
        forecasts, reason = await process.forecast(histories, Horizon(), PATIENCE)
        assert reason == ""
        assert {each.method for each in forecasts} <= {"recurrent", "closed_form"}
        assert all(unsound(history, each) == "" for history, each in zip(histories, forecasts, strict=True))
        again, _ = await process.forecast(histories[:1], Horizon(), PATIENCE)
        assert again[0].paths["step_seconds"].shape == (64, 32)


@pytest.mark.fault("A20")
async def test_killed_while_predicting_the_answer_is_persistence_and_a_new_child_comes() -> None:
    async with running(BROKEN + "Late") as process:
        first = await recovered(process, None)
        asked = asyncio.create_task(process.forecast(named("late"), HORIZON, PATIENCE))
        await asyncio.sleep(0.2)  # a real process is at work
        os.kill(first, signal.SIGKILL)
        forecasts, reason = await asyncio.wait_for(asked, PATIENCE)
        assert reason.startswith(UNAVAILABLE)
        assert forecasts[0].method == "persist"
        assert forecasts[0].reason.startswith(UNAVAILABLE)
        second = await recovered(process, first)
        assert gone(first)
        forecasts, reason = await process.forecast(named("well"), HORIZON, PATIENCE)
        assert (reason, forecasts[0].method) == ("", "sound")
    assert gone(second)


async def test_late_is_answered_in_time_and_costs_the_child_its_life() -> None:
    async with running(BROKEN + "Late") as process:
        first = await recovered(process, None)
        loop = asyncio.get_running_loop()
        start = loop.time()
        forecasts, reason = await process.forecast(named("late"), HORIZON, 0.3)
        assert loop.time() - start < 5.0
        assert reason == f"{UNAVAILABLE}: late"
        assert forecasts[0].method == "persist"
        await recovered(process, first)
        assert gone(first)


async def test_a_child_that_dies_at_its_work_fails_no_later_ask() -> None:
    async with running(BROKEN + "Dying") as process:
        first = await recovered(process, None)
        forecasts, reason = await process.forecast(named("die", "beside"), HORIZON, PATIENCE)
        assert reason.startswith(UNAVAILABLE)
        assert [each.method for each in forecasts] == ["persist", "persist"]
        await recovered(process, first)
        assert (await process.forecast(named("well"), HORIZON, PATIENCE))[1] == ""


async def test_a_forecaster_that_cannot_start_is_tried_again_and_persistence_answers() -> None:
    async with running(BROKEN + "Unstartable") as process:
        assert process.pid is None
        forecasts, reason = await process.forecast(named("a"), HORIZON, PATIENCE)
        assert reason.startswith(UNAVAILABLE)
        assert forecasts[0].method == "persist"


async def test_one_jobs_fault_stays_its_own() -> None:
    async with running(BROKEN + "Raising") as process:
        before = process.pid
        for _ in range(2):  # learning has failed in between
            forecasts, reason = await process.forecast(named("a", "bad", "b"), HORIZON, PATIENCE)
            assert reason == f"{UNAVAILABLE}: ValueError: cannot foretell"
            assert [each.method for each in forecasts] == ["sound", "persist", "sound"]
        assert process.pid == before


WAYS = {
    "nan": "step_seconds is not finite", "infinite": "metric.loss is not finite",
    "negative": "usage.memory_gib is negative", "huge": "usage.memory_gib is out of all reason",
    "chances": "its probabilities do not sum to 1", "unlikely": "its probabilities are not probabilities",
    "shape": "step_seconds has the wrong shape", "deviation": "the deviation of step_seconds is not one",
    "steps": "its steps do not ascend from the present", "empty": "its steps do not ascend from the present",
    "stale": "it was not made from the newest step", "other": "not a forecast of this job",
    "nothing": "not a forecast of this job",
}  # fmt: skip


async def test_nonsense_is_seen_and_replaced_for_that_job_alone() -> None:
    async with running(BROKEN + "Nonsense") as process:
        ways = ["well", *WAYS]
        forecasts, reason = await process.forecast(named(*ways), HORIZON, PATIENCE)
        assert reason.startswith(UNAVAILABLE)
        told = {way: each.reason.removeprefix(f"{UNAVAILABLE}: ") for way, each in zip(ways, forecasts, strict=True)}
        assert told == {"well": "", **WAYS}
        assert [each.job for each in forecasts] == ways
        assert [each.method for each in forecasts] == ["sound"] + ["persist"] * len(WAYS)


async def test_too_few_forecasts_are_nonsense_and_cost_the_child_its_life() -> None:
    async with running(BROKEN + "Talking") as process:
        first = await recovered(process, None)
        _, reason = await process.forecast(named("a", "b"), HORIZON, PATIENCE)
        assert reason == f"{UNAVAILABLE}: the forecaster answered nonsense"
        await recovered(process, first)


async def test_stopping_answers_those_who_wait_and_leaves_no_zombie() -> None:
    process = ForecastProcess(BROKEN + "Late")
    assert (await process.forecast(named("a"), HORIZON, 1.0))[1] == f"{UNAVAILABLE}: not started"
    await process.start()
    await process.start()
    pid = process.pid
    asked = asyncio.create_task(process.forecast(named("late"), HORIZON, PATIENCE))
    await asyncio.sleep(0.1)  # a real process is at work
    await process.stop()
    await process.stop()
    assert (await asyncio.wait_for(asked, 5.0))[1].startswith(UNAVAILABLE)
    assert pid is not None
    assert gone(pid)
    await process.start()
    assert (await process.forecast(named("a"), HORIZON, PATIENCE))[1] == ""
    await process.stop()


async def test_the_child_dies_with_its_parent() -> None:
    program = (
        "import asyncio, sys\n"
        "from daemon.forecast.worker import ForecastProcess\n"
        "async def main():\n"
        f"    process = ForecastProcess({BROKEN + 'Late'!r})\n"
        "    await process.start()\n"
        "    print(process.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(200):
        if gone(child) or Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return  # in a container without an init, nobody reaps an orphan
        await asyncio.sleep(0.05)  # a real process is waited for
    raise AssertionError("the child outlived its parent")


def test_a_forecast_without_paths_is_sound_if_it_says_so() -> None:
    from daemon.forecast.persist import Persist

    empty = History("job", np.zeros(0, np.int64), np.zeros(0), {})
    assert unsound(empty, Persist().predict([empty], HORIZON)[0]) == ""


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_told_apart(way: str) -> None:
    from daemon.forecast.persist import Persist
    from tests.daemon.forecast.broken import spoilt

    history = named(way)[0]
    assert unsound(history, spoilt(way, Persist().predict([history], HORIZON)[0])) == WAYS[way]
