"""Edge: how well the project foretells memory at sizes that a run has not seen, on the repository's own measurements.

``python -m tests.benchmarks.memory_skill [--json] [--table FILE] [--device cpu|cuda]``

A curve is one model at one width, precision and checkpointing. A walk leads a run over its grid, growing: in batch
alone, in length alone, in both by turns, or first in one and then in the other. After 1, 2, 3 and 4 regimes all later
ones are asked at once: the 0.99 quantile of memory, and the step time. Asked are the laws of
``daemon.forecast.online``, as the forecaster uses them; of the curve nothing is known but the regimes shown. How far
out the quantile lies, ``memory.EDGE``, is chosen for each family on the three others, as are the baselines' margins.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon.forecast.drivers import points
from daemon.forecast.memory import TAIL
from daemon.forecast.online import Laws, Learned, laws
from daemon.types import Floats, History
from tests.benchmarks.measure_memory import TABLE

ROWS = 12
MEMORY = {"cpu": "usage.memory_gib", "cuda": "usage.gpu_memory_gib"}
SHOWN = (1, 2, 3, 4)
COVERED = 0.985
NEXT = 2.01
"""At most this much more work than the largest shown: one step of a schedule that doubles."""
EDGES = tuple(round(0.3 + 0.05 * place, 2) for place in range(19))
_PART = 400

Key = tuple[str, ...]
"""A curve: family, variant, width, precision, checkpointing, device."""
Grid = Mapping[tuple[int, int], tuple[float, float]]
"""By (batch, length): GiB and seconds."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A run over a curve's grid: S regimes in order, float64[S] each."""

    curve: Key
    kind: str
    batch: Floats
    length: Floats
    gib: Floats
    seconds: Floats

    @property
    def family(self) -> str:
        return self.curve[0]

    @property
    def device(self) -> str:
        return self.curve[-1]


@dataclass(frozen=True, slots=True)
class Asked:
    """Q questions with their answers. ``shown`` int[Q]; ``gib`` and ``seconds`` are the truth, the rest by method."""

    family: NDArray[np.str_]
    device: NDArray[np.str_]
    kind: NDArray[np.str_]
    shown: NDArray[np.int64]
    growth: Floats
    gib: Floats
    seconds: Floats
    memory: Mapping[str, Floats]
    time: Mapping[str, Floats]


def curves(table: Path, devices: Sequence[str] = tuple(MEMORY)) -> dict[Key, Grid]:
    """Read the table: one grid a curve and device."""
    found: dict[Key, dict[tuple[int, int], tuple[float, float]]] = {}
    with table.open(newline="") as opened:
        for row in csv.DictReader(opened):
            if row["device"] in devices:
                named = ("family", "variant", "width", "precision", "checkpointing", "device")
                curve = tuple(row[name] for name in named)
                at = int(row["batch_size"]), int(row["seq_len"])
                found.setdefault(curve, {})[at] = int(row["peak_bytes"]) / 2**30, float(row["step_seconds"])
    return dict(found)


def walks(curve: Key, grid: Grid) -> list[Walk]:
    """Lay walks over a grid."""
    batches, lengths = sorted({b for b, _ in grid}), sorted({n for _, n in grid})
    ways: list[tuple[str, list[tuple[int, int]]]] = [("batch", [(b, n) for b in batches]) for n in lengths]
    if len(lengths) > 1:
        ways += [("length", [(b, n) for n in lengths]) for b in batches]
        ways += [("by turns", _stairs(batches, lengths, first)) for first in (0, 1)]
        first, then = [(b, lengths[0]) for b in batches[:3]], [(batches[2], n) for n in lengths[1:]]
        ways.append(("batch, then length", first + then))
        first, then = [(batches[0], n) for n in lengths[:3]], [(b, lengths[2]) for b in batches[1:]]
        ways.append(("length, then batch", first + then))
    return [_walk(curve, kind, way, grid) for kind, way in ways]


def _stairs(batches: Sequence[int], lengths: Sequence[int], first: int) -> list[tuple[int, int]]:
    place = [0, 0]
    found = [(batches[0], lengths[0])]
    while place[0] < len(batches) - 1 or place[1] < len(lengths) - 1:
        side = (len(found) + first + 1) % 2
        if place[side] >= (len(batches), len(lengths))[side] - 1:
            side = 1 - side
        place[side] += 1
        found.append((batches[place[0]], lengths[place[1]]))
    return found


def _walk(curve: Key, kind: str, way: Sequence[tuple[int, int]], grid: Grid) -> Walk:
    batch, length = np.array(way, dtype=float).T
    gib, seconds = np.array([grid[at] for at in way]).T
    return Walk(curve, kind, batch, length, np.maximum.accumulate(gib), seconds)


