"""Edge: ``scaleahead-run -- COMMAND``: report a program that nobody may change, from what it writes anyway."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaleahead.checkpoint import Request
from scaleahead.events import EventFiles, Lines, Row
from scaleahead.reporter import Reporter
from scaleahead.usage import Sampler, children_cpu_seconds

LOOK_SECONDS = 0.5
FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT")
SETTINGS = ("lr", "learning_rate", "batch_size", "seq_len", "gradient_accumulation")


class _Onlooker(Reporter):
    """A reporter that cannot have anything saved: the program knows nothing of it."""

    def prepare(self, request: Request) -> bool:
        """Refuse: nobody would answer."""
        return False


def main(given: Sequence[str] | None = None) -> int:
    """Run a program and report it; give its exit status, or 128 and the signal that ended it."""
    options, command = _options(sys.argv[1:] if given is None else given)
    sampler = Sampler()
    cpu = _Rate()

    def usage() -> Mapping[str, float]:
        # What the sampler says of its own process alone is not the program's.
        seen = {n: v for n, v in sampler.take().items() if n not in ("cpu_cores", "disk_mbps", "gpu_memory_gib")}
        cores = cpu.of(children_cpu_seconds())
        return seen if cores is None else {**seen, "cpu_cores": cores}

    sampler.start()
    reporter = _Onlooker(options.job, total_steps=options.total_steps, hook_port=options.hook_port, usage=usage)
    environ = {n: v for n, v in os.environ.items() if n != "SCALEAHEAD_HOOK_PORT"}
    try:
        program = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE if options.stdout else None)
    except OSError as error:
        print(f"scaleahead-run: {command[0]} cannot be run ({error.strerror}) - name a program", file=sys.stderr)
        return 127
    with _forwarding(program):
        sources: list[Lines | EventFiles] = [Lines(path, options.step) for path in options.jsonl]
        sources += [EventFiles(folder) for folder in options.tensorboard]
        follow = _Follow(reporter, sources, frozenset(options.hyperparameters))
        follow.start()
        if program.stdout is not None:
            _pass_on(program.stdout, follow, Lines(Path(), options.step))
        status = program.wait()
    follow.finish()
    if status == 0:
        reporter.done()
    reporter.close()
    return status if status >= 0 else 128 - status


class _Follow:
    """Reads the sources twice a second, in a thread, and reports what they say."""

    def __init__(self, reporter: Reporter, sources: Sequence[Lines | EventFiles], settings: frozenset[str]) -> None:
        self._reporter, self._sources, self._settings = reporter, sources, settings
        self._ending = threading.Event()
        self._known: dict[str, float] = {}
        self._at = -1
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def finish(self) -> None:
        """Read what is left, and end."""
        self._ending.set()
        self._thread.join()

    def take(self, step: int, numbers: Row) -> None:
        """Report what was said of a step. What is said of the same step again joins it; of an earlier one is late."""
        told = {n: v for n, v in numbers.items() if n not in self._settings}
        with self._lock:
            self._known |= {n: v for n, v in numbers.items() if n in self._settings}
            if step > self._at:
                self._at = step
                self._reporter.step(step, dict(self._known), told)
            elif step == self._at:
                self._reporter.measured(told)

    def _watch(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            self._read()
        self._read()

    def _read(self) -> None:
        for source in self._sources:
            # A file that cannot be read now may be readable at the next look.
            with contextlib.suppress(OSError):
                for step, numbers in source.read():
                    self.take(step, numbers)


class _Rate:
    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def of(self, counter: float) -> float | None:
        """Give the counter's growth a second since the last call; ``None`` at the first, or where it fell."""
        now, before = time.monotonic(), self._before
        self._before = now, counter
        if before is None or now <= before[0] or counter < before[1]:
            return None
        return (counter - before[1]) / (now - before[0])


def _pass_on(stdout: Any, follow: _Follow, lines: Lines) -> None:
    """Let what the program prints through as it is, and report the lines that are JSON."""
    for line in stdout:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        row = lines.row(line)
        if row is not None:
            follow.take(*row)


@contextlib.contextmanager
def _forwarding(program: subprocess.Popen[Any]) -> Iterator[None]:
    """Hand signals on to the program; what it does then is its own affair."""

    def hand_on(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            program.send_signal(number)

    before = {n: signal.signal(getattr(signal, n), hand_on) for n in FORWARDED if hasattr(signal, n)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _options(given: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="scaleahead-run",
        usage="scaleahead-run [options] -- COMMAND ...",
        description="Run a program and report it to Scaleahead from the files it writes. It is never changed or saved.",
    )
    parser.add_argument("--job", help="the name the daemon knows it by (SCALEAHEAD_JOB)")
    parser.add_argument("--hook-port", type=int, help="what the hook listens on (SCALEAHEAD_HOOK_PORT)")
    parser.add_argument("--total-steps", type=int)
    parser.add_argument("--jsonl", type=Path, action="append", default=[], help="a file of JSON lines, one a step")
    parser.add_argument("--stdout", action="store_true", help="read JSON lines from what it prints, and pass all on")
    parser.add_argument("--tensorboard", type=Path, action="append", default=[], help="a folder of event files")
    parser.add_argument("--step", default="step", help="what JSON lines call the step")
    parser.add_argument("--hyperparameters", type=lambda text: text.split(","), default=list(SETTINGS), metavar="A,B")
    at = list(given).index("--") if "--" in given else len(given)
    options, command = parser.parse_args(list(given)[:at]), list(given)[at + 1 :]
    if not command:
        parser.error("no program is named - put it after --, as in: scaleahead-run -- python train.py")
    if not (options.job or os.environ.get("SCALEAHEAD_JOB")):
        parser.error("no job is named - give --job NAME or set SCALEAHEAD_JOB")
    if not (options.jsonl or options.tensorboard or options.stdout):
        parser.error("nothing to read is named - give --jsonl FILE, --tensorboard FOLDER or --stdout")
    return options, command


if __name__ == "__main__":
    raise SystemExit(main())
