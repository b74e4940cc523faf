"""Edge: how forecasts fare on runs of kinds that no network was taught, from a CSV file with all its faults.

``python -m tests.benchmarks.alien [--write OUT.csv]`` makes 420 runs of 14 kinds from a fixed seed (logistic growth,
late insight, cyclic rates, rewards that wander, long tails of noise, divergence, constants, five rows only, gaps,
restarts, ...), under names of their own, and asks for the final metric and the total time. ``measure()`` gives the
figures: coverage of the 80 % interval, and the worst CRPS over the last value's, of a kind at a share seen.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from daemon.backtest import history, score
from daemon.backtest.run import OURS, Asked, backtest, table
from daemon.forecast.base import Forecaster
from daemon.forecast.ensemble import Recurrent, shipped
from daemon.types import Floats

Random = np.random.Generator
EACH = 30
SHARES = (0.2, 0.4, 0.6, 0.8)


def _walk(random: Random, t: Floats) -> Floats:
    """Let a reward wander up and be pulled back."""
    value, found = 0.0, []
    for _ in t:
        value += 0.05 * (random.uniform(2, 6) - value) + random.normal(0, 0.4)
        found.append(value)
    return np.array(found)


def _plateaus(random: Random, t: Floats) -> Floats:
    """Fall from plateau to plateau."""
    drops = np.sort(random.uniform(0, 1, random.integers(2, 5)))
    return 3.0 - (t[:, None] > drops).sum(axis=1) * random.uniform(0.2, 0.6) - 0.1 * t


def _diverging(random: Random, t: Floats) -> Floats:
    """Learn, and then burst for good."""
    found = 1.5 * np.exp(-3 * t)
    found[t > random.uniform(0.3, 0.9)] = random.choice([np.nan, np.inf, 1e12])
    return found


def _spiky(random: Random, t: Floats) -> Floats:
    """Learn, with rare spikes a hundred times as high."""
    return np.exp(-2 * t) * np.where(random.random(len(t)) < 0.04, 100.0, 1.0)


KINDS: Mapping[str, Callable[[Random, Floats], Floats]] = {
    "logistic": lambda r, t: 100 / (1 + np.exp(-r.uniform(6, 14) * (t - r.uniform(0.2, 0.7)))),
    "insight": lambda r, t: 2.3 - 2.0 / (1 + np.exp(-60 * (t - r.uniform(0.3, 1.2)))),
    "exponential": lambda r, t: r.uniform(0, 3) + r.uniform(0.5, 50) * np.exp(-r.uniform(2, 12) * t),
    "cyclic": lambda r, t: np.exp(-2 * t) + 0.3 * np.abs(np.sin(r.integers(2, 9) * np.pi * t)),
    "reward": _walk,
    "plateaus": _plateaus,
    "double descent": lambda r, t: np.exp(-5 * t) + r.uniform(0.2, 0.8) * np.exp(-(((t - 0.4) / 0.12) ** 2)) + 0.2,
    "overfit": lambda r, t: 1 / (1 + 9 * t) + r.uniform(0.2, 1.2) * np.maximum(t - r.uniform(0.2, 0.6), 0),
    "diverging": _diverging,
    "spiky": _spiky,
    "constant": lambda r, t: np.full(len(t), r.choice([0.0, 1.0, -7.5, 1e6])),
    "five rows": lambda r, t: 2 / (1 + 5 * t),
    "likelihood": lambda r, t: -1e5 * np.exp(-2 * t) - r.uniform(1e4, 5e4),
    "gaps": lambda r, t: 4 / (1 + 20 * t) ** r.uniform(0.3, 1.0),
}
_NOISE = {"constant": 0.0, "reward": 0.0}


def runs(seed: int = 0, each: int = EACH) -> list[dict[str, object]]:
    """Make the file's rows, every one as a mapping from column to cell ("" for missing)."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for kind, shape in KINDS.items():
        for number in range(each):
            rows += _run(random, kind, shape, f"{kind}/{number}")
    return rows


