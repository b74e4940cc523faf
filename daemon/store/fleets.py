"""Edge: what the jobs of a fleet cost an hour, and the fleet's hourly cap, held where an intent is committed.

Functions over a transaction of their caller. A fleet's own row is locked last in it, so that no two of them wait on
each other; what is read of its rates after that stays until the end of the unit.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, delete, func, select
from sqlmodel import col

from daemon.store.base import OverBudget
from daemon.store.database import Database
from daemon.store.history import parts
from daemon.store.tables import ActionRow, FleetRow, JobRow, RateRow
from daemon.types import Action, Claim

ROUNDING = 1e-9


def note(database: Database, connection: Connection, fleet: str, usd_per_hour: Mapping[str, float]) -> None:
    """Keep what jobs cost an hour now; one with an open action keeps what that has claimed."""
    there: set[str] = set()
    for part in parts(sorted(usd_per_hour)):
        jobs = select(col(JobRow.name)).where(col(JobRow.name).in_(part)).order_by(col(JobRow.name))
        there |= set(connection.execute(jobs.with_for_update(read=True, key_share=True)).scalars())
    _lock(database, connection, fleet)
    for part in parts(sorted(there)):
        acting = select(col(ActionRow.job)).where(col(ActionRow.is_open) == 1, col(ActionRow.job).in_(part))
        there -= set(connection.execute(acting).scalars())
    for job in sorted(there):
        _keep(database, connection, job, fleet, usd_per_hour[job])


def claim(database: Database, connection: Connection, action: Action) -> None:
    """Set aside what an action may come to cost an hour; raise ``OverBudget`` where the fleet's cap does not hold it.

    Both machines of a move count as the dearer of the two, as they do where the budget is shared out.
    """
    if action.claim is None:
        return
    told = action.claim
    _lock(database, connection, told.fleet)
    mine, others = max(told.before, told.after), _others(connection, told, action.job)
    if told.cap is not None and others + mine > told.cap * (1 + ROUNDING):
        raise OverBudget(
            f"the jobs of {told.fleet} cost or have claimed {others:.2f} of {told.cap:.2f} dollars an hour without"
            f" {action.job}, and this move takes {mine:.2f} - it is shared out again at the next turn"
        )
    _keep(database, connection, action.job, told.fleet, mine)


def settle(database: Database, connection: Connection, action: Action) -> None:
    """Let go what a closed action had claimed beyond what its job costs now; one left to a person keeps all of it."""
    if action.claim is None or action.stage == "needs_human":
        return
    _lock(database, connection, action.claim.fleet)
    ends = {"done": action.claim.after, "released": 0.0}
    _keep(database, connection, action.job, action.claim.fleet, ends.get(action.stage, action.claim.before))


def leave(connection: Connection, job: str, policy: str) -> None:
    """Forget what a job costs in any fleet but that of its policy."""
    connection.execute(delete(RateRow).where(col(RateRow.job) == job, col(RateRow.fleet) != policy))


def _lock(database: Database, connection: Connection, fleet: str) -> None:
    connection.execute(database.insert(FleetRow).values(name=fleet).on_conflict_do_nothing())
    connection.execute(select(col(FleetRow.name)).where(col(FleetRow.name) == fleet).with_for_update())


def _others(connection: Connection, told: Claim, job: str) -> float:
    total = select(func.coalesce(func.sum(col(RateRow.usd_per_hour)), 0.0))
    return float(
        connection.execute(total.where(col(RateRow.fleet) == told.fleet, col(RateRow.job) != job)).scalar_one()
    )


def _keep(database: Database, connection: Connection, job: str, fleet: str, usd_per_hour: float) -> None:
    values = {"fleet": fleet, "usd_per_hour": usd_per_hour}
    statement = database.insert(RateRow).values(job=job, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["job"], set_=values))