def history(walk: Walk, shown: int) -> History:
    """Make what a job would have reported in its first ``shown`` regimes."""
    settings = {"hp.batch_size": walk.batch, **_sides(walk, walk.length)}
    told = {**settings, MEMORY[walk.device]: walk.gib, "step_seconds": walk.seconds}
    columns = {name: np.repeat(values[:shown], ROWS) for name, values in told.items()}
    step = np.arange(1, shown * ROWS + 1) * 10
    at_s = 1.8e9 + np.cumsum(columns["step_seconds"] * 10)
    return History("/".join(walk.curve), step, at_s, columns, ("here",) * len(step), len(step) * 20)


def _sides(walk: Walk, length: Floats) -> dict[str, Floats]:
    if not length.any():
        return {}
    return {"hp.image_size" if walk.family == "cnn" else "hp.seq_len": length}


Fitted = Callable[[Sequence[History]], Laws]


def ours(fitted: Fitted, walk: Sequence[Walk], shown: Sequence[int]) -> list[tuple[Floats, Floats]]:
    """Foretell (0.99 quantile in GiB, seconds) of every later regime of each walk, all on one device."""
    found = []
    for start in range(0, len(walk), _PART):
        part, seen = walk[start : start + _PART], shown[start : start + _PART]
        law = fitted([history(one, k) for one, k in zip(part, seen, strict=True)])
        longest = max(len(one.batch) - k for one, k in zip(part, seen, strict=True))
        paths = [_ahead(one, k, longest) for one, k in zip(part, seen, strict=True)]
        at = points(law.driver, paths, [longest] * len(part))
        mean, deviation = law.memory[MEMORY[part[0].device]].along(at, (len(part), 1, longest))
        seconds = at.spread(law.cost.predict(at)[0]).reshape(len(part), longest)
        for row, (one, k) in enumerate(zip(part, seen, strict=True)):
            left = len(one.batch) - k
            found.append(((mean + TAIL * deviation)[row, 0, :left], seconds[row, :left]))
    return found


def _ahead(walk: Walk, shown: int, longest: int) -> dict[str, Floats]:
    def padded(values: Floats) -> Floats:
        return np.pad(values[shown:], (0, longest - len(values) + shown), mode="edge")[None]

    return {"hp.batch_size": padded(walk.batch), **{n: padded(v) for n, v in _sides(walk, walk.length).items()}}


def linear(batch: Floats, values: Floats, shown: int) -> Floats:
    """Foretell every later regime by a straight line in the batch, by least squares, never falling."""
    slope = 0.0
    if np.ptp(batch[:shown]) > 0:
        slope = max(float(np.polyfit(batch[:shown], values[:shown], 1)[0]), 0.0)
    return np.asarray(values[shown - 1] + slope * (batch[shown:] - batch[shown - 1]))


def asked(grids: Mapping[Key, Grid], fitted: Mapping[str, Fitted]) -> Asked:
    """Ask every question of every walk; ``fitted[family]`` fits the laws of that family's runs."""
    rows = []
    for family, device in sorted({(curve[0], curve[-1]) for curve in grids}):
        cases = [
            (walk, k)
            for curve, grid in grids.items()
            if (curve[0], curve[-1]) == (family, device)
            for walk in walks(curve, grid)
            for k in SHOWN
            if k < len(walk.batch)
        ]
        made = ours(fitted[family], [walk for walk, _ in cases], [k for _, k in cases])
        for (walk, k), (gib, seconds) in zip(cases, made, strict=True):
            straight, paced = linear(walk.batch, walk.gib, k), linear(walk.batch, walk.seconds, k)
            for place in range(k, len(walk.batch)):
                size = walk.batch * np.maximum(walk.length, 1.0)
                rows.append((
                    family, device, walk.kind, k, size[place] / size[k - 1], walk.gib[place], walk.seconds[place],
                    gib[place - k], walk.gib[k - 1], straight[place - k],
                    seconds[place - k], walk.seconds[k - 1], paced[place - k],
                ))  # fmt: skip
    kinds, figures = [row[:3] for row in rows], np.array([row[3:] for row in rows], dtype=float).T
    family, device_, kind = np.array(kinds).T
    memory = dict(zip(("scaleahead", "last value", "linear in batch"), figures[4:7], strict=True))
    near = figures[1] <= NEXT
    memory |= {f"{name}, with margin": _widened(memory[name], figures[2], family, near) for name in list(memory)[1:]}
    time = dict(zip(("scaleahead", "last value", "linear in batch"), figures[7:10], strict=True))
    return Asked(family, device_, kind, figures[0].astype(np.int64), figures[1], figures[2], figures[3], memory, time)


