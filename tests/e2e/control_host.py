"""A whole control host for tests: the simulated cloud and the daemon as real processes, and a way to talk to them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from api.demo.stage import end, free_port
from providers.simulated.remote import Remote
from tests.certificates import issue

RATE = 10.0
ROOT = Path(__file__).parents[2]
SMALL, LARGE = "aws/us-east-1/m5.xlarge", "aws/us-east-1/r5.xlarge"
HOOK_TOKEN = "a-token-of-the-jobs-own"
MUTATIONS = ("stop", "modify", "start", "launch", "terminate", "resize", "remove")
POLICY = """\
scaleahead: 1
policies:
  default:
    kind: reactive
    value_of_time_usd_per_hour: 0.5
    limits: {offers: {allow: ["aws/us-east-1/m5.xlarge", "aws/us-east-1/r5.xlarge"]}}
    mode: {default: auto}
"""


class ControlHost:
    """Cloud, daemon and one tiny job on one machine. Use it as a context."""

    target: Mapping[str, str] = {"kind": "vm", "id": "vm-1"}

    def __init__(
        self,
        directory: Path,
        policy: str = POLICY,
        memory_gib: float = 15.7,
        database: str = "",
        lease: float = 5.0,
        module: str = "tests.e2e.tiny_job",
        secured: bool = False,
    ) -> None:
        self.directory, self.module = directory, module
        self.origin = time.time()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.hook_port = free_port()
        self.memory_gib = memory_gib
        self.database = database
        self.lease = lease
        self.secured = secured
        if secured:
            issue(directory)
        self.policy = directory / "policies.yaml"
        self.policy.write_text(policy)
        self.cloud_process: subprocess.Popen[bytes] | None = None
        self.daemon: subprocess.Popen[bytes] | None = None
        self.cloud_url = ""

    def __enter__(self) -> "ControlHost":
        self._start_cloud()
        self.cloud = Remote(self.cloud_url)
        self._write_config()
        return self

    def __exit__(self, *_: object) -> None:
        end(self.daemon)
        end(self.cloud_process)

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}

    def cloud_config(self) -> dict[str, Any]:
        """Say what the cloud is: one machine, which runs the job."""
        return {
            "rate": RATE, "origin": self.origin, "offers": [SMALL, LARGE], "disks": str(self.directory / "disks"),
            "delays": {"boot_seconds": 4.0, "stop_seconds": 2.0, "modify_seconds": 1.0},
            "machines": [{
                "id": "vm-1", "offer": SMALL, "command": [sys.executable, "-m", self.module],
                "hook_port": self.hook_port,
                "env": {
                    "SCALEAHEAD_JOB": "tiny", "TINY_MEMORY_GIB": str(self.memory_gib),
                    **(self._secrets() if self.secured else {}),
                },
            }],
            "state_path": str(self.directory / "cloud.json"), "bytes_per_gib": 2**28,
        }  # fmt: skip

    def _secrets(self) -> dict[str, str]:
        certificate, key = (str(self.directory / name) for name in ("hook.pem", "hook.key"))
        return {"SCALEAHEAD_TOKEN": HOOK_TOKEN, "SCALEAHEAD_HOOK_CERT": certificate, "SCALEAHEAD_HOOK_KEY": key}

    def _start_cloud(self) -> None:
        config = self.cloud_config()
        path = self.directory / "cloud-config.json"
        path.write_text(json.dumps(config))
        with (self.directory / "cloud.log").open("wb") as log:
            self.cloud_process = subprocess.Popen(
                [sys.executable, "-m", "api.demo.cloud", "--config", str(path)],
                stdout=subprocess.PIPE, stderr=log, env=self._environment({}),
            )  # fmt: skip
        assert self.cloud_process.stdout is not None
        self.cloud_url = self.cloud_process.stdout.readline().decode().strip()

    def _write_config(self) -> None:
        config = {
            "port": self.port, "state_directory": str(self.directory), "policies": [str(self.policy)],
            "providers": {"simulated": {"url": self.cloud_url}}, "development": True, "log": "json",
            "forecaster": "daemon.forecast.persist:Persist", "clock": {"rate": RATE, "origin": self.origin},
            "timing": {
                "poll_seconds": 4.0, "turn_seconds": 6.0, "look_seconds": 2.0, "repeat_seconds": 30.0,
                "forecast_seconds": 300.0, "stop_seconds": 2.0, "boot_seconds": 4.0,
                "lease_seconds": self.lease,
            },
            "database": self.database, "hook_ca": str(self.directory / "ca.pem") if self.secured else "",
        }  # fmt: skip
        with (self.directory / "config.yaml").open("w") as file:
            YAML().dump(config, file)

    def start_daemon(self, **environment: str) -> subprocess.Popen[bytes]:
        with (self.directory / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-c", "from api.cli import main; main()", "serve", "--config",
                 str(self.directory / "config.yaml")],
                stdout=log, stderr=log, env=self._environment(environment),
            )  # fmt: skip
        return self.daemon

    def log(self) -> str:
        return (self.directory / "daemon.log").read_text(errors="replace")

    @property
    def token(self) -> str:
        return (self.directory / "token").read_text().strip()

    def ask(self, method: str, path: str, body: object = None, raw: bytes | None = None) -> tuple[int, Any]:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    def ready(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return self.ask("GET", "/readyz")[0] == 200
        return False

    def register(self, name: str = "tiny") -> None:
        status, answer = self.ask(
            "POST", "/v1/jobs",
            {
                "name": name, "hook": f"http{'s' if self.secured else ''}://127.0.0.1:{self.hook_port}/",
                **({"hook_token": HOOK_TOKEN} if self.secured else {}),
                "target": {"provider": "simulated", "place": "us-east-1", **self.target},
            },
        )  # fmt: skip
        assert status in (200, 201), answer

    def effects(self) -> list[str]:
        """The mutations that took effect, in order."""
        return [record.call for record in self.cloud.records() if record.call in MUTATIONS and record.outcome == "ok"]


def until(check: Callable[[], bool], seconds: float, what: str, host: ControlHost, pause: float = 0.05) -> None:
    """Wait for real processes, bounded: they are the subject here."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {what}\n{host.log()[-4000:]}")


def killed(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process was killed by SIGKILL."""
    return process.poll() == -signal.SIGKILL
