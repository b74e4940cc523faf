"""The demonstration's training jobs: moved runs end as unmoved ones, memory grows with the stages, the hook speaks."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from api.demo.train_cnn import Images
from api.demo.train_language_model import Block, LanguageModel, Transformer, corpus
from api.demo.training import Disk, Settings, Task, schedule, settings, train
from daemon.hook import Poller
from daemon.types import Checkpoint, Declared, Report
from providers.clock import SystemClock
from scaleahead import Reporter, Request

TASKS = (LanguageModel, Images)


def small(disk: Path, **changes: Any) -> Settings:
    return Settings(**{"job": "demo", "disk": disk, "total_steps": 12, "work": 0.1, **changes})


class Moved(Exception):
    """The machine is switched off while the job holds."""


class Machine(Reporter):
    """A reporter whose hold ends with the machine's power, at the first checkpoint that was asked for."""

    def hold(self, timeout: float | None = None) -> Any:
        if self.handshake.state == "ready":
            raise Moved
        return "nothing"

    def step(self, step: int, *given: Any, **named: Any) -> None:
        super().step(step, *given, **named)
        if step == 7:
            self.prepare(Request("move"))


def run(make: type[Task], chosen: Settings, kind: type[Reporter] = Reporter) -> tuple[float, Task, list[int]]:
    task = make(chosen)  # type: ignore[call-arg]
    report = kind("demo", usage=dict, every_seconds=0)
    loss = float("nan")
    with contextlib.suppress(Moved):
        loss = train(task, chosen, report)
    return loss, task, [entry["step"] for entry in json.loads(report.body(0))["observations"]]


@pytest.mark.parametrize("make", TASKS)
def test_a_moved_run_repeats_no_step_misses_none_and_ends_the_same(make: type[Task], tmp_path: Path):
    unmoved, model, _ = run(make, small(tmp_path / "unmoved"))
    _, _, before = run(make, small(tmp_path / "moved"), Machine)
    moved, again, after = run(make, small(tmp_path / "moved"))
    assert before + after == list(range(1, 13))
    assert moved == pytest.approx(unmoved, rel=1e-6)
    for one, other in zip(model.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("make", TASKS)
def test_it_learns(make: type[Task], tmp_path: Path):
    chosen = small(tmp_path)
    task = make(chosen)  # type: ignore[call-arg]
    losses = [float(task.learn(step, 16, 32)) for step in range(25)]
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path):
    chosen = small(tmp_path)
    task = Images(chosen)
    disk = Disk(tmp_path)
    for step in (3, 4, 5):
        disk.save(step, task)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000004.pt", "step-000005.pt"]
    (tmp_path / "step-000005.pt").write_bytes(b"torn")
    assert disk.restore(task) == 4
    (tmp_path / "step-000004.pt").write_bytes(b"")
    assert disk.restore(task) == 0


