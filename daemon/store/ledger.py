"""Edge: money spent and results measured. Both outlive their job."""

import math
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlmodel import col

from daemon.store.base import StoreError
from daemon.store.codec import dumps, loads
from daemon.store.database import Database, Found, micros, moment
from daemon.store.tables import ChargeRow, OutcomeRow
from daemon.types import Charge, Outcome


class Ledger:
    """Charges and outcomes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def charge(self, charges: Sequence[Charge]) -> None:
        """Add charges. Idempotent on (job, start, reason): the longest one stays, of equal ones the first.

        Raises ``StoreError`` for an amount that is not finite: it would make every sum unknown.
        """
        for charge in charges:
            if not (math.isfinite(charge.usd) and math.isfinite(charge.seconds)):
                raise StoreError(
                    f"a charge of {charge.usd} dollars for {charge.seconds} s to {charge.job} is no amount"
                )
        if not charges:
            return
        with self._database.write() as connection:
            rows = [_row(charge) for charge in charges]
            statement = self._database.insert(ChargeRow)
            grown = {name: statement.excluded[name] for name in ("offer", "seconds", "usd")}
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["job", "start_us", "reason"],
                    set_=grown,
                    where=statement.excluded["seconds"] > col(ChargeRow.seconds),
                ),
                rows,
            )

    def spent(self, job: str) -> float:
        """Sum a job's dollars."""
        with self._database.read() as connection:
            total = connection.execute(select(func.sum(col(ChargeRow.usd))).where(col(ChargeRow.job) == job)).scalar()
        return float(total or 0.0)

    def charges(self, job: str) -> Sequence[Charge]:
        """List a job's charges, oldest first."""
        statement = select(ChargeRow).where(col(ChargeRow.job) == job)
        with self._database.read() as connection:
            rows = connection.execute(statement.order_by(col(ChargeRow.start_us), col(ChargeRow.reason))).all()
        return [_charge(row) for row in rows]

    def settle(self, outcome: Outcome) -> None:
        """Keep the measured result of an action. Idempotent on the action: the first one stays."""
        row = {"action": outcome.action, "job": outcome.job, "at_us": micros(outcome.at)}
        statement = self._database.insert(OutcomeRow).values(**row, value=dumps(Outcome, outcome))
        with self._database.write() as connection:
            connection.execute(statement.on_conflict_do_nothing())

    def outcomes(self, job: str) -> Sequence[Outcome]:
        """List a job's outcomes, oldest first."""
        statement = select(col(OutcomeRow.value)).where(col(OutcomeRow.job) == job)
        with self._database.read() as connection:
            values = (
                connection.execute(statement.order_by(col(OutcomeRow.at_us), col(OutcomeRow.action))).scalars().all()
            )
        return [loads(Outcome, value) for value in values]


def _row(charge: Charge) -> dict[str, object]:
    return {
        "job": charge.job,
        "start_us": micros(charge.start),
        "reason": charge.reason,
        "offer": charge.offer,
        "seconds": charge.seconds,
        "usd": charge.usd,
    }


def _charge(row: Found) -> Charge:
    return Charge(row.job, row.offer, moment(row.start_us), row.seconds, row.usd, row.reason)
