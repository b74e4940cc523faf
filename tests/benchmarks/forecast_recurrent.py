"""Edge: how long the recurrent parts of a forecast take for 1,000 jobs."""

import json
import time
from collections.abc import Callable

import numpy as np

from daemon.forecast.curve import Curves
from daemon.forecast.schedule import Schedules
from daemon.forecast.usage import Usages
from daemon.forecast.weights_file import Weights, WeightsError, load
from daemon.types import History

JOBS, ROWS, TRAJECTORIES, POINTS = 1000, 256, 64, 32


def fleet(jobs: int = JOBS, rows: int = ROWS) -> list[History]:
    """Make jobs of which half ramp their batch size, with a learning rate, a loss and four usage columns."""
    random = np.random.default_rng(3)
    histories = []
    for job in range(jobs):
        step = np.arange(1, rows + 1) * 10
        batch = np.where(step < step[-1] / 3, 16.0, np.where(step < step[-1] / 1.5, 32.0, 64.0))
        columns = {
            "hp.batch_size": batch if job % 2 else np.full(rows, 32.0),
            "hp.seq_len": np.full(rows, 512.0),
            "hp.lr": 1e-3 * (1 - step / (4.0 * rows * 10)),
            "metric.loss": 2 * step**-0.3 + 0.01 * random.standard_normal(rows),
        }
        for name in ("cpu_cores", "gpu_util", "network_mbps", "disk_mbps"):
            columns[f"usage.{name}"] = 0.5 + 0.3 * (step // 10 % 17 < 12) + 0.02 * random.standard_normal(rows)
        histories.append(History(f"job-{job}", step.astype(np.int64), step * 0.5, columns, total_steps=4 * rows * 10))
    return histories


def measure(repeats: int = 3) -> dict[str, float | int | str]:
    """Time the three parts on one fleet: best of ``repeats``, in seconds for 1,000 jobs with 64 paths of 32 points."""
    weights: Weights | None
    try:
        weights = load()
    except WeightsError:
        weights = None
    histories = fleet()
    grids = [np.linspace(history.step[-1] + 1, 4 * ROWS * 10, POINTS).astype(np.int64) for history in histories]
    schedules, curves, usages = Schedules(weights), Curves(weights), Usages(weights)
    samples = schedules.sample(histories, grids, TRAJECTORIES)
    found: dict[str, float | int | str] = {
        "jobs": JOBS,
        "method": "closed form" if weights is None else "recurrent",
        "schedule_seconds": _best(lambda: schedules.sample(histories, grids, TRAJECTORIES), repeats),
        "curve_seconds": _best(lambda: curves.sample(histories, grids, samples), repeats),
        "usage_seconds": _best(lambda: usages.sample(histories, grids, samples), repeats),
    }
    began = time.process_time()
    usages.sample(histories, grids, schedules.sample(histories, grids, TRAJECTORIES))
    curves.sample(histories, grids, samples)
    cpu = round(time.process_time() - began, 4)
    found["seconds"] = round(sum(value for value in found.values() if isinstance(value, float)), 4)
    found["cpu_seconds"] = cpu
    return found


def _best(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return round(min(times), 4)


if __name__ == "__main__":
    print(json.dumps(measure()))
