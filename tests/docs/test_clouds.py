"""``docs/how-to/aws.md`` and ``gcp.md``, done as they say: from an emulated account to a job in recommend mode."""

import json
from pathlib import Path

import pytest

from api.demo.stage import free_port
from tests.docs.commands import FOLDER, blocks
from tests.docs.test_start import Newcomer

PORTS = {"aws": "4580", "gcp": "4590"}


@pytest.mark.slow
@pytest.mark.parametrize("cloud", PORTS)
def test_a_stranger_comes_to_a_registered_job_in_recommend_mode(cloud: str, tmp_path: Path) -> None:
    port = str(free_port())
    emulator, serve, register = (block.replace(PORTS[cloud], port) for block in blocks(f"how-to/{cloud}.md", "sh"))
    person = Newcomer(tmp_path)
    piped = emulator.replace(" | tee ", " > ")  # so that the emulator, not the pipe's end, is ended by the test
    with person.leaves_running(piped, "emulator.log"):
        log = tmp_path / ("aws.log" if cloud == "aws" else "emulator.log")
        person.awaits(f"test $(wc -l < {log}) -ge {2 if cloud == 'aws' else 1}", 60)
        with person.leaves_running(serve, "serve.log"):
            person.awaits("exec 3<>/dev/tcp/127.0.0.1/$SCALEAHEAD_PORT", 60)
            done = person.does(register)
            assert done.returncode == 0, done.stderr
            job = json.loads(person.does("scaleahead job show bert --json").stdout)
    assert (job["target"]["provider"], job["state"], job["mode"]) == (cloud, "active", None)
    assert "default: recommend" in (tmp_path / cloud / "policies.yaml").read_text()
    told = (tmp_path / "serve.log").read_text()
    assert "Traceback" not in told
    assert "permission" not in told or "no permission is known to be missing" in told


@pytest.mark.parametrize("cloud", PORTS)
def test_every_file_that_is_named_is_there(cloud: str) -> None:
    text = (FOLDER / "how-to" / f"{cloud}.md").read_text()
    for link in (one.partition(")")[0].partition("#")[0] for one in text.split("](")[1:]):
        assert (FOLDER / "how-to" / link).is_file(), link
