"""Edge: a process that writes and says so, to be killed: argument 1 is the store's URL."""

import sys
from datetime import UTC, datetime

from daemon.store.open import open_store
from daemon.types import Job, JobStatus, Observation, Report
from providers.clock import SystemClock


def write_on(url: str) -> None:
    store = open_store(url, SystemClock())
    store.jobs.add(Job("bert", datetime.now(UTC), "default"))
    for number in range(1_000_000):
        row = Observation("r", number, number, None, datetime.now(UTC), metrics={"loss": 1.0})
        store.audit.note("writer", "wrote", str(number), {})
        store.telemetry.append(Report("bert", "r", number, (row,)), None, JobStatus())
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    write_on(sys.argv[1])
