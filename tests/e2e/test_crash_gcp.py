"""kill -9 of the real daemon at each failpoint of a change in place on the emulated Compute Engine, with a real job.

The change sets the type, then the scheduling, then attaches a GPU. The suite tries the failpoint where most is open;
``python -m tests.e2e.test_crash_gcp`` tries all of them.
"""

from pathlib import Path

import pytest

from tests.e2e.cloud_crash import Crash, try_all
from tests.e2e.test_crash import SITES
from tests.emulators.gce import MUTATIONS
from tests.emulators.gce_machines import PoweredGce

ZONE = "us-central1-a"
SMALL, LARGE = "n1-standard-8", "n1-standard-16+1xT4"
POLICY = f"""\
scaleahead: 1
policies:
  default:
    kind: reactive
    value_of_time_usd_per_hour: 0.5
    limits: {{offers: {{allow: ["gcp/us-central1/{SMALL}", "gcp/us-central1/{LARGE}"]}}}}
    mode: {{default: auto}}
"""
RECORDED = ["stop", "setMachineType", "setScheduling", "setMachineResources", "start"]


@pytest.mark.slow
@pytest.mark.parametrize("site", ["call.sent.modify"])
def test_a_daemon_killed_there_and_restarted_makes_each_call_of_the_move_once(tmp_path: Path, site: str) -> None:
    finish_after_a_kill_at(site, tmp_path)


def finish_after_a_kill_at(site: str, folder: Path) -> None:
    """Let the daemon die at a failpoint and start it again; assert that the move is made once and no step is lost."""
    crash = Crash(site, folder, memory_gib=29.4)
    quick = {"stop_seconds": 0.1, "boot_seconds": 0.1, "change_seconds": 0.1}
    gce = PoweredGce(crash.clock, folder / "disks", crash.tasks, 2**28, **quick)
    gce.start()
    try:
        gce.template("tiny", SMALL)
        gce.launch("vm-1", ZONE, SMALL, "tiny")
        target = {"provider": "gcp", "kind": "vm", "id": "vm-1", "place": ZONE}
        crash.survived(gce, {"gcp": {"project": gce.project, "endpoint": gce.url}}, target, POLICY)
        assert gce.running() == {"vm-1": LARGE}
        made = [call for call in gce.calls if call.method in MUTATIONS]
        asked = {call.query["requestId"]: call for call in made}.values()
        assert [call.method for call in asked] == RECORDED
        assert {call.outcome for call in made} == {"ok"}
    finally:
        gce.close()


if __name__ == "__main__":
    try_all(SITES, finish_after_a_kill_at)
