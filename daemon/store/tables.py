"""Values: the tables, as SQLModel sees them.

Keys, order and guards are columns; everything else of a value is JSON text (``value``), so that a new field needs no
migration. Times are whole microseconds since the epoch (``*_us``), exact and alike on both databases.
"""

from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    text,
)
from sqlmodel import Field, SQLModel

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
NUMBER = BigInteger().with_variant(Integer, "sqlite")


class Row(SQLModel):
    """What all tables share: one metadata of our own, with constraints named alike on both databases."""

    metadata: ClassVar[MetaData] = MetaData(naming_convention=NAMES)


def _of_job() -> Column[Any]:
    return Column("job", Text, ForeignKey("jobs.name", ondelete="CASCADE"), primary_key=True)


def _words() -> Column[Any]:
    return Column(Text, nullable=False)


def _moment() -> Column[Any]:
    return Column(BigInteger, nullable=False)


class JobRow(Row, table=True):
    """A registered job."""

    __tablename__ = "jobs"
    name: str = Field(sa_column=Column(Text, primary_key=True))
    idempotency_key: str | None = Field(sa_column=Column(Text, unique=True))
    owner: str | None = Field(sa_column=Column(Text, index=True))
    group: str | None = Field(sa_column=Column(Text, index=True))
    value: str = Field(sa_column=_words())


class StatusRow(Row, table=True):
    """What is known of a job. ``state`` and ``heard_us`` find the finished ones, newest first."""

    __tablename__ = "statuses"
    job: str = Field(sa_column=_of_job())
    state: str = Field(sa_column=Column(Text, nullable=False, index=True))
    heard_us: int = Field(sa_column=_moment())
    value: str = Field(sa_column=_words())


class DriftRow(Row, table=True):
    """The drift state of a job."""

    __tablename__ = "drifts"
    job: str = Field(sa_column=_of_job())
    value: str = Field(sa_column=_words())


class ForecastRow(Row, table=True):
    """A forecast; the greatest number of a job is its newest."""

    __tablename__ = "forecasts"
    __table_args__ = (Index("ix_forecasts_job_number", "job", "number"),)
    number: int | None = Field(sa_column=Column(NUMBER, primary_key=True, autoincrement=True))
    job: str = Field(sa_column=Column(Text, ForeignKey("jobs.name", ondelete="CASCADE"), nullable=False))
    value: str = Field(sa_column=_words())


class RunRow(Row, table=True):
    """One start of a job's process. A later run of a job has a greater number.

    ``names`` and ``offers`` are JSON lists that only grow: an observation's ``values`` are doubles in the order of
    ``names`` (fewer where later names were not known yet), its ``offer`` an index into ``offers``. Rows with a ``seq``
    below ``kept_from`` were pruned and are not taken again.
    """

    __tablename__ = "runs"
    __table_args__ = (Index("uq_runs_job_run", "job", "run", unique=True),)
    number: int | None = Field(sa_column=Column(NUMBER, primary_key=True, autoincrement=True))
    job: str = Field(sa_column=Column(Text, ForeignKey("jobs.name", ondelete="CASCADE"), nullable=False))
    run: str = Field(sa_column=_words())
    rows: int = Field(sa_column=_moment())
    first_step: int = Field(sa_column=_moment())
    first_seq: int = Field(sa_column=_moment())
    last_seq: int = Field(sa_column=_moment())
    kept_from: int = Field(sa_column=_moment())
    names: str = Field(sa_column=_words())
    offers: str = Field(sa_column=_words())


class ObservationRow(Row, table=True):
    """One observation, laid down by (run, seq), so that a job's newest rows lie side by side."""

    __tablename__ = "observations"
    __table_args__ = ({"sqlite_with_rowid": False},)
    run: int = Field(sa_column=Column(NUMBER, ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True))
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    step: int = Field(sa_column=_moment())
    at_us: int | None = Field(sa_column=Column(BigInteger))
    received_us: int = Field(sa_column=_moment())
    total_steps: int | None = Field(sa_column=Column(BigInteger))
    diverged: int = Field(sa_column=Column(Integer, nullable=False))
    offer: int = Field(sa_column=Column(Integer, nullable=False))
    values: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class DecisionRow(Row, table=True):
    """A decision. The columns are the truth of what changes after it was made; ``value`` is compressed JSON.

    ``record`` is the situation that the choice was made in, options included, compressed too; it goes after a while.
    """

    __tablename__ = "decisions"
    __table_args__ = (Index("ix_decisions_job_number", "job", "number"), Index("ix_decisions_at_us", "at_us"))
    number: int | None = Field(sa_column=Column(NUMBER, primary_key=True, autoincrement=True))
    id: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    job: str = Field(sa_column=_words())
    status: str = Field(sa_column=_words())
    offer: str = Field(sa_column=_words())
    policy_version: str = Field(sa_column=_words())
    by: str = Field(sa_column=_words())
    repeats: int = Field(sa_column=_moment())
    last_us: int | None = Field(sa_column=Column(BigInteger))
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    at_us: int | None = Field(sa_column=Column(BigInteger))
    record: bytes | None = Field(sa_column=Column(LargeBinary))


