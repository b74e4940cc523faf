"""Edge: observations, written row by row and read back as columns, and the forecasts made from them."""

import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import BigInteger, Connection, Text, bindparam, delete, func, insert, select, update
from sqlmodel import col

from daemon.store import history
from daemon.store.base import Span
from daemon.store.codec import dumps, loads
from daemon.store.database import Database, Found, micros, moment
from daemon.store.jobs import save_status
from daemon.store.tables import DriftRow, ForecastRow, JobRow, ObservationRow, RunRow
from daemon.types import Drift, Forecast, History, JobStatus, Observation, Report

FORECASTS_KEPT = 20
CHANGING = ("rows", "first_step", "first_seq", "last_seq", "names", "offers")
"""The columns of a run that its observations change."""


class Telemetry:
    """Observations, forecasts and drift."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reader = history.Reader()
        # Made once: building a statement costs more than running it, and thousands of reports come a minute.
        run, row = RunRow, ObservationRow
        self._find_run = select(run).where(
            col(run.job) == bindparam("of_job", type_=Text), col(run.run) == bindparam("of_run", type_=Text)
        )
        self._find_seqs = select(col(row.seq)).where(
            col(row.run) == bindparam("of_run", type_=BigInteger),
            col(row.seq) >= bindparam("low", type_=BigInteger),
            col(row.seq) <= bindparam("high", type_=BigInteger),
        )
        self._add_rows = database.insert(row).on_conflict_do_nothing()
        self._change_run = (
            update(run)
            .where(col(run.number) == bindparam("number_", type_=BigInteger))
            .values({name: bindparam(f"{name}_") for name in CHANGING})
        )

    def append(self, report: Report, offer: str | None, status: JobStatus) -> int:
        """Keep a report's observations and the job's new status in one unit; give the number of new rows.

        Idempotent on (job, run, seq). ``offer`` is stamped on each row. Raises ``Missing`` for an unknown job.
        """
        with self._database.write() as connection:
            save_status(connection, report.job, status)  # from here on no other append of this job runs
            return sum(
                self._extend(connection, report.job, run, rows, offer)
                for run, rows in _by_run(report.observations).items()
            )

    def histories(self, jobs: Sequence[str], window: int = 256) -> dict[str, History]:
        """Read the newest ``window`` rows of each job as columns, in few queries for many jobs.

        Rows of an earlier run with a step at or above a newer run's first step are cut out (work done again).
        ``step`` ascends strictly, ``at_s`` never falls. Jobs without rows give an empty history. ``earlier`` holds up
        to 8 finished jobs of the same owner or group, newest first, each thinned evenly to 256 rows.
        """
        with self._database.read() as connection:
            return self._reader.read(connection, jobs, window)

    def forecast(self, job: str) -> Forecast | None:
        """Read the newest forecast of a job."""
        statement = select(col(ForecastRow.value)).where(col(ForecastRow.job) == job)
        with self._database.read() as connection:
            newest = connection.execute(statement.order_by(col(ForecastRow.number).desc()).limit(1))
            value = newest.scalar_one_or_none()
        return None if value is None else loads(Forecast, value)

    def save_forecasts(self, forecasts: Sequence[Forecast], drifts: Mapping[str, Drift]) -> None:
        """Keep the newest forecast of each job, and the drift state; older forecasts are dropped after 20 a job.

        What belongs to a job removed meanwhile is left out.
        """
        values = [{"job": made.job, "value": dumps(Forecast, made)} for made in forecasts]
        states = [{"job": job, "value": dumps(Drift, drift)} for job, drift in drifts.items()]
        with self._database.write() as connection:
            known = _present(connection, {row["job"] for row in values + states})
            if kept := [row for row in values if row["job"] in known]:
                connection.execute(insert(ForecastRow), kept)
                _drop_old_forecasts(connection, {row["job"] for row in kept})
            if kept := [row for row in states if row["job"] in known]:
                statement = self._database.insert(DriftRow)
                newer = {"value": statement.excluded.value}
                connection.execute(statement.on_conflict_do_update(index_elements=["job"], set_=newer), kept)

    def drifts(self) -> Mapping[str, Drift]:
        """Read every job's drift state."""
        with self._database.read() as connection:
            rows = connection.execute(select(col(DriftRow.job), col(DriftRow.value))).all()
        return {row.job: loads(Drift, row.value) for row in rows}

    def spans(self, job: str) -> Sequence[Span]:
        """List what each run covered, oldest run first."""
        step = col(ObservationRow.step)
        chosen = select(col(RunRow.run), func.min(step), func.max(step), func.min(col(ObservationRow.received_us)))
        joined = chosen.join(ObservationRow, col(ObservationRow.run) == col(RunRow.number))
        found = joined.where(col(RunRow.job) == job).group_by(col(RunRow.number), col(RunRow.run))
        with self._database.read() as connection:
            rows = connection.execute(found.order_by(col(RunRow.number))).all()
        return [Span(run, first, last, moment(at)) for run, first, last, at in rows]

    def prune(self, keep_rows_per_job: int) -> int:
        """Delete the oldest observations of each job beyond a count; give how many went.

        One unit a job, so that no writer waits long. A row that was pruned is not taken again.
        """
        with self._database.read() as connection:
            total = func.sum(col(RunRow.rows))
            full = select(col(RunRow.job)).group_by(col(RunRow.job)).having(total > keep_rows_per_job)
            jobs = connection.execute(full).scalars().all()
        return sum(self._prune(job, keep_rows_per_job) for job in jobs)

    def _prune(self, job: str, keep: int) -> int:
        gone = 0
        with self._database.write() as connection:
            statement = select(RunRow).where(col(RunRow.job) == job).order_by(col(RunRow.number).desc())
            for run in connection.execute(statement.with_for_update()).all():
                if run.rows > keep:
                    gone += _shorten(connection, run, keep)
                keep = max(keep - run.rows, 0)
        return gone

    def _extend(
        self, connection: Connection, job: str, run: str, rows: Sequence[Observation], offer: str | None
    ) -> int:
        """Add what is new of one run's rows, and bring the run's own row up to date."""
        found = self._run(connection, job, run)
        known = self._known(connection, found, rows)
        fresh = {row.seq: row for row in rows if row.seq >= found.kept_from and row.seq not in known}
        if not fresh:
            return 0
        values = {seq: _values(row) for seq, row in fresh.items()}
        names = _grown(json.loads(found.names), (name for one in values.values() for name in one))
        offers = _grown(json.loads(found.offers), (offer or row.offer or "" for row in fresh.values()))
        pack = struct.Struct(f"<{len(names)}d").pack
        columns = [
            {
                **_columns(found.number, row, offers.index(offer or row.offer or "")),
                "values": pack(*[values[seq].get(name, math.nan) for name in names]),
            }
            for seq, row in fresh.items()
        ]
        connection.execute(self._add_rows, columns)
        connection.execute(self._change_run, _changed(found, fresh, names, offers))
        return len(fresh)

    def _run(self, connection: Connection, job: str, run: str) -> Found:
        found = connection.execute(self._find_run, {"of_job": job, "of_run": run}).one_or_none()
        if found is not None:
            return found
        empty = {"rows": 0, "first_step": 0, "first_seq": 0, "last_seq": -1, "kept_from": 0}
        connection.execute(insert(RunRow).values(job=job, run=run, names="[]", offers="[]", **empty))
        return connection.execute(self._find_run, {"of_job": job, "of_run": run}).one()

    def _known(self, connection: Connection, run: Found, rows: Sequence[Observation]) -> set[int]:
        low, high = min(row.seq for row in rows), max(row.seq for row in rows)
        if low > run.last_seq:
            return set()
        bounds = {"of_run": run.number, "low": low, "high": high}
        return set(connection.execute(self._find_seqs, bounds).scalars())


