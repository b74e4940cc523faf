"""``docs/start.md``, done as it says: a daemon, a real PyTorch loop, and its forecast by the commands given there."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.demo.stage import end, free_port
from tests.deploy.words import check
from tests.docs.commands import FOLDER, blocks

ROOT = FOLDER.parent
_INSTALL, SERVE, TRAIN, REGISTER, LOOK, REMOVE = blocks("start.md", "sh")
(LOOP,) = blocks("start.md", "python")
FORESEEN = 'python -c \'import json, sys; sys.exit("usage.memory_gib" not in json.load(sys.stdin)["quantiles"])\''


class Newcomer:
    """Someone at a terminal with a home of their own, in an environment where the two packages are installed."""

    def __init__(self, home: Path) -> None:
        self.home, self.port, self.hook = home, str(free_port()), str(free_port())
        programs = home / "bin"
        programs.mkdir()
        for name, rest in (("scaleahead", "-c 'from api.cli import main; main()' "), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {rest}"$@"\n')
            (programs / name).chmod(0o755)
        path = os.pathsep.join([str(ROOT), str(ROOT / "api" / "client"), os.environ.get("PYTHONPATH", "")])
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SCALEAHEAD", "XDG_STATE"))}
        self.environment = {
            **kept, "HOME": str(home), "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]), "PYTHONPATH": path,
            "SCALEAHEAD_PORT": self.port, "SCALEAHEAD_URL": f"http://127.0.0.1:{self.port}", "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def types(self, commands: str) -> list[str]:
        """Put commands into the shell's words; only the hook's port is another, so that tests can run beside others."""
        return ["bash", "-euc", commands.replace("8700", self.hook)]

    def does(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run commands to their end."""
        return subprocess.run(
            self.types(commands), cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip

    @contextlib.contextmanager
    def leaves_running(self, commands: str, log: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run commands of which the last one stays."""
        first, _, last = commands.strip().rpartition("\n")
        with (self.home / log).open("wb") as file:
            process = subprocess.Popen(
                self.types(f"{first}\n{_replaced_by(last)}"),
                cwd=self.home,
                env=self.environment,
                stdout=file,
                stderr=file,
            )
        try:
            yield process
        finally:
            end(process)

    def awaits(self, commands: str, seconds: float) -> str:
        """Repeat commands until they succeed."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if (ran := self.does(commands)).returncode == 0:
                return ran.stdout
            time.sleep(0.2)  # real processes are waited for
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.home.glob("*.log"))
        raise AssertionError(f"{commands}: {ran.stderr}\n{logs}")


def _replaced_by(command: str) -> str:
    """Let a command take the shell's place, so that ending the shell ends it."""
    settings = re.match(r"(?:\w+=\S+ )*", command)
    assert settings is not None
    return f"{settings[0]}exec {command[settings.end() :]}"


@pytest.mark.slow
def test_a_newcomer_gets_the_forecast_of_their_own_job(tmp_path: Path) -> None:
    person = Newcomer(tmp_path)
    (tmp_path / "train.py").write_text(LOOP)
    # Only how often the daemon asks is another: a reader waits a minute, a test does not.
    quick = "echo 'timing: {poll_seconds: 0.5, turn_seconds: 0.5}' >> scaleahead.yaml\nscaleahead serve"
    with person.leaves_running(SERVE.replace("scaleahead serve", quick), "serve.log"):
        with person.leaves_running(TRAIN, "train.log") as training:
            person.awaits("scaleahead job list", 60)
            registered = person.does(REGISTER)
            assert registered.returncode == 0, registered.stderr
            person.awaits(f"scaleahead forecast mine --json | {FORESEEN}", 90)
            looked = person.does(LOOK)
            assert looked.returncode == 0, looked.stderr
            drawn = looked.stdout
            assert "mine" in drawn
            assert "usage.memory_gib" in drawn
            assert training.poll() is None
            removed = person.does(REMOVE)
            assert removed.returncode == 0, removed.stderr
        assert (tmp_path / "train.log").read_text() == ""


def test_every_command_that_is_named_is_there() -> None:
    text = (FOLDER / "start.md").read_text()
    for command in re.findall(r"`(scaleahead [a-z][^`]*)`", text):
        check([word for word in shlex.split(command) if word not in ("JOB", "PROJECT")])
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (FOLDER / link).is_file(), link
    names = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {"torch", "fastapi"} <= names
    assert "pip install -c constraints.txt -e api/client -e ." in _INSTALL