class ActionRow(Row, table=True):
    """An action. The partial index holds "one open action a target" whatever the code does."""

    __tablename__ = "actions"
    __table_args__ = (
        Index(
            "one_open_action_a_target",
            "target",
            unique=True,
            sqlite_where=text("is_open = 1"),
            postgresql_where=text("is_open = 1"),
        ),
        Index("ix_actions_job", "job"),
    )
    number: int | None = Field(sa_column=Column(NUMBER, primary_key=True, autoincrement=True))
    id: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    decision: str = Field(sa_column=Column(Text, ForeignKey("decisions.id"), nullable=False))
    job: str = Field(sa_column=_words())
    target: str = Field(sa_column=_words())
    stage: str = Field(sa_column=_words())
    is_open: int = Field(sa_column=Column(Integer, nullable=False))
    opened_us: int = Field(sa_column=_moment())
    epoch: int = Field(sa_column=_moment())
    version: int = Field(sa_column=_moment())
    reserved_usd: float | None = Field(sa_column=Column(Double))
    value: str = Field(sa_column=_words())


class FleetRow(Row, table=True):
    """A fleet under one hourly cap. Its row is locked while one of its jobs claims a part."""

    __tablename__ = "fleets"
    name: str = Field(sa_column=Column(Text, primary_key=True))


class RateRow(Row, table=True):
    """What a job of a fleet costs an hour, or has claimed while an action of it is open."""

    __tablename__ = "rates"
    job: str = Field(sa_column=_of_job())
    fleet: str = Field(sa_column=Column(Text, nullable=False, index=True))
    usd_per_hour: float = Field(sa_column=Column(Double, nullable=False))


class CallRow(Row, table=True):
    """One call to a cloud."""

    __tablename__ = "calls"
    __table_args__ = (Index("ix_calls_action_number", "action", "number"),)
    id: str = Field(sa_column=Column(Text, primary_key=True))
    action: str = Field(sa_column=Column(Text, ForeignKey("actions.id"), nullable=False))
    number: int = Field(sa_column=_moment())
    state: str = Field(sa_column=_words())
    epoch: int = Field(sa_column=_moment())
    value: str = Field(sa_column=_words())


class ChargeRow(Row, table=True):
    """Money spent over an interval. No foreign key: it outlives its job."""

    __tablename__ = "charges"
    job: str = Field(sa_column=Column(Text, primary_key=True))
    start_us: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    reason: str = Field(sa_column=Column(Text, primary_key=True))
    offer: str = Field(sa_column=_words())
    seconds: float = Field(sa_column=Column(Double, nullable=False))
    usd: float = Field(sa_column=Column(Double, nullable=False))


class OutcomeRow(Row, table=True):
    """What a closed action came to."""

    __tablename__ = "outcomes"
    __table_args__ = (Index("ix_outcomes_job_at_us", "job", "at_us"),)
    action: str = Field(sa_column=Column(Text, primary_key=True))
    job: str = Field(sa_column=_words())
    at_us: int = Field(sa_column=_moment())
    value: str = Field(sa_column=_words())


class AuditRow(Row, table=True):
    """One line of the audit log; triggers refuse to change or remove it."""

    __tablename__ = "audit"
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    entry: str = Field(sa_column=_words())
    hash: str = Field(sa_column=_words())


class ChainRow(Row, table=True):
    """The end of the audit log: shows that its last lines were cut off, and queues its writers."""

    __tablename__ = "audit_end"
    one: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    number: int = Field(sa_column=_moment())
    hash: str = Field(sa_column=_words())


class TokenRow(Row, table=True):
    """The digest of a bearer token."""

    __tablename__ = "tokens"
    digest: str = Field(sa_column=Column(Text, primary_key=True))
    name: str = Field(sa_column=_words())
    scopes: str = Field(sa_column=_words())


class LeaseRow(Row, table=True):
    """Who may act on a shard, until when, and how often that has changed (``epoch``)."""

    __tablename__ = "leases"
    shard: str = Field(sa_column=Column(Text, primary_key=True))
    holder: str = Field(sa_column=_words())
    epoch: int = Field(sa_column=_moment())
    expires_us: int = Field(sa_column=_moment())
