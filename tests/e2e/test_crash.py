"""kill -9 of the real daemon at every committed step of an action, over HTTP, with a real job on the machine."""

from itertools import pairwise
from pathlib import Path

import pytest

from daemon.store.open import open_store
from providers.clock import ScaledClock
from tests.e2e.control_host import LARGE, RATE, ControlHost, killed, until

SITES = (
    "intent.committed", "stage.checkpointing", "checkpoint.asked", "stage.stopping",
    "call.recorded.stop", "call.sent.stop", "call.resolved.stop", "stage.modifying",
    "call.recorded.modify", "call.sent.modify", "call.resolved.modify", "stage.starting",
    "call.recorded.start", "call.sent.start", "call.resolved.start", "stage.verifying", "stage.done",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES)
@pytest.mark.fault("A2", "A3", "A4", "A5", "A6", "A7")
def test_a_daemon_killed_there_and_restarted_finishes_the_move_once(tmp_path: Path, site: str) -> None:
    with ControlHost(tmp_path) as host:
        first = host.start_daemon(SCALEAHEAD_FAILPOINT=site)
        until(host.ready, 60, "the daemon is ready", host)
        host.register()
        until(lambda: first.poll() is not None, 60, f"the failpoint {site} is reached", host)
        assert killed(first), host.log()[-3000:]

        host.start_daemon()
        until(lambda: _finished(host), 60, f"the move is finished after {site}", host)
        assert host.effects() == ["stop", "modify", "start"]
        machine = host.cloud.machine("vm-1")
        assert machine.state == "running"
        assert machine.offer.id == LARGE
        _nothing_acknowledged_is_lost(host)


@pytest.mark.slow
@pytest.mark.parametrize("site", ["intent.committed", "call.recorded.stop", "call.sent.modify"])
@pytest.mark.fault("A10")
def test_a_daemon_told_to_end_there_ends_in_order_and_the_next_finishes_the_move(tmp_path: Path, site: str) -> None:
    with ControlHost(tmp_path) as host:
        first = host.start_daemon(SCALEAHEAD_FAILPOINT=f"{site}:TERM")
        until(host.ready, 60, "the daemon is ready", host)
        host.register()
        until(lambda: first.poll() is not None, 60, f"the daemon ends at {site}", host)
        assert first.returncode == 0, host.log()[-3000:]
        assert "Traceback" not in host.log()

        host.start_daemon()
        until(lambda: _finished(host), 60, f"the move is finished after {site}", host)
        assert host.effects() == ["stop", "modify", "start"]
        _nothing_acknowledged_is_lost(host)


def _finished(host: ControlHost) -> bool:
    if not host.ready():
        return False
    decisions = host.ask("GET", "/v1/jobs/tiny/decisions")[1]["decisions"]
    return any(decision["status"] == "done" for decision in decisions)


def _nothing_acknowledged_is_lost(host: ControlHost) -> None:
    """The job resumed exactly after the checkpoint it was asked for, and every row of the first run is there."""
    store = open_store(host.directory / "scaleahead.sqlite", ScaledClock(RATE, host.origin))
    try:
        spans = store.runs.spans("tiny")
        assert store.audit.intact()
    finally:
        store.close()
    assert spans
    for before, after in pairwise(spans):
        assert after.first_step == before.last_step + 1
