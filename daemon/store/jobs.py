"""Edge: registered jobs, and what the loop learns of them beside telemetry."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Text, bindparam, delete, insert, select, update
from sqlmodel import col

from daemon.store import fleets
from daemon.store.base import Conflict, Missing
from daemon.store.codec import dumps, loads
from daemon.store.database import Database, Query, micros
from daemon.store.tables import ActionRow, JobRow, StatusRow
from daemon.types import Job, JobStatus


class Jobs:
    """The registered jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job: Job, idempotency_key: str | None = None) -> Job:
        """Register a job. The same key again returns the job it made; a taken name raises ``Conflict``."""
        row = {"name": job.name, "idempotency_key": idempotency_key, **_columns(job)}
        with self._database.write() as connection:
            made = self._database.insert(JobRow).values(row).on_conflict_do_nothing().returning(col(JobRow.name))
            if connection.execute(made).first() is not None:
                connection.execute(insert(StatusRow).values(job=job.name, **status_columns(JobStatus())))
                return job
            earlier = select(col(JobRow.value)).where(col(JobRow.idempotency_key) == idempotency_key)
            value = connection.execute(earlier).scalar_one_or_none() if idempotency_key is not None else None
        if value is None:
            raise Conflict(f"a job named {job.name} exists - take another name, or remove it first")
        return loads(Job, value)

    def all(self) -> Sequence[Job]:
        """List the jobs by name."""
        with self._database.read() as connection:
            values = connection.execute(select(col(JobRow.value))).scalars().all()
        # Sorted here: each database and locale has its own order of texts.
        return sorted((loads(Job, value) for value in values), key=lambda job: job.name)

    def get(self, name: str) -> tuple[Job, JobStatus]:
        """Read one. Raises ``Missing``."""
        statement: Query = select(col(JobRow.value).label("job"), col(StatusRow.value).label("status"))
        statement = statement.join(StatusRow, col(StatusRow.job) == col(JobRow.name)).where(col(JobRow.name) == name)
        with self._database.read() as connection:
            row = connection.execute(statement).one_or_none()
        if row is None:
            raise _missing(name)
        return loads(Job, row.job), loads(JobStatus, row.status)

    def replace(self, job: Job) -> None:
        """Save changed settings of a job. Raises ``Missing``."""
        statement = update(JobRow).where(col(JobRow.name) == job.name).values(**_columns(job))
        with self._database.write() as connection:
            if connection.execute(statement).rowcount == 0:
                raise _missing(job.name)
            fleets.leave(connection, job.name, job.policy)

    def remove(self, name: str) -> None:
        """Delete a job, its telemetry, forecasts, drift and status; decisions, outcomes and charges stay.

        Raises ``Conflict`` while an action is open, ``Missing`` where there is no such job.
        """
        job = select(col(JobRow.name)).where(col(JobRow.name) == name).with_for_update()
        acting = select(col(ActionRow.id)).where(col(ActionRow.job) == name, col(ActionRow.is_open) == 1)
        with self._database.write() as connection:
            if connection.execute(job).one_or_none() is None:
                raise _missing(name)
            if action := connection.execute(acting.limit(1)).scalar_one_or_none():
                raise Conflict(f"action {action} of {name} is open - let it end or cancel it before removing the job")
            connection.execute(delete(JobRow).where(col(JobRow.name) == name))


class Statuses:
    """The status of every job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Mapping[str, JobStatus]:
        """Read the status of every job in one query."""
        with self._database.read() as connection:
            rows = connection.execute(select(col(StatusRow.job), col(StatusRow.value))).all()
        return {row.job: loads(JobStatus, row.value) for row in rows}

    def save(self, job: str, status: JobStatus) -> None:
        """Replace one status. Raises ``Missing``."""
        with self._database.write() as connection:
            save_status(connection, job, status)


_SAVE = (
    update(StatusRow)
    .where(col(StatusRow.job) == bindparam("of_job", type_=Text))
    .values({name: bindparam(f"{name}_") for name in ("state", "heard_us", "value")})
)


def save_status(connection: Connection, job: str, status: JobStatus) -> None:
    """Replace a status as a part of another unit, which holds the row from here on. Raises ``Missing``."""
    values = {f"{name}_": value for name, value in status_columns(status).items()}
    if connection.execute(_SAVE, {"of_job": job, **values}).rowcount == 0:
        raise _missing(job)


def status_columns(status: JobStatus) -> dict[str, object]:
    """Lay a status into its columns."""
    heard = micros(status.heard_at) if status.heard_at else 0
    return {"state": status.state, "heard_us": heard, "value": dumps(JobStatus, status)}


def _columns(job: Job) -> dict[str, object]:
    return {"owner": job.owner, "group": job.group, "value": dumps(Job, job)}


def _missing(name: str) -> Missing:
    return Missing(f"there is no job named {name} - see the list of jobs")
