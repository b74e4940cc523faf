"""Edge: how fast the store takes observations and gives them back, on a SQLite file of its own."""

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from daemon.store.base import Store
from daemon.store.open import open_store
from daemon.types import Job, JobStatus, Observation, Report
from providers.clock import SystemClock

JOBS = 1000
ROWS = 256
REPORT = 16
START = datetime(2026, 11, 23, tzinfo=UTC)


def measure(url: str | None = None) -> dict[str, float]:
    """Measure appends (durable, one report of 16 rows a commit) and the histories of 1,000 jobs of 256 rows."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(url or Path(folder) / "store.sqlite", SystemClock())
        try:
            return _measure(store)
        finally:
            store.close()


def _measure(store: Store) -> dict[str, float]:
    names = [f"job-{number:04}" for number in range(JOBS)]
    for name in names:
        store.jobs.add(Job(name, START, "default", owner=f"owner-{name[-2:]}"))
    reports = [_report(name, start) for start in range(0, ROWS, REPORT) for name in names]
    begun = time.perf_counter()
    for report in reports:
        store.telemetry.append(report, "simulated/here/small", JobStatus(heard_at=START, run=report.run))
    appended = time.perf_counter()
    histories = store.telemetry.histories(names, ROWS)
    read = time.perf_counter()
    if sum(map(len, histories.values())) != JOBS * ROWS:
        raise AssertionError("rows were lost")
    return {
        "rows_appended_per_second": JOBS * ROWS / (appended - begun),
        "reports_appended_per_second": len(reports) / (appended - begun),
        "histories_1000_jobs_seconds": read - appended,
    }


def _report(job: str, start: int) -> Report:
    return Report(job, f"run-of-{job}", start + REPORT, tuple(_row(job, seq) for seq in range(start, start + REPORT)))


def _row(job: str, seq: int) -> Observation:
    at = START + timedelta(seconds=seq)
    return Observation(
        run=f"run-of-{job}",
        seq=seq,
        step=10 * seq,
        at=at,
        received_at=at,
        hyperparameters={"batch_size": 64.0 + seq, "lr": 3e-4, "seq_len": 512.0},
        metrics={"loss": 4.0 / (1 + seq)},
        step_seconds=0.4 + seq / 1000,
        usage={"cpu_cores": 6.1, "gpu_util": 0.93, "gpu_memory_gib": 13.9, "memory_gib": 41.0, "network_mbps": 220.0},
        total_steps=90_000,
    )


if __name__ == "__main__":
    print(measure())
