"""Edge: what the demonstration's training jobs share: settings, checkpoints on the machine's disk, and the loop.

A task is real PyTorch on one core. Its memory grows because its activations do; freed memory stays with the process
(as an accelerator's allocator keeps it), so what a step needed is what the machine must hold.
"""

import argparse
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch

from scaleahead import Reporter, Sampler

UNREADABLE = (OSError, RuntimeError, LookupError, ValueError, EOFError, TypeError, AttributeError, UnpicklingError)
"""What reading a torn file may end in."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True, slots=True)
class Stage:
    """From a share of the run on: a batch size and a sequence length (1 where there is none)."""

    share: float
    batch_size: int
    seq_len: int = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """How one run goes. ``rate`` is simulated seconds a real second, ``origin`` where both clocks agree.

    ``work`` scales every batch: below 1 a test's run is small. ``disk`` holds the checkpoints. ``step_seconds`` is the
    least real time of a step, as where data comes no faster, so that a fast computer does not outrun the demonstration.
    """

    job: str
    disk: Path
    total_steps: int
    work: float = 1.0
    rate: float = 1.0
    origin: float = 0.0
    bytes_per_gib: float = 2.0**30
    save_every_seconds: float = 15.0
    last_exit: str = ""
    step_seconds: float = 0.0


class Task(Protocol):
    """A model that learns. A step is determined by its number, so a moved run repeats none and misses none."""

    stages: Sequence[Stage]
    declared: bool
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer

    def learn(self, step: int, batch_size: int, seq_len: int) -> torch.Tensor:
        """Take the step from ``step`` to ``step + 1`` and give its loss, detached."""


def settings(name: str, total_steps: int, arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read a job's settings from its arguments, then from the environment."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--steps", type=int, default=int(environ.get("SCALEAHEAD_STEPS", total_steps)))
    parser.add_argument("--work", type=float, default=float(environ.get("SCALEAHEAD_WORK", 1.0)))
    parser.add_argument("--save-every", type=float, default=float(environ.get("SCALEAHEAD_SAVE_EVERY", 15.0)))
    given = parser.parse_args(arguments)
    return Settings(
        job=environ.get("SCALEAHEAD_JOB", name),
        disk=Path(environ.get("SCALEAHEAD_CHECKPOINTS") or environ.get("SCALEAHEAD_DISK") or "."),
        total_steps=given.steps,
        work=given.work,
        rate=float(environ.get("SCALEAHEAD_TIME_RATE", 1.0)),
        origin=float(environ.get("SCALEAHEAD_TIME_ORIGIN", 0.0)),
        bytes_per_gib=float(environ.get("SCALEAHEAD_BYTES_PER_GIB", 2**30)),
        save_every_seconds=given.save_every,
        last_exit=environ.get("SCALEAHEAD_LAST_EXIT", ""),
        step_seconds=float(environ.get("SCALEAHEAD_STEP_SECONDS", 0.0)),
    )


def keep_memory() -> None:
    """Ask the C library not to hand freed memory back. Without glibc nothing happens."""
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def schedule(stages: Sequence[Stage], total_steps: int, work: float) -> list[tuple[int, int, int]]:
    """Give (from_step, batch_size, seq_len) of every stage."""
    return [(round(s.share * total_steps), max(1, round(s.batch_size * work)), s.seq_len) for s in stages]


class Disk:
    """The newest two checkpoints of a run. A file is there whole or not at all; a torn one is passed over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, step: int, task: Task) -> Path:
        """Write the state after ``step`` steps."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step-{step:06d}.pt"
        torn = path.with_suffix(".partial")
        state = {
            "step": step,
            "model": task.model.state_dict(),
            "optimizer": task.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        with torn.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        torn.rename(path)
        for old in self._paths()[:-2]:
            old.unlink(missing_ok=True)
        return path

    def restore(self, task: Task) -> int:
        """Load the newest checkpoint that can be read and give its step; 0 if there is none."""
        for path in reversed(self._paths()):
            try:
                state: dict[str, Any] = torch.load(path, weights_only=True)
                task.model.load_state_dict(state["model"])
                task.optimizer.load_state_dict(state["optimizer"])
                torch.set_rng_state(state["random"])
                return int(state["step"])
            except UNREADABLE as error:
                print(f"passing over {path.name}: {error}", flush=True)
        return 0

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"))


def reporter(chosen: Settings) -> Reporter:
    """Make the reporter of a job whose seconds and GiB are simulated ones."""
    return Reporter(
        chosen.job,
        total_steps=chosen.total_steps,
        clock=lambda: time.monotonic() * chosen.rate,
        wall=lambda: chosen.origin + (time.time() - chosen.origin) * chosen.rate,
        usage=Sampler(bytes_per_gib=chosen.bytes_per_gib),
    )


def train(task: Task, chosen: Settings, report: Reporter, monotonic: Callable[[], float] = time.monotonic) -> float:
    """Train to the end from the newest checkpoint, reporting and saving as asked. Gives the last loss, NaN if none."""
    disk = Disk(chosen.disk)
    began_at = disk.restore(task)
    print(f"{chosen.job}: from step {began_at} (last exit: {chosen.last_exit or 'none'})", flush=True)
    plan = schedule(task.stages, chosen.total_steps, chosen.work)
    if task.declared:
        for done, batch_size, seq_len in plan:
            # A report counts the steps done: the first of a stage is the one after.
            report.declare(done + 1, batch_size=batch_size, seq_len=seq_len)
    saved_at, loss = monotonic(), float("nan")
    for step in range(began_at, chosen.total_steps):
        due = monotonic() + chosen.step_seconds
        _, batch_size, seq_len = [stage for stage in plan if stage[0] <= step][-1]
        loss = float(task.learn(step, batch_size, seq_len))
        hyperparameters = {"batch_size": batch_size, "lr": task.optimizer.param_groups[0]["lr"]}
        if seq_len > 1:
            hyperparameters["seq_len"] = seq_len
        if (early := due - monotonic()) > 0:
            time.sleep(early)
        done = step + 1
        saved = report.at_step_end(
            done,
            hyperparameters,
            {"loss": loss},
            save=partial(disk.save, done, task),
            periodic=monotonic() - saved_at >= chosen.save_every_seconds,
        )
        saved_at = monotonic() if saved else saved_at
    disk.save(chosen.total_steps, task)
    return loss


def main(make: Callable[[Settings], Task], name: str, total_steps: int) -> None:
    """Run a job as a process: the whole of a training script."""
    keep_memory()
    torch.set_num_threads(1)
    chosen = settings(name, total_steps, sys.argv[1:], os.environ)
    with reporter(chosen) as report:
        loss = train(make(chosen), chosen, report)
        report.done()
        print(f"{chosen.job}: done, loss {loss:.4f}", flush=True)
        linger(report)


def linger(report: Reporter, seconds: float = 2.0) -> None:
    """Answer the hook a little longer, so that a poll still hears of the end."""
    if report.url is not None:
        time.sleep(seconds)