def test_the_language_model_sees_no_future():
    model = Transformer().eval()
    tokens = torch.randint(256, (2, 96), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[:, 70] = (other[:, 70] + 1) % 256
    with torch.no_grad():
        one, two = model(tokens), model(other)
    torch.testing.assert_close(one[:, :70], two[:, :70])
    assert not torch.allclose(one[:, 70:], two[:, 70:])
    assert int((~Block().hidden).sum(dim=1).unique()) == 32


def test_the_schedule_is_declared_as_it_will_be_reported(tmp_path: Path):
    chosen = small(tmp_path)
    report = Reporter("demo", usage=dict, every_seconds=0)
    train(LanguageModel(chosen), chosen, report)
    seen = {e["step"]: e["hyperparameters"] for e in json.loads(report.body(0))["observations"]}
    declared = {s + 1: (batch, length) for s, batch, length in schedule(LanguageModel.stages, 12, 0.1)}
    at = sorted(declared)
    for step, values in seen.items():
        batch, length = declared[max(s for s in at if s <= step)]
        assert (values["batch_size"], values["seq_len"]) == (batch, length)
    assert report.declared[-1] == {"from_step": at[-1], "hyperparameters": {"batch_size": 2.0, "seq_len": 256.0}}


def test_the_network_declares_nothing(tmp_path: Path):
    report = Reporter("demo", usage=dict)
    chosen = small(tmp_path)
    train(Images(chosen), chosen, report)
    assert report.declared == []


def test_periodic_checkpoints_are_written_and_acknowledged(tmp_path: Path):
    report = Reporter("demo", usage=dict)
    chosen = small(tmp_path, save_every_seconds=2.0)
    ticks = iter(range(1000))
    steps: list[int] = []
    report.saved = lambda id, step, *_: steps.append(step)  # type: ignore[method-assign,assignment]
    train(Images(chosen), chosen, report, monotonic=lambda: float(next(ticks)))
    assert len(steps) >= 3
    assert steps == sorted(set(steps))


def test_settings_come_from_arguments_before_the_environment():
    environ = {"SCALEAHEAD_JOB": "a", "SCALEAHEAD_DISK": "/d", "SCALEAHEAD_STEPS": "9", "SCALEAHEAD_TIME_RATE": "30"}
    chosen = settings("lm", 100, ["--work", "0.5"], environ)
    assert (chosen.job, chosen.disk, chosen.total_steps, chosen.work, chosen.rate) == ("a", Path("/d"), 9, 0.5, 30.0)
    assert settings("lm", 100, ["--steps", "5"], environ).total_steps == 5
    assert settings("lm", 100, [], environ | {"SCALEAHEAD_CHECKPOINTS": "/shared"}).disk == Path("/shared")


def test_the_text_is_the_same_every_time():
    assert torch.equal(corpus(5000), corpus(5000))
    assert len(corpus(5000)) == 5000


@contextlib.contextmanager
def started(module: str, port: int, disk: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "SCALEAHEAD_JOB": "demo",
        "SCALEAHEAD_HOOK_PORT": str(port),
        "SCALEAHEAD_DISK": str(disk),
        "SCALEAHEAD_BYTES_PER_GIB": str(32 * 2**20),
    }
    with subprocess.Popen([sys.executable, "-m", module, *arguments], env=env, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def until(port: int, good: Any) -> dict[str, Any]:
    """Poll the real process's hook until its answer is as wanted; at most a minute."""
    ends = time.monotonic() + 60
    pause = threading.Event()
    while time.monotonic() < ends:
        with contextlib.suppress(OSError, http.client.HTTPException):
            body = ask(port, "GET", "/?after=0")
            if good(body):
                return body
        pause.wait(0.05)
    raise AssertionError("the job's hook did not come to what was waited for")


def ask(port: int, method: str, path: str, body: str | None = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


@pytest.mark.slow
def test_a_real_process_is_moved_through_its_hook(tmp_path: Path):
    port = 18731
    with started("api.demo.train_cnn", port, tmp_path, "--steps", "400", "--work", "0.25"):
        first = until(port, lambda body: body["observations"])
        assert first["observations"][0]["usage"]["memory_gib"] > 4
        ask(port, "POST", "/prepare", '{"decision": "d1", "deadline": "2099-01-01T00:00:00Z"}')
        held = until(port, lambda body: body["state"] == "ready")
    step = held["checkpoint"]["step"]
    assert max(entry["step"] for entry in held["observations"]) == step
    assert Path(held["checkpoint"]["uri"]).exists()
    with started("api.demo.train_cnn", port, tmp_path, "--steps", str(step + 3), "--work", "0.25") as process:
        ended = until(port, lambda body: body["state"] == "done")
        assert process.wait(timeout=60) == 0
    assert ended["run"] != held["run"]
    assert [entry["step"] for entry in ended["observations"]] == [step + 1, step + 2, step + 3]


GROWTH = """
from api.demo.training import keep_memory, schedule
keep_memory()
import importlib, sys, torch
from scaleahead.usage import memory_bytes
torch.set_num_threads(1)
module = importlib.import_module(sys.argv[1])
task = getattr(module, sys.argv[2])(None)
for step, batch, length in schedule(task.stages, 100, 1.0):
    task.learn(step, batch, length)
    task.learn(step + 1, batch, length)
    print(memory_bytes()[0] >> 20)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name", "over"), [("language_model", "LanguageModel", 4), ("cnn", "Images", 3)])
def test_memory_crosses_the_first_machine_at_the_stage_it_should(module: str, name: str, over: int):
    command = [sys.executable, "-c", GROWTH, f"api.demo.train_{module}", name]
    said = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    held = [int(line) for line in said.stdout.split()]
    assert held == sorted(held)
    assert all(mib < 512 for mib in held[:over]), held
    assert all(512 < mib < 1024 for mib in held[over:]), held


async def test_the_daemon_hears_all_that_the_client_says_and_is_heard():
    heard: list[Report] = []
    told = asyncio.Event()

    async def on_report(_: str, report: Report) -> None:
        heard.append(report)
        told.set()

    poller = Poller(SystemClock(), on_report, development=True)
    with Reporter("demo", hook_port=0, total_steps=900, every_seconds=0) as made:
        made.declare(500, batch_size=8)
        for step in range(1, 801):
            made.step(step, {"batch_size": 4, "seq_len": 32}, {"loss": 1.0 / step})
        assert made.url is not None
        poller.add("demo", made.url, after=lambda: heard[-1].next if heard else 0)
        task = asyncio.create_task(poller.run())
        try:
            while not heard or heard[-1].observations[-1].step < 800:
                told.clear()
                await asyncio.wait_for(told.wait(), 30)
            await poller.prepare("demo", "d1", datetime(2099, 1, 1, tzinfo=UTC), "growth")
            assert made.checkpoint_due() == Request("d1", datetime(2099, 1, 1, tzinfo=UTC).timestamp(), "growth")
            made.saved("step-800", 800, "/disk/800", 0.5)
            told.clear()
            poller.poll_now("demo")
            await asyncio.wait_for(told.wait(), 30)
            assert heard[-1].state == "ready"
            assert heard[-1].checkpoint == Checkpoint("step-800", 800, 0.5, "/disk/800")
            await poller.proceed("demo")
            assert made.checkpoint_due() is None
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    rows = [row for report in heard for row in report.observations]
    assert [row.step for row in rows] == list(range(1, 801))
    assert all(row.total_steps == 900 and row.usage["memory_gib"] > 0 for row in rows)
    assert not any(report.dropped for report in heard)
    assert heard[0].declared == (Declared(500, {"batch_size": 8.0}),)
