"""A daemon as the image and the compose file run it: their command, environment and configuration, over TLS."""

import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.demo.stage import end, free_port
from tests.deploy import dockerfile

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "how-to" / "control-host.md"


@dataclass(frozen=True)
class Served:
    """Where the daemon answers, its state, and its certificate."""

    url: str
    directory: Path
    trust: ssl.SSLContext

    def register(self, name: str) -> None:
        """Register a job that pushes its reports."""
        self.text("/v1/jobs", json.dumps({"name": name}).encode())

    def text(self, path: str, body: bytes | None = None) -> str:
        """Get something with the admin token, or post a body."""
        asked = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        asked.add_header("Authorization", f"Bearer {(self.directory / 'token').read_text().strip()}")
        with urllib.request.urlopen(asked, timeout=20, context=self.trust) as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The daemon, ready."""
    folder = tmp_path_factory.mktemp("container")
    (folder / "tls").mkdir()
    made = re.search(r"^openssl (?:.*\\\n)*.*$", GUIDE.read_text(), re.MULTILINE)
    assert made is not None
    subprocess.run(made[0], shell=True, check=True, capture_output=True, cwd=folder, timeout=60)
    config = (ROOT / "deploy" / "compose" / "config.yaml").read_text()
    config = config.replace("/etc/scaleahead/tls", str(folder / "tls"))
    config = config.replace("/etc/scaleahead/policies", str(ROOT / "deploy" / "compose" / "policies"))
    (folder / "config.yaml").write_text(config)
    port = free_port()
    process = _started(folder, port)
    try:
        found = Served(f"https://127.0.0.1:{port}", folder, ssl.create_default_context(cafile=folder / "tls/tls.crt"))
        _wait_until_ready(found, process)
        yield found
    finally:
        end(process)


def _started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    words = [str(folder / "config.yaml") if word.endswith("config.yaml") else word for word in dockerfile.command()]
    assert words[0] == "scaleahead"
    given = {name: value for name, value in dockerfile.environment().items() if name.startswith("SCALEAHEAD_")}
    # Of the image's own settings only the folder differs; the recurrent forecaster would take seconds to start.
    changed = {
        "SCALEAHEAD_STATE_DIRECTORY": str(folder), "SCALEAHEAD_PORT": str(port),
        "SCALEAHEAD_FORECASTER": "daemon.forecast.persist:Persist", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", "from api.cli import main; main()", *words[1:]],
            stdout=log, stderr=log, env={**os.environ, **given, **changed},
        )  # fmt: skip


def _wait_until_ready(served: Served, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends and process.poll() is None:
        try:
            served.text("/readyz")
            return
        except OSError:
            time.sleep(0.1)  # a real process is waited for
    raise AssertionError((served.directory / "log").read_text()[-2000:])
