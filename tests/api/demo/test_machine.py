"""The machines of the demonstration: real processes, really killed, started again and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.demo.cloud import DemoCloud
from api.demo.machine import family, processes, resident_bytes
from providers.clock import ScaledClock
from providers.errors import Invalid
from providers.simulated import wire
from providers.types import Launch, LaunchRecipe, Modify, Start, Stop, Target, Terminate
from tests.providers.simulated.offers import LARGE, SMALL, offer

RATE = 600.0
MIB = 1024 * 1024
TINY = offer("m7i.tiny", 0.1, cores=1, memory_gib=2)

# Keeps its progress on its disk, holds 4 MiB more each step, and holds nothing after it was once killed for memory.
GROWING = """
import os, pathlib, time
disk = pathlib.Path(os.environ["SCALEAHEAD_DISK"])
starts = disk / "starts"
starts.write_text((starts.read_text() if starts.exists() else "") + "[" + os.environ["SCALEAHEAD_LAST_EXIT"] + "]")
progress = disk / "progress"
step = int(progress.read_text()) if progress.exists() else 0
killed = os.environ["SCALEAHEAD_LAST_EXIT"] == "out_of_memory"
held = []
while step < 40:
    if not killed:
        held.append(os.urandom(4 * 1024 * 1024))
    step += 1
    (disk / "next").write_text(str(step))
    (disk / "next").replace(progress)
    time.sleep(0.02)
"""

# Writes its environment and a child's id to its disk, and never ends.
STEADY = """
import json, os, pathlib, subprocess, sys, time
disk = pathlib.Path(os.environ["SCALEAHEAD_DISK"])
holding = "import time; held = b'x' * (24 << 20); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", holding], start_new_session=True)
(disk / "env").write_text(json.dumps({**os.environ, "pid": os.getpid(), "child": child.pid}))
(disk / "env").rename(disk / "ready")
time.sleep(600)
"""

CRASHING = """
import os, pathlib, sys
log = pathlib.Path(os.environ["SCALEAHEAD_DISK"]) / "exits"
log.write_text((log.read_text() if log.exists() else "") + "[" + os.environ["SCALEAHEAD_LAST_EXIT"] + "]")
sys.exit(0 if log.read_text().count("[") == 3 else 7)
"""


def options(disks: Path, command: str, kind: str = TINY.id) -> dict[str, object]:
    """Write the configuration of one machine that runs a piece of Python."""
    return {
        "disks": str(disks),
        "rate": RATE,
        "offers": [wire.encode(one) for one in (TINY, SMALL, LARGE)],
        "machines": [{"id": "one", "offer": kind, "command": [sys.executable, "-S", "-c", command]}],
        "templates": {"steady": {"command": [sys.executable, "-S", "-c", STEADY]}},
    }


def soon(what: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a real process to bring something about; fail after so many real seconds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


def told(demo: DemoCloud, word: str) -> float:
    """Read a figure of the machine's report, 0 while the machine has not been seen."""
    return demo.machines.report().get("one", {}).get(word, 0)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., DemoCloud]]:
    begun: list[DemoCloud] = []

    def one(command: str, kind: str = TINY.id) -> DemoCloud:
        begun.append(DemoCloud(options(tmp_path, command, kind)).__enter__())
        return begun[-1]

    yield one
    for demo in begun:
        demo.__exit__(None, None, None)


def test_a_process_above_the_limit_is_killed_started_again_and_resumes(begin: Callable[..., DemoCloud], tmp_path: Path):
    demo = begin(GROWING)
    # When it was last seen alive: at most the moment of the kill, however late this process notices that.
    alive_at = [time.monotonic()]

    def killed() -> bool:
        now = time.monotonic()
        if told(demo, "out_of_memory"):
            return True
        alive_at.append(now)
        return False

    soon(killed)
    reached = int((tmp_path / "one" / "progress").read_text())
    assert 4 < reached < 40
    soon(lambda: told(demo, "starts") == 2)
    assert time.monotonic() - alive_at[-1] > 0.5 * 60 / RATE
    soon(lambda: told(demo, "done"))
    report = demo.machines.report()["one"]
    assert (report["starts"], report["out_of_memory"], report["crashes"]) == (2, 1, 0)
    assert report["peak_gib"] > 2
    assert (tmp_path / "one" / "starts").read_text() == "[][out_of_memory]"
    (notice,) = demo.cloud.machine("one").notices
    assert notice.kind == "out_of_memory"
    assert "2 GiB" in notice.detail


def test_a_process_within_its_machine_is_left_alone(begin: Callable[..., DemoCloud]):
    demo = begin(GROWING, LARGE.id)
    soon(lambda: told(demo, "done"))
    report = demo.machines.report()["one"]
    assert (report["starts"], report["out_of_memory"]) == (1, 0)
    assert demo.cloud.machine("one").notices == ()