def _by_run(rows: Sequence[Observation]) -> dict[str, list[Observation]]:
    runs: dict[str, list[Observation]] = {}
    for row in rows:
        runs.setdefault(row.run, []).append(row)
    return runs


def _grown(before: list[str], more: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*before, *more]))


def _values(row: Observation) -> dict[str, float]:
    """Key an observation's values as the history file does."""
    values = {f"hp.{name}": value for name, value in row.hyperparameters.items()}
    values |= {f"metric.{name}": value for name, value in row.metrics.items()}
    values |= {f"usage.{name}": value for name, value in row.usage.items()}
    if row.step_seconds is not None:
        values["step_seconds"] = row.step_seconds
    return values


def _columns(run: int, row: Observation, offer: int) -> dict[str, object]:
    return {
        "run": run,
        "seq": row.seq,
        "step": row.step,
        "at_us": None if row.at is None else micros(row.at),
        "received_us": micros(row.received_at),
        "total_steps": row.total_steps,
        "diverged": int(row.loss_state == "diverged"),
        "offer": offer,
    }


def _changed(
    run: Found, fresh: Mapping[int, Observation], names: Sequence[str], offers: Sequence[str]
) -> dict[str, object]:
    """Say what the run's own row becomes with these rows."""
    first = min(row.step for row in fresh.values())
    begun = run.last_seq >= 0
    return {
        "number_": run.number,
        "rows_": run.rows + len(fresh),
        "first_step_": min(first, run.first_step) if begun else first,
        "first_seq_": min(min(fresh), run.first_seq) if begun else min(fresh),
        "last_seq_": max(max(fresh), run.last_seq),
        "names_": json.dumps(names),
        "offers_": json.dumps(offers),
    }


def _present(connection: Connection, jobs: set[str]) -> set[str]:
    """Find which of these jobs there are, held against removal until the unit ends."""
    found: set[str] = set()
    for part in history.parts(sorted(jobs)):
        statement = select(col(JobRow.name)).where(col(JobRow.name).in_(part)).order_by(col(JobRow.name))
        found |= set(connection.execute(statement.with_for_update(read=True, key_share=True)).scalars())
    return found


def _drop_old_forecasts(connection: Connection, jobs: set[str]) -> None:
    for job in sorted(jobs):
        own = select(col(ForecastRow.number)).where(col(ForecastRow.job) == job)
        old = own.order_by(col(ForecastRow.number).desc()).limit(1).offset(FORECASTS_KEPT).scalar_subquery()
        connection.execute(delete(ForecastRow).where(col(ForecastRow.job) == job, col(ForecastRow.number) <= old))


def _shorten(connection: Connection, run: Found, keep: int) -> int:
    """Delete all but the newest ``keep`` rows of a run."""
    kept_from = run.last_seq + 1
    if keep:
        own = select(col(ObservationRow.seq)).where(col(ObservationRow.run) == run.number)
        ordered = own.order_by(col(ObservationRow.seq).desc())
        kept_from = connection.execute(ordered.limit(1).offset(keep - 1)).scalar_one()
    old = delete(ObservationRow).where(col(ObservationRow.run) == run.number, col(ObservationRow.seq) < kept_from)
    gone = connection.execute(old).rowcount
    changed = {"rows": run.rows - gone, "kept_from": kept_from, "first_seq": kept_from}
    connection.execute(update(RunRow).where(col(RunRow.number) == run.number).values(**changed))
    return gone
