"""Edge: measure the peak memory and step time of small real models in training, over batch, length, width and more.

``python -m tests.benchmarks.measure_memory [--out FILE] [--device cpu|cuda] [--check N]``

What is counted. On a GPU, ``torch.cuda.max_memory_allocated``. On a CPU, what torch's CPU allocator itself reports of
every allocation and release (``torch.profiler`` with ``profile_memory``): its highest total from before the model is
built to the end of the second training step. Tracking tensors in Python would miss what kernels take for themselves
and give back within one call (the unfolded images of a convolution); the process's resident memory would count the
interpreter, libraries and what the C library keeps for later. ``--check N`` compares the counted peak with the growth
of resident memory, for N points, each in a process of its own.

Step time is the median of steps after two of warming up: on a CPU the processor time of one thread, as neighbours on
a shared machine disturb it little; on a GPU wall time.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks._small_models import Setting, Training, sweep

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "memory-measurements.csv"
WARM_STEPS = 2
MOST_STEPS = 5
ENOUGH_SECONDS = 0.3
_HIGHEST_RESIDENT = "VmHWM:"


def peak_bytes(setting: Setting, device: str) -> tuple[Training, int]:
    """Build a model and train it two steps: (it, the most bytes that were allocated at once)."""
    if device == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        training = _begun(setting, device)
        torch.cuda.synchronize()
        return training, torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        training = _begun(setting, device)
    return training, _highest(seen)


def _begun(setting: Setting, device: str) -> Training:
    training = Training(setting, device)
    for _ in range(WARM_STEPS):
        training.step()
    return training


def _highest(seen: Any) -> int:
    """Find the highest running total among the allocator's reports, in the order of time."""
    reports = []
    waiting = list(seen.profiler.kineto_results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.tag.name == "Allocation":
            reports.append((event.start_time_ns, event.typed[1].alloc_size))
    held = highest = 0
    for _, size in sorted(reports, key=lambda report: report[0]):
        held += size
        highest = max(highest, held)
    return highest


def step_seconds(training: Training) -> float:
    """Time a step."""
    on_gpu = training.device == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    times: list[float] = []
    while len(times) < MOST_STEPS and (len(times) < 2 or sum(times) < ENOUGH_SECONDS):
        start = clock()
        training.step()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(clock() - start)
    return statistics.median(times)


def point(setting: Setting, device: str) -> dict[str, Any]:
    """Measure one point."""
    torch.set_num_threads(1)
    training, peak = peak_bytes(setting, device)
    return {
        "family": setting.family, "variant": setting.variant, "width": setting.width, "precision": setting.precision,
        "checkpointing": int(setting.checkpointing), "batch_size": setting.batch, "seq_len": setting.length,
        "peak_bytes": peak, "step_seconds": f"{step_seconds(training):.6f}",
    }  # fmt: skip


def machine(device: str) -> dict[str, str]:
    """Say what it is measured on, when and how."""
    named = torch.cuda.get_device_name() if device == "cuda" else _processor()
    how = "torch.cuda.max_memory_allocated; wall time" if device == "cuda" else "torch CPU allocator; CPU time"
    today = datetime.now(UTC).date().isoformat()
    return {"device": device, "machine": named, "torch": torch.__version__, "measured_on": today, "how": how}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def resident_growth(setting: Setting) -> int:
    """Tell by how many bytes the resident memory of this process rises at most, from before the model is built.

    To be run in a fresh process. Warmed up by the smallest of its kind, so that libraries are there before.
    """
    torch.set_num_threads(1)
    _begun(Setting(*setting.curve, 2, 16 if setting.length else 0), "cpu")
    Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    before = int(status.split("VmRSS:")[1].split()[0])
    _begun(setting, "cpu")
    after = int(Path("/proc/self/status").read_text().split(_HIGHEST_RESIDENT)[1].split()[0])
    return (after - before) * 1024


def check(count: int) -> list[dict[str, Any]]:
    """Compare the counted peak with the growth of resident memory for some of the larger points."""
    grid = [
        one for one in sweep() if one.batch >= (16 if one.length else 1024) and (one.length >= 48 or not one.length)
    ]
    chosen = [grid[place * len(grid) // count] for place in range(count)]
    # Freed blocks above 64 KiB go back to the system at once, so that resident memory follows what is held.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    found = []
    for setting in chosen:
        place = sweep().index(setting)
        ran = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.measure_memory", "--resident", str(place)],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        counted = peak_bytes(setting, "cpu")[1]
        found.append({"setting": setting, "counted": counted, "resident": int(ran.stdout)})
    return found


def measure(count: int = 12) -> dict[str, float]:
    """Measure a few points again and compare with the table of the repository, for ``make bench``."""
    with TABLE.open(newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if row["device"] == "cpu"]
    known = {_setting(row): row for row in rows}
    chosen = [list(known)[place * len(known) // count] for place in range(count)]
    again = [point(setting, "cpu") for setting in chosen]
    return {
        "points": count,
        "largest_difference_of_peaks": max(
            abs(one["peak_bytes"] / float(known[setting]["peak_bytes"]) - 1.0)
            for setting, one in zip(chosen, again, strict=True)
        ),
        "median_ratio_of_step_times": statistics.median(
            float(one["step_seconds"]) / float(known[setting]["step_seconds"])
            for setting, one in zip(chosen, again, strict=True)
        ),
    }


def _setting(row: dict[str, str]) -> Setting:
    return Setting(
        row["family"], row["variant"], int(row["width"]), row["precision"], row["checkpointing"] == "1",
        int(row["batch_size"]), int(row["seq_len"]),
    )  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.measure_memory", description=__doc__)
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--every", type=int, default=1, help="only every n-th point")
    parser.add_argument("--curve", nargs="*", help="only of curves with these words, such as lstm 512 float32")
    parser.add_argument("--check", type=int, metavar="N", help="compare N points with resident memory")
    parser.add_argument("--resident", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.resident is not None:
        print(resident_growth(sweep()[given.resident]))
    elif given.check:
        for one in check(given.check):
            print(json.dumps({**one, "setting": str(one["setting"]), "ratio": one["resident"] / one["counted"]}))
    else:
        words = set(given.curve or ())
        settings = [one for one in sweep(given.device) if words <= {str(word) for word in one.curve}]
        _write(given.out, given.device, settings[:: given.every])
    return 0


def _write(out: Path, device: str, settings: Sequence[Setting]) -> None:
    about = machine(device)
    # What a library takes at its first use and keeps belongs to no point.
    for one in {(one.family, one.precision): one for one in reversed(settings)}.values():
        _begun(one, device)
    with out.open("w", newline="") as opened:
        table: csv.DictWriter[str] | None = None
        for setting in settings:
            row = {**point(setting, device), **about}
            if table is None:
                table = csv.DictWriter(opened, list(row), lineterminator="\n")
                table.writeheader()
            table.writerow(row)
            opened.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