def test_children_count_and_die_with_their_parent(begin: Callable[..., DemoCloud], tmp_path: Path):
    demo = begin(STEADY, SMALL.id)
    soon((tmp_path / "one" / "ready").exists)
    seen = json.loads((tmp_path / "one" / "ready").read_text())
    assert seen["child"] in family(seen["pid"], processes())
    soon(lambda: told(demo, "peak_gib") * 32 * MIB > 24 * MIB + resident_bytes(seen["pid"]))
    demo.machines.close()
    soon(lambda: not alive(seen["pid"]) and not alive(seen["child"]))


def test_a_family_is_a_session_and_all_that_it_started():
    there = {1: (0, 1), 5: (1, 5), 6: (5, 5), 7: (6, 7), 8: (1, 7), 9: (1, 9), 10: (9, 5)}
    assert family(5, there) == (5, 6, 7, 8, 10)
    assert family(4, there) == (4,)


def test_a_crash_is_started_again_until_it_ends_well(begin: Callable[..., DemoCloud], tmp_path: Path):
    demo = begin(CRASHING)
    soon(lambda: told(demo, "done"))
    report = demo.machines.report()["one"]
    assert (report["starts"], report["crashes"], report["out_of_memory"]) == (3, 2, 0)
    assert (tmp_path / "one" / "exits").read_text() == "[][crashed][crashed]"


def test_a_machine_moves_in_place_with_disk_and_port(begin: Callable[..., DemoCloud], tmp_path: Path):
    demo = begin(STEADY, SMALL.id)
    target = Target("simulated", "vm", "one", "us-east-1a")
    ready = tmp_path / "one" / "ready"
    soon(ready.exists)
    before = json.loads(ready.read_text())
    assert before["SCALEAHEAD_OFFER"] == SMALL.id
    assert before["SCALEAHEAD_MACHINE"] == "one"
    assert float(before["SCALEAHEAD_TIME_RATE"]) == RATE
    assert int(before["SCALEAHEAD_BYTES_PER_GIB"]) == 32 * MIB
    shared = ScaledClock(RATE, float(before["SCALEAHEAD_TIME_ORIGIN"]))
    assert abs((shared.now() - demo.cloud.state().at).total_seconds()) < RATE
    demo.cloud.perform(Stop(target), "s")
    soon(lambda: demo.cloud.machine("one").state == "stopped")
    soon(lambda: not alive(before["pid"]) and not alive(before["child"]))
    ready.unlink()
    demo.cloud.perform(Modify(target, LARGE, "machine_type"), "m")
    soon(lambda: demo.cloud.machine("one").offer.id == LARGE.id)
    demo.cloud.perform(Start(target), "t")
    soon(ready.exists)
    after = json.loads(ready.read_text())
    assert after["SCALEAHEAD_OFFER"] == LARGE.id
    assert after["SCALEAHEAD_LAST_EXIT"] == "stopped"
    assert after["SCALEAHEAD_HOOK_PORT"] == before["SCALEAHEAD_HOOK_PORT"]
    assert demo.machines.report()["one"]["limit_gib"] == 64


def test_a_launched_machine_runs_its_template_and_takes_its_disk_along(begin: Callable[..., DemoCloud], tmp_path: Path):
    demo = begin(STEADY, SMALL.id)
    made = demo.cloud.perform(Launch(LaunchRecipe("steady"), LARGE, "two"), "l").made
    assert made is not None
    soon((tmp_path / made.id / "ready").exists)
    pid = json.loads((tmp_path / made.id / "ready").read_text())["pid"]
    demo.cloud.perform(Terminate(made), "x")
    soon(lambda: not (tmp_path / made.id).exists() and not alive(pid))


def test_processes_end_with_a_killed_server(tmp_path: Path):
    config = tmp_path / "cloud.json"
    config.write_text(json.dumps(options(tmp_path / "disks", STEADY, SMALL.id)))
    server = subprocess.Popen(
        [sys.executable, "-m", "api.demo.cloud", "--config", str(config)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("http://127.0.0.1:")
        ready = tmp_path / "disks" / "one" / "ready"
        soon(ready.exists)
        seen = json.loads(ready.read_text())
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        soon(lambda: not alive(seen["pid"]))
    finally:
        server.kill()
        server.communicate()
        with_child = json.loads((tmp_path / "disks" / "one" / "ready").read_text())["child"]
        if alive(with_child):
            os.kill(with_child, signal.SIGKILL)


def test_a_wrong_configuration_is_named(tmp_path: Path):
    with pytest.raises(Invalid, match="colour"):
        DemoCloud({**options(tmp_path, STEADY), "colour": "red"})
    with pytest.raises(Invalid, match="rate"):
        DemoCloud({**options(tmp_path, STEADY), "rate": "fast"})
