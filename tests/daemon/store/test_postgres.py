"""Edge: what can befall a PostgreSQL server while the daemon lives on it."""

from typing import Any

import pytest
from sqlalchemy import create_engine, text

from daemon.store.base import Busy
from daemon.store.database import Database, connect
from daemon.store.open import open_store
from providers.clock import VirtualClock
from tests.daemon.store.values import action, decision, job, status

pytestmark = pytest.mark.postgres


def test_a_restart_pauses_the_store_and_loses_nothing(postgres: Any, clock: VirtualClock) -> None:
    url = postgres.create()
    store = open_store(url, clock, busy_seconds=2)
    store.jobs.add(job())
    store.decisions.add(decision())
    store.actions.open(action())
    store.jobs.all()
    postgres.stop()
    try:
        with pytest.raises(Busy, match="cannot be reached"):
            store.status.save("bert", status())
        with pytest.raises(Busy, match="cannot be reached"):
            store.jobs.all()
    finally:
        postgres.start()
    assert store.actions.unfinished() == [action()]
    store.status.save("bert", status())
    store.close()


def cut_off(url: str, database: Database) -> None:
    """Delete every job, and lose the connection before the commit."""
    other = create_engine(url)
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        with other.begin() as killer:
            killer.execute(text("SELECT pg_terminate_backend(:own)"), {"own": own})
        other.dispose()
        connection.exec_driver_sql("SELECT 1")


def test_a_cut_connection_in_the_middle_of_a_unit_writes_nothing(postgres: Any, clock: VirtualClock) -> None:
    url = postgres.create()
    store = open_store(url, clock)
    store.jobs.add(job())
    database = connect(url, 2.0, 2)
    with pytest.raises(Busy, match="nothing was written"):
        cut_off(url, database)
    database.close()
    assert len(store.jobs.all()) == 1
    store.close()


def test_two_replicas_that_start_together_make_one_schema(postgres: Any, clock: VirtualClock) -> None:
    from concurrent.futures import ThreadPoolExecutor

    url = postgres.create()
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: open_store(url, clock), range(4)))
    stores[0].jobs.add(job())
    assert [len(store.jobs.all()) for store in stores] == [1] * 4
    for store in stores:
        store.close()
