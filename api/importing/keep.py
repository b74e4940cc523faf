"""Edge: where imported runs go: a history file, or the daemon's store as finished jobs."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from api.client_http import Failure
from api.text import plain
from daemon.backtest.history import Run, step_seconds
from daemon.store.base import Conflict, Store
from daemon.types import Job, JobStatus, Observation, Report

MOST_ROWS = 4096
"""Rows of a run that the store is given, thinned evenly: of a finished job it shows 256."""
BATCH = 1000
RUN = "imported"


def write(runs: Sequence[Run], file: Path) -> None:
    """Write a history file, Parquet or CSV by its ending. Raises ``Failure``."""
    columns = list(dict.fromkeys(name for run in runs for name in run.columns if name != "step_seconds"))
    names = ["job", "group", "owner", "started_at", "step", "elapsed_s", "total_steps", *columns]
    try:
        if file.suffix == ".parquet":
            _parquet(runs, names, file)
        elif file.suffix == ".csv":
            with file.open("w", newline="", encoding="utf-8") as opened:
                table = csv.writer(opened, lineterminator="\n")
                table.writerow(names)
                for run in runs:
                    table.writerows(_cells(run, names))
        else:
            raise Failure(f"{plain(file)} ends neither in .csv nor in .parquet - choose one of them", 2)
    except OSError as error:
        raise Failure(f"{plain(file)} cannot be written ({error.strerror}) - name another file", 2) from None


def _cells(run: Run, names: Sequence[str]) -> list[list[str]]:
    words = [run.job, run.group, run.owner, run.started_at]
    figures = [run.step, run.elapsed_s, run.total_steps, *(run.column(name) for name in names[7:])]
    return [[*words, *(_cell(column[row]) for column in figures)] for row in range(len(run))]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value)).removesuffix(".0")


def _parquet(runs: Sequence[Run], names: Sequence[str], file: Path) -> None:
    import pyarrow as pa  # delays pyarrow
    import pyarrow.parquet as parquet

    told = [[run.job, run.group, run.owner, run.started_at] for run in runs]
    table: dict[str, Any] = {
        name: [words[place] for run, words in zip(runs, told, strict=True) for _ in range(len(run))]
        for place, name in enumerate(names[:4])
    }
    told_figures = {"step": [run.step for run in runs], "total_steps": [run.total_steps for run in runs]}
    for name in names[4:]:
        values = np.concatenate(told_figures.get(name) or [run.column(name) for run in runs])
        table[name] = pa.array(values, from_pandas=True)
    parquet.write_table(pa.table(table), file)


def into_store(store: Store, runs: Sequence[Run], policy: str, now: datetime) -> tuple[int, list[str]]:
    """Put runs into the store as finished jobs, which their owner's next jobs are foretold by: (rows, names).

    Idempotent: a run that is there already gets the rows it lacks. Raises ``Failure`` where another job has the name.
    """
    kept, names = 0, []
    for run in runs:
        rows = _observations(run, now)
        total = run.total_steps[np.isfinite(run.total_steps)]
        job = Job(
            job_name(run.job), rows[0].received_at, policy, owner=run.owner or None, group=run.group or None,
            total_steps=int(total[-1]) if len(total) and total[-1] >= 1 else None,
        )  # fmt: skip
        try:
            store.jobs.add(job)
        except Conflict:
            if store.jobs.get(job.name)[1].run != RUN:
                raise Failure(
                    f"a job named {job.name} is registered already - rename it in the records, or remove the job"
                ) from None
            store.jobs.replace(replace(job, registered_at=store.jobs.get(job.name)[0].registered_at))
        status = JobStatus(heard_at=rows[-1].received_at, run=RUN, next_seq=len(rows), state="done")
        for start in range(0, len(rows), BATCH):
            kept += store.telemetry.append(_report(job.name, rows[start : start + BATCH]), None, status)
        names.append(job.name)
    return kept, names


def job_name(text: str) -> str:
    """Make a job's name of any text: letters, digits, dot, underscore and dash, at most 128."""
    found = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:128]
    return found or "imported"


def _report(job: str, rows: Sequence[Observation]) -> Report:
    return Report(job, RUN, rows[-1].seq + 1, tuple(rows), state="done")


def _observations(run: Run, now: datetime) -> list[Observation]:
    """Make observations of a run's rows, at the times they were made; ending now where those are not known."""
    picked = np.unique(np.linspace(0, len(run) - 1, min(len(run), MOST_ROWS)).astype(np.int64))
    elapsed = np.where(np.isfinite(run.elapsed_s), run.elapsed_s, -np.inf)
    elapsed = np.maximum(np.maximum.accumulate(elapsed), 0.0)
    started = _started(run.started_at, now - timedelta(seconds=float(elapsed[-1])))
    paces = run.columns.get("step_seconds", step_seconds(run.step, run.elapsed_s))
    found = []
    for seq, row in enumerate(picked.tolist()):
        known = {name: float(values[row]) for name, values in run.columns.items() if math.isfinite(values[row])}
        total, pace = run.total_steps[row], float(paces[row])
        found.append(
            Observation(
                RUN, seq, int(run.step[row]), None, started + timedelta(seconds=float(elapsed[row])),
                _of(known, "hp."), _of(known, "metric."), step_seconds=pace if math.isfinite(pace) else None,
                usage=_of(known, "usage."), total_steps=int(total) if total >= 1 else None,
            )
        )  # fmt: skip
    return found


def _of(known: dict[str, float], kind: str) -> dict[str, float]:
    return {name.removeprefix(kind): value for name, value in known.items() if name.startswith(kind)}


def _started(text: str, otherwise: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    return found if found.tzinfo else found.replace(tzinfo=UTC)
