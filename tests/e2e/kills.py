"""Kill the real daemon at random while it moves a real job: ``python -m tests.e2e.kills [RUNS] [SEED]``.

Each run is a control host of its own: the daemon is killed with SIGKILL two to four times, at moments drawn at random,
its start among them, and started again. What is asked at the end of each: the move was made once, the job came back
right after the checkpoint that it had acknowledged, no row of what it reported is missing, and no step of it failed.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from daemon.store.open import open_store
from providers.clock import ScaledClock
from tests.e2e.control_host import LARGE, RATE, ControlHost, until

KILLS = (2, 4)
LONGEST_LIFE_SECONDS = 4.0
PATIENCE_SECONDS = 120.0


@dataclass
class Run:
    """What one run came to. ``lost`` counts steps that were done again or left out, ``failed`` steps that raised."""

    kills: int
    effects: list[str]
    acknowledged: int
    lost: int
    failed: int
    crashes: int

    @property
    def sound(self) -> bool:
        """Whether the move was made once, and nothing was lost or failed."""
        bad = self.lost + self.failed + self.crashes
        return self.effects == ["stop", "modify", "start"] and self.acknowledged > 0 and bad == 0


def run(folder: Path, chance: random.Random) -> Run:
    """Kill a daemon at random until its move is done; say what became of the job."""
    kills = chance.randint(*KILLS)
    with ControlHost(folder) as host:
        daemon = host.start_daemon()
        until(host.ready, PATIENCE_SECONDS, "the daemon is ready", host)
        host.register()
        for _ in range(kills):
            time.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS))  # a real process lives as long
            daemon.kill()
            daemon.wait()
            daemon = host.start_daemon()
        until(lambda: _moved(host), PATIENCE_SECONDS, "the move is done", host)
        assert host.cloud.machine("vm-1").offer.id == LARGE
        with urllib.request.urlopen(f"{host.cloud_url}/processes", timeout=20) as answer:
            crashes = int(json.loads(answer.read())["vm-1"]["crashes"])
        effects = host.effects()
        kept = json.loads((folder / "disks" / "vm-1" / "step.json").read_text())
    store = open_store(folder / "scaleahead.sqlite", ScaledClock(RATE, host.origin))
    try:
        spans = store.runs.spans("tiny")
        intact = store.audit.intact()
    finally:
        store.close()
    assert intact
    lost = sum(abs(after.first_step - before.last_step - 1) for before, after in pairwise(spans))
    return Run(kills, effects, kept["step"], lost, kept["errors"], crashes)


def _moved(host: ControlHost) -> bool:
    if not host.ready():
        return False
    decisions = host.ask("GET", "/v1/jobs/tiny/decisions")[1]["decisions"]
    return any(decision["status"] == "done" for decision in decisions)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.kills", description=__doc__)
    parser.add_argument("runs", nargs="?", type=int, default=100)
    parser.add_argument("seed", nargs="?", type=int, default=1)
    given = parser.parse_args()
    began, kills, unsound = time.monotonic(), 0, 0
    for number in range(given.runs):
        with tempfile.TemporaryDirectory() as folder:
            found = run(Path(folder), random.Random(f"{given.seed}/{number}"))
        kills += found.kills
        if not found.sound:
            unsound += 1
            print(f"run {number} of seed {given.seed}: {asdict(found)}", flush=True)
        if number % 10 == 9:
            print(f"{number + 1} runs, {kills} kills, {unsound} unsound", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    print(f"{given.runs} runs, {kills} kills of the daemon, {unsound} unsound; {seconds:.0f} s")
    return int(unsound > 0)


if __name__ == "__main__":
    raise SystemExit(main())
