"""Run a training program, move it by the real hook protocol, and compare it with the same program left alone."""
# ruff: noqa: ANN001, ANN003 - shipped beside the client; these types say nothing a reader needs

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 120


class Training:
    """A program in a process of its own; ``folder`` is the disk that stays when its machine goes."""

    def __init__(self, name, folder, **environ) -> None:
        self.folder, self.result = folder, folder / "result.json"
        folder.mkdir(exist_ok=True)
        (folder / "url").unlink(missing_ok=True)
        self.log = folder / "log"
        environ = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **environ,
        }
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", f"api.client.tests.programs.{name}", folder]
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def ask(self, path="", body=None):
        """Ask the hook, once it is there: ``GET``, or ``POST`` where there is a body."""
        where = self.folder / "url"
        self.wait(lambda: where.exists() and where.read_text().startswith("http"), "its hook")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(where.read_text() + path, data, timeout=60) as reply:
            return json.loads(reply.read())

    def wait(self, seen, what):
        """Ask again and again until something is seen. A program that ends before that fails the test."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not seen():
            assert self.process.poll() is None, f"it ended before {what}: {self.log.read_text()[-3000:]}"
            if time.monotonic() > until:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"no {what}: {self.log.read_text()[-3000:]}")
            time.sleep(0.005)  # a real process is waited for

    def move(self, at_step):
        """Ask for a checkpoint once ``at_step`` was reported, wait for the job's word, and take its machine away.

        Without ``at_step`` somebody else asks.
        """

        def newest():
            return (self.ask()["observations"] or [{"step": 0}])[-1]["step"]

        if at_step is not None:
            self.wait(lambda: newest() >= at_step, f"step {at_step}")
            self.ask("/prepare", {"decision": "d1", "deadline": time.time() + 600, "reason": "growth"})
        self.wait(lambda: self.ask()["state"] == "ready", "ready")
        said = self.ask()
        assert said["observations"][-1]["step"] == said["checkpoint"]["step"]
        self.process.kill()
        self.process.wait()
        return said

    def end(self):
        """Wait for the program's end; give what it wrote."""
        code = self.process.wait(PATIENCE_SECONDS)
        assert code == 0, self.log.read_text()[-3000:]
        return json.loads(self.result.read_text())


@functools.cache
def alone(name, root, **environ):
    """Start a program that nobody moves, once for all tests: it draws the same numbers every time. ``end`` has them."""
    return Training(name, Path(tempfile.mkdtemp(prefix=f"{name}-alone-", dir=root)), **environ)


def moved(name, folder, at_step, **environ):
    """Give what the hook said when the program was moved, and what came of it after that."""
    said = Training(name, folder / "moved", **environ).move(at_step)
    return said, Training(name, folder / "moved", **environ).end()
