"""Frameworks' own small training runs under the real daemon and the simulated cloud: moved, and nothing is lost."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.client.tests import moved
from daemon.store.open import open_store
from providers.clock import ScaledClock
from tests.e2e.control_host import RATE, ControlHost, until

pytestmark = pytest.mark.frameworks
NAMES = ("transformers", "lightning", "keras")


@dataclass(frozen=True)
class Told:
    """What came of a run that was moved: the cloud's changes, the run's own word, its checkpoint, its two spans."""

    effects: list[str]
    said: Mapping[str, Any]
    noted: Mapping[str, Any]
    spans: list[Any]


def _move(name: str, folder: Path) -> Told:
    with ControlHost(folder, module=f"api.client.tests.programs.train_{name}") as host:
        host.start_daemon()
        until(host.ready, 90, "the daemon is ready", host)
        host.register()

        def results() -> list[Path]:
            return list((folder / "disks").rglob("result.json"))

        until(lambda: bool(results()), 150, "the run has ended", host)
        effects = host.effects()
        said = json.loads(results()[0].read_text())
        noted = json.loads((results()[0].parent / "scaleahead.json").read_text())
        store = open_store(folder / "scaleahead.sqlite", ScaledClock(RATE, host.origin))
        try:
            return Told(effects, said, noted, list(store.runs.spans("tiny")))
        finally:
            store.close()


@pytest.fixture(scope="module")
def moves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Told]]]:
    """Every framework's run on a control host of its own, all at once: most of their time they wait."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(NAMES)) as hosts:
        patch.setenv("KERAS_BACKEND", "tensorflow")
        yield {name: hosts.submit(_move, name, tmp_path_factory.mktemp(name)) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_moved_by_the_daemon_and_ends_as_if_it_had_stayed(
    name: str, moves: Mapping[str, Future[Told]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    environ = {"KERAS_BACKEND": "tensorflow"} if name == "keras" else {}
    alone = moved.alone(f"train_{name}", tmp_path_factory.getbasetemp(), **environ).end()
    told = moves[name].result()
    assert told.effects == ["stop", "modify", "start"]
    before, after = told.spans
    assert before.last_step == told.noted["step"]
    assert after.first_step == told.said["first"] == told.noted["step"] + 1
    assert told.said["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert (alone["errors"], told.said["errors"]) == (0, 0)
