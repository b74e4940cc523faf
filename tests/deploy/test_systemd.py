"""The systemd unit: its command is one that the daemon takes, and its hardening is as strong as promised."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon import config as configuration

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "scaleahead.service"


def setting(key: str) -> str:
    found = re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert len(found) == 1, f"{key} is set {len(found)} times"
    return str(found[0])


def test_the_unit_waits_for_readiness_and_watches_the_loop() -> None:
    assert setting("Type") == "notify"
    assert float(setting("WatchdogSec")) >= 10
    assert "2 3" in setting("RestartPreventExitStatus")


def test_its_command_and_environment_are_ones_the_daemon_takes(tmp_path: Path) -> None:
    program, *words = shlex.split(setting("ExecStart"))
    here = shutil.which("scaleahead", path=str(Path(sys.executable).parent))
    assert here is not None
    assert Path(program).name == "scaleahead"
    wrong = tmp_path / "config.yaml"
    wrong.write_text("no_such_setting: 1\n")
    words = [str(wrong) if word.endswith("config.yaml") else word for word in words]
    ran = subprocess.run([here, *words], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2  # the command line was taken; the file was refused
    assert "no_such_setting" in ran.stderr
    given = dict(re.findall(r"^Environment=(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    read = configuration.read(None, given)
    assert str(read.directory) == "/var/lib/scaleahead"
    assert read.log == "json"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze - run make browser")
def test_its_exposure_is_at_most_two() -> None:
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", str(UNIT)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout[-300:] + ran.stderr
