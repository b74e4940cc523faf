"""Edge: how fast the forecaster is. ``measure()`` gives figures; run as a program it prints them.

A thousand jobs of 256 rows each, a third with a declared schedule, a third whose batch has grown, a third constant.
"""

import asyncio
import json
import os
import time
from pathlib import Path

import numpy as np

from daemon.forecast.base import Forecaster, Horizon
from daemon.forecast.ensemble import Recurrent
from daemon.forecast.worker import ForecastProcess
from daemon.types import Declared, History

JOBS = 1000
ROWS = 256
FULL = Horizon(points=48)
"""64 trajectories over 48 grid points."""
REPEATS = 3


def history(number: int, rows: int = ROWS) -> History:
    """Make one job's history."""
    rng = np.random.default_rng(number)
    step = np.arange(1, rows + 1) * 10
    kind = number % 3
    batch = np.full(rows, 32.0) if kind != 1 else 32.0 * 2.0 ** (np.arange(rows) // (rows // 3 + 1))
    length = np.full(rows, 128.0)
    seconds = (0.1 + 1e-5 * batch * length) * (1 + 0.02 * rng.standard_normal(rows))
    declared = (Declared(rows * 14, {"seq_len": 256.0}), Declared(rows * 18, {"seq_len": 512.0})) if kind == 0 else ()
    columns = {
        "hp.batch_size": batch, "hp.seq_len": length, "hp.lr": 1e-3 * 0.5 * (1 + np.cos(step / (rows * 30) * np.pi)),
        "metric.loss": 2.0 + 3.0 * step**-0.4 + 0.02 * rng.standard_normal(rows), "step_seconds": seconds,
        "usage.memory_gib": 3.0 + 0.0005 * batch * length + 0.01 * rng.random(rows),
        "usage.gpu_memory_gib": 2.0 + 0.001 * batch * length + 0.01 * rng.random(rows),
        "usage.gpu_util": np.clip(0.8 + 0.05 * rng.standard_normal(rows), 0, 1),
        "usage.cpu_cores": np.clip(3.0 + 0.5 * np.sin(step / 60), 0, None),
    }  # fmt: skip
    return History(f"job-{number}", step, 1.8e9 + np.cumsum(seconds * 10), columns, ("a",) * rows, rows * 30, declared)


def measure(jobs: int = JOBS) -> dict[str, float]:
    """Measure seconds for ``jobs`` full forecasts, the same through the child process, learning, and memory.

    ``*cpu_seconds`` are of the processor, of all threads: what a busy neighbour disturbs least. Best of ``REPEATS``.
    """
    histories = [history(number) for number in range(jobs)]
    forecaster: Forecaster = Recurrent()
    forecaster.predict(histories[:20], FULL)
    walls, processor = [], []
    for _ in range(REPEATS):
        start, used = time.perf_counter(), time.process_time()
        forecaster.predict(histories, FULL)
        walls.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    start = time.perf_counter()
    forecaster.observe(histories)
    first = time.perf_counter() - start
    grown = [history(number, ROWS + 8) for number in range(jobs)]
    start = time.perf_counter()
    forecaster.observe(grown)
    second = time.perf_counter() - start
    child = asyncio.run(_child(histories))
    return {
        "jobs": jobs,
        "forecast_seconds": min(walls),
        "forecast_cpu_seconds": min(processor),
        "online_update_ms_a_job": 1000 * max(first, second) / jobs,
        **child,
    }


async def _child(histories: list[History]) -> dict[str, float]:
    process = ForecastProcess()
    start = time.perf_counter()
    await process.start()
    started = time.perf_counter() - start
    await process.forecast(histories[:20], FULL, 60.0)
    walls, processor = [], []
    for _ in range(REPEATS):
        await asyncio.sleep(1.0)  # what was learned of the round before is done by then
        start, used = time.perf_counter(), time.process_time() + _processor_seconds(process.pid)
        _, reason = await process.forecast(histories, FULL, 60.0)
        walls.append(time.perf_counter() - start)
        processor.append(time.process_time() + _processor_seconds(process.pid) - used)
        assert not reason, reason
    resident = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    await process.stop()
    return {
        "child_start_seconds": started,
        "child_forecast_seconds": min(walls),
        "child_forecast_cpu_seconds": min(processor),
        "child_rss_mib": int(resident) * 4096 / 2**20,
    }


def _processor_seconds(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
