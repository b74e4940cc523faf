"""Values: runs and history files to test the backtest with, made here."""

from pathlib import Path

import numpy as np

from daemon.backtest.history import Run


def run(
    values: list[float] | np.ndarray,
    target: str = "metric.loss",
    job: str = "job",
    group: str = "g",
    owner: str = "",
    started_at: str = "",
    total: float | None = None,
    elapsed: np.ndarray | None = None,
    more: dict[str, np.ndarray] | None = None,
) -> Run:
    n = len(values)
    step = np.arange(n, dtype=np.float64) * 10
    seconds = step * 1.0 if elapsed is None else elapsed
    rate = np.diff(seconds, prepend=np.nan) / 10
    columns = {target: np.asarray(values, dtype=np.float64), "step_seconds": rate, **(more or {})}
    totals = np.full(n, step[-1] if total is None else total)
    return Run(job, group, owner, started_at, step, seconds, totals, columns)


def decaying(seed: int, n: int = 60, job: str = "", group: str = "g") -> Run:
    random = np.random.default_rng(seed)
    values = 0.5 + 2 / (1 + np.arange(n)) ** random.uniform(0.3, 0.8) + random.normal(0, 0.01, n)
    return run(values, job=job or f"job-{seed}", group=group, started_at=f"2026-01-{seed % 28 + 1:02d}")


def ramped(job: str = "ramp", n: int = 60, owner: str = "ann", group: str = "g") -> Run:
    """Give a run whose batch doubles at a third and at two thirds, a step taking a second per 64."""
    batch = np.repeat([64.0, 128.0, 256.0], n // 3)
    seconds = np.concatenate([[0.0], np.cumsum(10 * batch[1:] / 64)])
    return run(np.ones(n), job=job, owner=owner, group=group, elapsed=seconds, more={"hp.batch_size": batch})


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
