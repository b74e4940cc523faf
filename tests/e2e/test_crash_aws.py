"""kill -9 of the real daemon at each failpoint of a change in place on the emulated AWS, over HTTP, with a real job.

The suite tries the two where most is open; ``python -m tests.e2e.test_crash_aws`` tries all of them.
"""

import sys
import tempfile
import time
from pathlib import Path

import pytest

from api.demo.machine import Task
from api.demo.stage import free_port
from providers.clock import ScaledClock
from tests.e2e.cloud_host import KEYS, CloudHost, asked_for_intents, no_step_is_lost
from tests.e2e.control_host import POLICY, RATE, ROOT, killed, until
from tests.e2e.test_crash import SITES
from tests.emulators.aws import MUTATIONS
from tests.emulators.aws_machines import PoweredAws

RECORDED = ["StopInstances", "CreateTags", "ModifyInstanceAttribute", "StartInstances", "CreateTags"]
"""The mutations of a change in place, the marks of their tokens among them."""


@pytest.mark.slow
@pytest.mark.parametrize("site", ["call.sent.stop", "call.sent.modify"])
def test_a_daemon_killed_there_and_restarted_makes_each_call_of_the_move_once(tmp_path: Path, site: str) -> None:
    finish_after_a_kill_at(site, tmp_path)


def finish_after_a_kill_at(site: str, folder: Path) -> None:
    """Let the daemon die at a failpoint and start it again; assert that the move is made once and no step is lost."""
    origin, port = time.time(), free_port()
    env = {
        "SCALEAHEAD_JOB": "tiny", "TINY_MEMORY_GIB": "15.7", "SCALEAHEAD_CHECKPOINTS": str(folder / "job"),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'api/client'}",
    }  # fmt: skip
    tasks = {"tiny": Task((sys.executable, "-m", "tests.e2e.alone", "tests.e2e.tiny_job"), env, port)}
    aws = PoweredAws(ScaledClock(RATE, origin), folder / "disks", tasks, 2**28, boot_seconds=0.1)
    aws.start()
    try:
        aws.template("tiny", "m5.xlarge")
        identity = aws.launch("tiny", "m5.xlarge")
        aws.calls.clear()
        timing = {
            "poll_seconds": 5.0, "turn_seconds": 6.0, "look_seconds": 5.0, "repeat_seconds": 20.0,
            "forecast_seconds": 300.0, "stop_seconds": 1.0, "boot_seconds": 1.0, "lease_seconds": 5.0,
        }  # fmt: skip
        settings = {"clock": {"rate": RATE, "origin": origin}, "development": True, "timing": timing}
        provider = {"region": "us-east-1", "endpoint": aws.url}
        with CloudHost(folder, {"aws": provider}, POLICY, settings) as host:
            first = host.start_daemon(SCALEAHEAD_FAILPOINT=site, **KEYS)
            until(host.ready, 60, "the daemon is ready", host)
            host.add(
                name="tiny", hook=f"http://127.0.0.1:{port}/",
                target={"provider": "aws", "kind": "vm", "id": identity, "place": "us-east-1a"},
            )  # fmt: skip
            with asked_for_intents(aws, host):
                until(lambda: first.poll() is not None, 90, f"the failpoint {site} is reached", host)
                assert killed(first), host.log()[-3000:]
                host.start_daemon(**KEYS)
                until(lambda: host.ready() and _moved(host), 90, f"the move is finished after {site}", host)
            assert aws.running() == {identity: "r5.xlarge"}
            made = [call for call in aws.calls if call.action in MUTATIONS and call.outcome == "ok"]
            assert [call.action for call in made] == RECORDED
            no_step_is_lost(host, "tiny")
    finally:
        aws.close()


def _moved(host: CloudHost) -> bool:
    return any(one["status"] == "done" for one in host.decisions("tiny"))


def main() -> None:
    """Try every failpoint, one after the other."""
    for site in SITES:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            finish_after_a_kill_at(site, Path(folder))
        print(f"{site}: the move was made once and no step was lost ({time.monotonic() - begun:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
