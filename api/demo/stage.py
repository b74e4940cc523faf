"""Edge: set the demonstration up: its directory, its simulated cloud, the daemon, and the jobs, each a real process."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

RATE = 60.0
"""Simulated seconds in a real one: a minute a second."""
STEP_SECONDS = 0.2
"""The least real time of a training step, so that a fast computer's jobs do not end before anything is seen."""
BYTES_PER_GIB = 32 * 1024 * 1024
FIRST_OFFER = "aws/us-east-1/m5.xlarge"
OFFERS = (
    "aws/us-east-1/c5.xlarge", "aws/us-east-1/m5.xlarge", "aws/us-east-1/r5.xlarge", "aws/us-east-1/r5.2xlarge",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cast:
    """One job on the stage: its name, its policy, what it trains, and whose reactive twin it is."""

    name: str
    policy: str
    module: str
    twin_of: str | None = None


CAST = (
    Cast("language-model", "ahead", "api.demo.train_language_model"),
    Cast("language-model-reactive", "reacting", "api.demo.train_language_model", "language-model"),
    Cast("cnn", "ahead", "api.demo.train_cnn"),
    Cast("cnn-reactive", "reacting", "api.demo.train_cnn", "cnn"),
)


class StageError(Exception):
    """The demonstration could not be set up. ``str()`` is one line."""


class Stage:
    """Everything that runs in the demonstration. Use it as a context: leaving it ends every process."""

    def __init__(self, seconds: float, environment: Mapping[str, str]) -> None:
        self.seconds = seconds
        self.origin = time.time()
        self.directory = Path(tempfile.mkdtemp(prefix="scaleahead-demo-"))
        self.environment = dict(environment)
        self.ports = {member.name: free_port() for member in CAST}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.cloud_url = ""
        self._cloud: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._daemon, self._cloud):
            end(process)
        if self.environment.get("SCALEAHEAD_DEMO_KEEP") != "1":
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def daemon_pid(self) -> int | None:
        """The daemon's process id."""
        return self._daemon.pid if self._daemon else None

    @property
    def database(self) -> Path:
        """The daemon's store."""
        return self.directory / "scaleahead.sqlite"

    def start_cloud(self) -> None:
        """Start the simulated cloud; the training processes begin with their machines."""
        python = sys.executable
        machines = [
            {
                "id": f"vm-{member.name}", "offer": FIRST_OFFER, "command": [python, "-m", member.module],
                "hook_port": self.ports[member.name], "labels": {"job": member.name},
                "env": {
                    "SCALEAHEAD_JOB": member.name, "SCALEAHEAD_STEP_SECONDS": str(STEP_SECONDS),
                    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
                },
            }
            for member in CAST
        ]  # fmt: skip
        config = {
            "rate": RATE, "origin": self.origin, "offers": list(OFFERS), "disks": str(self.directory / "disks"),
            "delays": {"boot_seconds": 40.0, "stop_seconds": 20.0, "modify_seconds": 2.0},
            "machines": machines, "bytes_per_gib": BYTES_PER_GIB, "restart_seconds": 60.0,
            "state_path": str(self.directory / "cloud.json"),
        }  # fmt: skip
        path = self.directory / "cloud-config.json"
        path.write_text(json.dumps(config))
        self._cloud = self._spawn("cloud", [python, "-m", "api.demo.cloud", "--config", str(path)], pipe=True)
        assert self._cloud.stdout is not None
        self.cloud_url = self._cloud.stdout.readline().decode().strip()
        if not self.cloud_url.startswith("http"):
            raise StageError(f"the simulated cloud did not start - see {self.directory / 'cloud.log'}")

    def start_daemon(self) -> None:
        """Start the daemon, or start it again after it died."""
        path = self.directory / "config.yaml"
        if not path.exists():
            policies = self.directory / "policies.yaml"
            shutil.copy(Path(__file__).with_name("policies.yaml"), policies)
            self._write_config(path, policies)
        command = [sys.executable, "-c", "from api.cli import main; main()", "serve", "--config", str(path)]
        self._daemon = self._spawn("daemon", command)

    def _write_config(self, path: Path, policies: Path) -> None:
        config = {
            "port": self.port, "state_directory": str(self.directory), "policies": [str(policies)],
            "providers": {"simulated": {"url": self.cloud_url}}, "development": True, "open_read": True,
            "clock": {"rate": RATE, "origin": self.origin}, "log": "json",
            "timing": {
                "poll_seconds": 30.0, "turn_seconds": 60.0, "look_seconds": 20.0, "repeat_seconds": 60.0,
                "forecast_seconds": 300.0, "stop_seconds": 20.0, "boot_seconds": 40.0, "restart_seconds": 60.0,
                "patience": 4.0, "restore_seconds": 300.0, "checkpoint_seconds": 10.0,
            },
        }  # fmt: skip
        with path.open("w") as file:
            YAML().dump(config, file)

    def _spawn(self, name: str, command: list[str], pipe: bool = False) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=subprocess.PIPE if pipe else log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def await_daemon(self, seconds: float = 60.0) -> None:
        """Wait until the daemon answers. Raises ``StageError``."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._daemon is not None and self._daemon.poll() is not None:
                break
            with contextlib.suppress(OSError, ValueError):
                if self.get("/readyz")["ready"]:
                    return
            time.sleep(0.1)
        raise StageError(f"the daemon did not start: {self.last_words('daemon')}")

    def daemon_died(self) -> bool:
        """Whether the daemon has ended by itself."""
        return self._daemon is not None and self._daemon.poll() is not None

    def last_words(self, name: str) -> str:
        """The last line that a process logged."""
        path = self.directory / f"{name}.log"
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return lines[-1] if lines else "it said nothing"

    def register(self) -> None:
        """Register the jobs through REST, as anyone would."""
        token = (self.directory / "token").read_text().strip()
        for member in CAST:
            body = {
                "name": member.name, "hook": f"http://127.0.0.1:{self.ports[member.name]}/", "policy": member.policy,
                "target": {
                    "provider": "simulated", "kind": "vm", "id": f"vm-{member.name}", "place": "us-east-1",
                },
            }  # fmt: skip
            self.post("/v1/jobs", body, token, key=f"demo-{member.name}")

    def get(self, path: str, default: Any = None) -> Any:
        """Read from the daemon; ``default`` when it does not answer just now."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            if default is None:
                raise
            return default

    def post(self, path: str, body: object, token: str, key: str) -> Any:
        """Post to the daemon. Raises ``StageError`` with its own words when it refuses."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": key}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise StageError(f"{path} was refused: {error.read().decode(errors='replace')[:300]}") from None


def free_port() -> int:
    """Find a port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def end(process: subprocess.Popen[bytes] | None) -> None:
    """End a process, kindly first."""
    if process is None:
        return
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