def _widened(foretold: Floats, actual: Floats, family: NDArray[np.str_], near: NDArray[np.bool_]) -> Floats:
    """Give a point forecast the factors, near and far, that cover 98.5 % of the other families' questions."""
    found = foretold.copy()
    for one in np.unique(family):
        for part in (near, ~near):
            others, own = (family != one) & part, (family == one) & part
            if others.any():
                found[own] *= np.quantile(actual[others] / foretold[others], COVERED)
    return found


def scores(found: Asked) -> list[dict[str, object]]:
    """Score every method: from two regimes on, one doubling ahead and all; by device, regimes shown, kind, family."""
    firm = found.shown >= 2
    parts = [("all later regimes", firm), ("the next doubling", firm & (found.growth <= NEXT))]
    for device in dict.fromkeys(found.device):
        here = firm & (found.device == device)
        parts += [(f"{device}, all later", here), (f"{device}, next doubling", here & (found.growth <= NEXT))]
    parts += [(f"{k} shown, next doubling", (found.shown == k) & (found.growth <= NEXT)) for k in SHOWN]
    parts += [(f"{k} shown, all later", found.shown == k) for k in SHOWN]
    parts += [(str(kind), firm & (found.kind == kind)) for kind in dict.fromkeys(found.kind)]
    parts += [(str(family), firm & (found.family == family)) for family in dict.fromkeys(found.family)]
    rows: list[dict[str, object]] = []
    for part, chosen in parts:
        for method, upper in found.memory.items():
            ratio = upper[chosen] / found.gib[chosen]
            row: dict[str, object] = {"part": part, "method": method, "n": int(chosen.sum())}
            row |= {"covered": float((ratio >= 1.0).mean()), "over": float((ratio - 1.0).mean())}
            row |= {"worst": float(ratio.min())}
            if method in found.time:
                missed = np.abs(found.time[method][chosen] / found.seconds[chosen] - 1.0)
                row["time_median_error"] = float(np.median(missed))
            rows.append(row)
    return rows


def measure() -> dict[str, float]:
    """Give the bar's two figures and the step time's, for ``make bench``."""
    found = scores(left_out(curves(TABLE))[0])
    ours = {str(row["part"]): row for row in found if row["method"] == "scaleahead"}
    return {
        f"{part.replace(' ', '_')}_{name}": float(str(ours[part][name]))
        for part in ("all later regimes", "the next doubling")
        for name in ("n", "covered", "over", "time_median_error")
    }


def with_edge(edge: tuple[float, float]) -> Fitted:
    """Make the laws as they are shipped, but for how far towards the highest particle the 0.99 quantile goes."""

    def fitted(histories: Sequence[History]) -> Laws:
        found = laws(histories, [Learned()] * len(histories))
        return replace(found, memory={name: replace(one, edge=edge) for name, one in found.memory.items()})

    return fitted


def left_out(grids: Mapping[Key, Grid]) -> tuple[Asked, dict[str, tuple[float, float]]]:
    """Ask each family under the least edges that cover 98.5 % of the other families' questions: (asked, edges).

    One edge for the next doubling, one for what is farther; from two regimes shown on.
    """
    families = sorted({curve[0] for curve in grids})
    tried = {edge: asked(grids, dict.fromkeys(families, with_edge((edge, edge)))) for edge in EDGES}
    first = tried[EDGES[0]]
    near = first.growth <= NEXT

    def least(chosen: NDArray[np.bool_]) -> float:
        firm = chosen & (first.shown >= 2)
        share = {edge: (one.memory["scaleahead"] >= one.gib)[firm].mean() for edge, one in tried.items()}
        return next((edge for edge in EDGES if share[edge] >= COVERED), EDGES[-1])

    def both(others: NDArray[np.bool_]) -> tuple[float, float]:
        return least(others & near), least(others & ~near)

    edges = {family: both(first.family != family) for family in families}
    again = asked(grids, {family: with_edge(edge) for family, edge in edges.items()})
    return again, {**edges, "all, as shipped": both(first.shown >= 1)}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory_skill", description=__doc__)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--device", choices=tuple(MEMORY), nargs="+", default=list(MEMORY), help="whose rows")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    found, edges = left_out(curves(given.table, given.device))
    rows = scores(found)
    if given.json:
        print(json.dumps({"edges": edges, "rows": rows}, indent=1))
        return 0
    print("edge chosen without the family: " + ", ".join(f"{name} {edge}" for name, edge in edges.items()))
    print(f"{'asked':24}{'method':30}{'n':>6}{'covered':>9}{'over':>8}{'worst':>8}{'step time':>11}")
    for row in rows:
        time = f"{row['time_median_error']:>10.1%}" if "time_median_error" in row else ""
        print(
            f"{row['part']:24}{row['method']:30}{row['n']:>6}{row['covered']:>9.1%}{row['over']:>8.1%}"
            f"{row['worst']:>8.2f}{time:>11}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
