"""Frameworks' own small training runs under the real daemon and the simulated cloud: moved, and nothing is lost."""

import json
from pathlib import Path

import pytest

from api.client.tests import moved
from daemon.store.open import open_store
from providers.clock import ScaledClock
from tests.e2e.control_host import RATE, ControlHost, until


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["transformers", "lightning", "keras"])
def test_a_run_is_moved_by_the_daemon_and_ends_as_if_it_had_stayed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    program = f"train_{name}"
    alone = moved.alone(program, tmp_path)
    with ControlHost(tmp_path, module=f"api.client.tests.programs.{program}") as host:
        host.start_daemon()
        until(host.ready, 90, "the daemon is ready", host)
        host.register()

        def results() -> list[Path]:
            return list((tmp_path / "disks").rglob("result.json"))

        until(lambda: bool(results()), 150, "the run has ended", host)
        assert host.effects() == ["stop", "modify", "start"]
        said = json.loads(results()[0].read_text())
        noted = json.loads((results()[0].parent / "scaleahead.json").read_text())
        store = open_store(tmp_path / "scaleahead.sqlite", ScaledClock(RATE, host.origin))
        try:
            before, after = store.runs.spans("tiny")
        finally:
            store.close()
    assert before.last_step == noted["step"]
    assert after.first_step == said["first"] == noted["step"] + 1
    assert said["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert (alone["errors"], said["errors"]) == (0, 0)
