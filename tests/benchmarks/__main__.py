"""``make bench``: run every benchmark and print its figures, with a calibration of this machine beside them.

``python -m tests.benchmarks [--json] [NAME...]``. A figure times the calibration says more of the code than of the
machine: the calibration is how many seconds a fixed loop of plain Python takes here.
"""

import argparse
import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
import time

import tests.benchmarks as package


def calibration() -> float:
    """Seconds of the fixed loop: the best of five, so that a neighbour's noise counts little."""

    def once() -> float:
        start = time.perf_counter()
        total = 0
        for i in range(2_000_000):
            total += i * i % 7
        return time.perf_counter() - start

    return min(once() for _ in range(5))


def names() -> list[str]:
    """List the benchmarks: every module of this package; each has a ``measure``."""
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def one(name: str) -> dict[str, float | str]:
    """Run one benchmark in a process of its own, so that its memory is its own too."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--only", name], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.stderr.write(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}\n")
        return {}
    found: dict[str, float | str] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="benchmarks to run; all without a name")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        module = importlib.import_module(f"tests.benchmarks.{given.only}")
        print(json.dumps(module.measure()))
        return 0
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "calibration_seconds": calibration()}
    results = {name: one(name) for name in given.names or names()}
    if given.json:
        print(json.dumps({"machine": machine, "benchmarks": results}, indent=2))
    else:
        print(f"machine: {machine}")
        for name, figures in results.items():
            print(f"\n{name}")
            for figure, value in figures.items():
                print(f"  {figure:<40} {value:>14}" if isinstance(value, str) else f"  {figure:<40} {value:>14,.3f}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
