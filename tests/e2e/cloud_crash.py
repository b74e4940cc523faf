"""kill -9 of the real daemon at a failpoint of a move on an emulated cloud, over HTTP, with a real job."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from api.demo.machine import Task
from api.demo.stage import free_port
from providers.clock import ScaledClock
from tests.e2e.cloud_host import Asking, CloudHost, asked_for_intents, no_step_is_lost
from tests.e2e.control_host import POLICY, RATE, ROOT, killed, until


@dataclass
class Crash:
    """A daemon that dies at the failpoint ``site`` of the move of one job, whose process uses ``memory_gib``."""

    site: str
    folder: Path
    memory_gib: float
    origin: float = field(default_factory=time.time)
    port: int = field(default_factory=free_port)

    @property
    def clock(self) -> ScaledClock:
        """The clock that cloud, daemon and job share."""
        return ScaledClock(RATE, self.origin)

    @property
    def tasks(self) -> dict[str, Task]:
        """What runs on a machine of the template ``tiny``."""
        env = {
            "SCALEAHEAD_JOB": "tiny", "TINY_MEMORY_GIB": str(self.memory_gib),
            "SCALEAHEAD_CHECKPOINTS": str(self.folder / "job"), "PYTHONPATH": f"{ROOT}:{ROOT / 'api/client'}",
        }  # fmt: skip
        return {"tiny": Task((sys.executable, "-m", "tests.e2e.alone", "tests.e2e.tiny_job"), env, self.port)}

    def survived(
        self, cloud: Asking, providers: Mapping[str, Mapping[str, object]], target: Mapping[str, str],
        policy: str = POLICY, keys: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Let the daemon die there and start it again; assert that the move is finished and no step is lost."""
        timing = {
            "poll_seconds": 5.0, "turn_seconds": 6.0, "look_seconds": 5.0, "repeat_seconds": 20.0,
            "forecast_seconds": 300.0, "stop_seconds": 1.0, "boot_seconds": 1.0, "lease_seconds": 5.0,
        }  # fmt: skip
        settings = {"clock": {"rate": RATE, "origin": self.origin}, "development": True, "timing": timing}
        with CloudHost(self.folder, providers, policy, settings) as host:
            first = host.start_daemon(SCALEAHEAD_FAILPOINT=self.site, **(keys or {}))
            until(host.ready, 60, "the daemon is ready", host)
            host.add(name="tiny", hook=f"http://127.0.0.1:{self.port}/", target=dict(target))
            with asked_for_intents(cloud, host):
                until(lambda: first.poll() is not None, 90, f"the failpoint {self.site} is reached", host)
                assert killed(first), host.log()[-3000:]
                host.start_daemon(**(keys or {}))
                until(lambda: host.ready() and _moved(host), 90, f"the move is finished after {self.site}", host)
            no_step_is_lost(host, "tiny")


def _moved(host: CloudHost) -> bool:
    return any(one["status"] == "done" for one in host.decisions("tiny"))


def try_all(sites: Iterable[str], finish_after_a_kill_at: Callable[[str, Path], None]) -> None:
    """Try every failpoint, one after the other."""
    for site in sites:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            finish_after_a_kill_at(site, Path(folder))
        print(f"{site}: the move was made once and no step was lost ({time.monotonic() - begun:.1f} s)", flush=True)
