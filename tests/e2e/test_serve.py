"""``scaleahead serve`` with a job of one's own, over HTTP, as in the README."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.control_host import HOOK_TOKEN, POLICY, ControlHost, killed, until

RECOMMEND = POLICY.replace("default: auto", "default: recommend")


@pytest.mark.slow
def test_a_job_of_ones_own_is_forecast_decided_and_explained(tmp_path: Path) -> None:
    with ControlHost(tmp_path, RECOMMEND, secured=True) as host, _service_manager() as (manager, named):
        host.start_daemon(NOTIFY_SOCKET=named, WATCHDOG_USEC="20000000")
        until(host.ready, 60, "the daemon is ready", host)
        host.register()

        def forecast() -> Any:
            return host.ask("GET", "/v1/jobs/tiny/forecast")[1]

        until(lambda: bool(forecast()["steps"]), 15, "a forecast", host)
        heard = host.ask("GET", "/v1/jobs/tiny/history?rows=500")[1]
        # Three polls of 0.4 real seconds, and what a turn takes.
        assert len(set(heard["at"])) <= 12

        def decided() -> Any:
            return host.ask("GET", "/v1/jobs/tiny/decisions?full=true")[1]["decisions"]

        until(lambda: bool(decided()), 15, "a decision", host)
        decision = decided()[0]
        assert decision["status"] == "recommended"
        assert decision["chosen"].endswith("r5.xlarge")
        assert "memory" in decision["reason"]
        assert {option["offer"]["id"] for option in decision["options"]} >= {decision["current"], decision["chosen"]}
        assert decision["inputs_hash"]
        assert host.effects() == []

        _an_edit_takes_effect(host)
        _a_broken_policy_is_refused_with_its_line(host)
        _a_second_daemon_is_refused(host)
        assert host.effects() == []
        assert HOOK_TOKEN not in host.log()
        assert host.ask("GET", "/v1/jobs/tiny")[1]["has_hook_token"] is True
        _the_service_manager_was_told(host, manager)


@contextlib.contextmanager
def _service_manager() -> Iterator[tuple[socket.socket, str]]:
    name = f"scaleahead-serve-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.setblocking(False)
        yield manager, f"@{name}"


def _the_service_manager_was_told(host: ControlHost, manager: socket.socket) -> None:
    """Readiness once, the sign of life, and the end of it. Its queue is short: the signs are far apart here."""
    assert host.daemon is not None
    host.daemon.terminate()
    until(lambda: host.daemon is not None and host.daemon.poll() is not None, 30, "the daemon ends", host)
    assert host.daemon.returncode == 0
    heard: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.append(manager.recv(100))
    assert heard.count(b"READY=1") == 1
    assert b"WATCHDOG=1" in heard
    assert heard[-1] == b"STOPPING=1"


def _version(host: ControlHost) -> str:
    listed = host.ask("GET", "/v1/policies")[1]["policies"]
    return next(str(one["version"]) for one in listed if one["name"] == "default")


def _an_edit_takes_effect(host: ControlHost) -> None:
    before = _version(host)
    began = time.monotonic()
    host.policy.write_text(RECOMMEND.replace("value_of_time_usd_per_hour: 0.5", "value_of_time_usd_per_hour: 7"))
    until(lambda: _version(host) != before, 10, "the edited policy is in force", host)
    assert time.monotonic() - began < 4  # 2 s is the promise; the rest is for a busy machine


def _a_broken_policy_is_refused_with_its_line(host: ControlHost) -> None:
    before = _version(host)
    host.policy.write_text(RECOMMEND.replace("kind: reactive", "kind: reactivv"))

    def problems() -> list[str]:
        found: list[str] = host.ask("GET", "/v1/fleet")[1]["policy_problems"]
        return found

    until(lambda: bool(problems()), 10, "the problem is said", host)
    assert "policies.yaml:4:" in problems()[0]
    assert "reactive" in problems()[0]
    assert _version(host) == before
    host.policy.write_text(RECOMMEND)
    until(lambda: not problems(), 10, "the mended policy is in force", host)


def _a_second_daemon_is_refused(host: ControlHost) -> None:
    first = host.daemon
    second = host.start_daemon(SCALEAHEAD_PORT="0")
    until(lambda: second.poll() is not None, 60, "the second daemon ends", host)
    host.daemon = first
    assert second.returncode == 3
    assert "holds the lease" in host.log()
    assert first is not None
    assert not killed(first)
    assert first.poll() is None
