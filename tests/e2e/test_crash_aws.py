"""kill -9 of the real daemon at each failpoint of a change in place on the emulated AWS, over HTTP, with a real job.

The suite tries the one where most is open; ``python -m tests.e2e.test_crash_aws`` tries all of them.
"""

from pathlib import Path

import pytest

from tests.e2e.cloud_crash import Crash, try_all
from tests.e2e.cloud_host import KEYS
from tests.e2e.test_crash import SITES
from tests.emulators.aws import MUTATIONS
from tests.emulators.aws_machines import PoweredAws

RECORDED = ["StopInstances", "CreateTags", "ModifyInstanceAttribute", "StartInstances", "CreateTags"]
"""The mutations of a change in place, the marks of their tokens among them."""


@pytest.mark.slow
def test_a_daemon_killed_with_the_change_sent_and_restarted_makes_each_call_of_the_move_once(tmp_path: Path) -> None:
    finish_after_a_kill_at("call.sent.modify", tmp_path)


def finish_after_a_kill_at(site: str, folder: Path) -> None:
    """Let the daemon die at a failpoint and start it again; assert that the move is made once and no step is lost."""
    crash = Crash(site, folder, memory_gib=15.7)
    aws = PoweredAws(crash.clock, folder / "disks", crash.tasks, 2**28, boot_seconds=0.1, stop_seconds=0.1)
    aws.start()
    try:
        aws.template("tiny", "m5.xlarge")
        identity = aws.launch("tiny", "m5.xlarge")
        aws.calls.clear()
        target = {"provider": "aws", "kind": "vm", "id": identity, "place": "us-east-1a"}
        crash.survived(aws, {"aws": {"region": "us-east-1", "endpoint": aws.url}}, target, keys=KEYS)
        assert aws.running() == {identity: "r5.xlarge"}
        made = [call for call in aws.calls if call.action in MUTATIONS and call.outcome == "ok"]
        assert [call.action for call in made] == RECORDED
    finally:
        aws.close()


if __name__ == "__main__":
    try_all(SITES, finish_after_a_kill_at)