def _run(random: Random, kind: str, shape: Callable[[Random, Floats], Floats], job: str) -> list[dict[str, object]]:
    """Make one run: uneven rows, a cost of its own, a change of its driver in a third of the runs."""
    count = 5 if kind == "five rows" else int(random.integers(15, 160))
    total = float(10 ** random.uniform(2, 5))
    t = np.sort(random.uniform(0, 1, count)) if kind == "gaps" else np.linspace(1 / count, 1, count)
    step = np.unique(np.maximum(np.round(t * total), 1))
    t = step / total
    values = shape(random, t)
    finite = values[np.isfinite(values)]
    size = float(np.ptp(finite)) if len(finite) else 1.0
    values = values + _NOISE.get(kind, 10 ** random.uniform(-3, -1.2)) * size * random.standard_normal(len(t))
    driver, settings, elapsed = _timed(random, step)
    told = {"metric.score": values, driver: settings, "usage.accelerator": random.beta(5, 2, len(t))}
    missing = 0.3 if kind == "gaps" else 0.02
    cells = []
    for place in range(len(step)):
        row: dict[str, object] = {
            "job": job,
            "group": kind,
            "step": int(step[place]),
            "elapsed_s": round(elapsed[place], 3),
        }
        row["total_steps"] = int(total) if random.random() > missing else ""
        for name, column in told.items():
            row[name] = "" if random.random() < missing or np.isnan(column[place]) else f"{column[place]:.6g}"
        cells.append(row)
    if random.random() < 0.15:
        cells += cells[len(cells) // 3 : len(cells) // 2]  # a restart repeats what was done
    return cells


def _timed(random: Random, step: Floats) -> tuple[str, Floats, Floats]:
    """Give the driver's name, its settings, and the clock: fixed part, work, slow evaluations, a noisy neighbour."""
    name = str(random.choice(["hp.frames", "hp.train_batch_size", "hp.resolution", "hp.max_seq_len", "hp.particles"]))
    level = float(2 ** random.integers(2, 11))
    settings = np.full(len(step), level)
    for _ in range(int(random.choice([0, 1, 2, 4], p=[0.65, 0.15, 0.12, 0.08]))):
        settings[step > random.uniform(0.05, 0.95) * step[-1]] *= random.choice([2.0, 2.0, 1.5, 0.5])
    settings = np.round(settings)
    power = 2.0 if name == "hp.resolution" else 1.0
    fixed, work = random.dirichlet([1.2, 2.0]) * 10 ** random.uniform(-2, 1)
    seconds = fixed + work * (settings / level) ** power
    seconds = seconds * np.exp(10 ** random.uniform(-2.5, -0.7) * random.standard_normal(len(step)))
    if random.random() < 0.25:
        seconds[random.random(len(step)) < 0.1] *= random.uniform(2, 8)  # evaluations
    if random.random() < 0.15:
        seconds[step > random.uniform(0.1, 0.9) * step[-1]] *= random.uniform(1.05, 1.6)  # a neighbour moves in
    return name, settings, np.cumsum(seconds * np.diff(step, prepend=0.0))


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows as one CSV whose columns are those of all of them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


@dataclass(frozen=True, slots=True)
class Line:
    """A kind of runs (or "all") at a share seen: coverage, and our mean CRPS over the last value's."""

    seen: float
    kind: str
    runs: int
    coverage80: float
    coverage95: float
    over_last: float


def found(target: str, rows: list[dict[str, object]], forecaster: Forecaster) -> list[Line]:
    """Backtest one column of the file. Times are relative to the actual one, so that no long run outweighs all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "alien.csv"
        write(path, rows)
        known = history.read([path])
    result = backtest(known, Asked(target, SHARES), forecaster)
    own, last = (table(result, method) for method in (OURS, "last_value"))
    size = np.abs(own.raw) if target == "elapsed_s" else np.ones(len(own.raw))
    ours, theirs = (score.crps(one.quantiles, one.scaled) / np.maximum(size, 1e-9) for one in (own, last))
    kinds, lines = np.array(own.clusters), []
    for seen in SHARES:
        for kind in ("all", *dict.fromkeys(own.clusters)):
            part = (own.seen == seen) & ((kinds == kind) | (kind == "all"))
            inside = [score.inside(own.raw_quantiles[part], own.raw[part], low, 6 - low) for low in (1, 0)]
            mine, base = float(ours[part].mean()), float(theirs[part].mean())
            lines.append(Line(seen, kind, int(part.sum()), *inside, (mine + 1e-6) / (base + 1e-6)))
    return lines


def measure() -> dict[str, float]:
    """Give coverage over all kinds and shares, and the worst ratio to the last value, over all kinds and of one."""
    rows, figures = runs(), {}
    for target, name in (("metric.score", "score"), ("elapsed_s", "time")):
        lines = found(target, rows, Recurrent())
        whole = [one for one in lines if one.kind == "all"]
        figures[f"alien_{name}_coverage80_least"] = min(one.coverage80 for one in whole)
        figures[f"alien_{name}_coverage80_most"] = max(one.coverage80 for one in whole)
        figures[f"alien_{name}_over_last_worst"] = max(one.over_last for one in whole)
        figures[f"alien_{name}_over_last_worst_kind"] = max(one.over_last for one in lines)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.alien", description=__doc__)
    parser.add_argument("--write", type=Path, help="write the file and ask nothing")
    parser.add_argument("--weights", type=Path, help="folder of other weights than those shipped")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.write:
        write(given.write, runs(given.seed))
        return 0
    for target in ("metric.score", "elapsed_s"):
        print(f"{target}: share seen, kind, runs, coverage of 80 and 95 %, CRPS over the last value's")
        for one in found(target, runs(given.seed), Recurrent(shipped(given.weights))):
            print(
                f"{one.seen:.1f}  {one.kind:15s} {one.runs:4d}  {one.coverage80:.2f} {one.coverage95:.2f}  "
                f"{one.over_last:.3f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
