"""Two real ``scaleahead serve`` on one real PostgreSQL: one dies or is stopped in the middle of a move."""

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.demo.stage import end, free_port
from daemon.shards import SHARDS, shard_of
from tests.e2e.control_host import LARGE, ControlHost, until

pytestmark = [pytest.mark.slow, pytest.mark.postgres]
LEASE_SECONDS = 2.0


class Pair:
    """A control host with two replicas."""

    def __init__(self, host: ControlHost) -> None:
        self.host = host
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ports = [free_port(), free_port()]

    def start(self, number: int, failpoint: str = "") -> subprocess.Popen[bytes]:
        process = self.host.start_daemon(SCALEAHEAD_PORT=str(self.ports[number]), SCALEAHEAD_FAILPOINT=failpoint)
        self.processes.append(process)
        return process

    def health(self, number: int) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[number]}/readyz", timeout=5) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except OSError:
            return {}

    def turn_to(self, number: int) -> None:
        """Let the host's questions go to this replica."""
        self.host.port = self.ports[number]
        self.host.url = f"http://127.0.0.1:{self.host.port}"


@pytest.fixture
def pair(tmp_path: Path, postgres: Any) -> Iterator[Pair]:
    with ControlHost(tmp_path, database=postgres.create(), lease=LEASE_SECONDS) as host:
        made = Pair(host)
        try:
            yield made
        finally:
            for process in made.processes:
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGCONT)
                end(process)


def begin(pair: Pair, failpoint: str) -> int:
    """Start both and register the job; give the number of the replica whose it is, which meets the failpoint alone."""
    owner = int(shard_of("tiny") in SHARDS[8:])  # the first gives its last eight to the second
    for number in (0, 1):
        pair.start(number, failpoint if number == owner else "")
        until(lambda number=number: bool(pair.health(number).get("ready")), 60, "it is ready", pair.host)  # type: ignore[misc]
    until(lambda: [len(pair.health(n).get("shards", ())) for n in (0, 1)] == [8, 8], 30, "both hold 8", pair.host)
    assert shard_of("tiny") in pair.health(owner)["shards"]
    assert not set(pair.health(0)["shards"]) & set(pair.health(1)["shards"])
    assert [pair.health(number)["leads"] for number in (0, 1)] == [True, False]
    pair.turn_to(1 - owner)  # registered through the one, worked for by the other
    pair.host.register()
    return owner


def moved_once(pair: Pair, by: int) -> None:
    pair.turn_to(by)

    def done() -> bool:
        decisions = pair.host.ask("GET", "/v1/jobs/tiny/decisions")[1]["decisions"]
        return any(decision["status"] == "done" for decision in decisions)

    until(done, 90, "the other replica finishes the move", pair.host)
    assert pair.host.effects() == ["stop", "modify", "start"]
    machine = pair.host.cloud.machine("vm-1")
    assert (machine.state, machine.offer.id) == ("running", LARGE)


def stopped(process: subprocess.Popen[bytes]) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.fault("A13")
def test_what_a_killed_replica_did_is_finished_by_the_other(pair: Pair) -> None:
    owner = begin(pair, "call.sent.stop")
    dead = pair.processes[owner]
    until(lambda: dead.poll() is not None, 60, "the failpoint is reached", pair.host)
    died = time.monotonic()
    until(lambda: len(pair.health(1 - owner).get("shards", ())) == 16, 20, "the other takes over", pair.host)
    assert time.monotonic() - died < 20
    assert pair.health(1 - owner)["leads"]
    moved_once(pair, 1 - owner)


@pytest.mark.fault("A14")
def test_a_replica_stopped_between_check_and_call_makes_no_call_when_it_wakes(pair: Pair) -> None:
    owner = begin(pair, "call.recorded.stop:STOP")
    paused = pair.processes[owner]
    until(lambda: stopped(paused), 60, "the failpoint is reached", pair.host)
    moved_once(pair, 1 - owner)
    before = [(record.call, record.token) for record in pair.host.cloud.records()]
    os.kill(paused.pid, signal.SIGCONT)
    until(lambda: paused.poll() is not None, 30, "the woken replica ends", pair.host)
    assert paused.returncode == 3
    after = [(record.call, record.token) for record in pair.host.cloud.records()]
    assert [one for one in after if one[0] == "stop"] == [one for one in before if one[0] == "stop"]
    assert len([one for one in after if one[0] == "stop"]) == 1
    moved_once(pair, 1 - owner)
