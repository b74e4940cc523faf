"""Edge: how right predicted speeds are on public profiles, and the fit of the shipped law.

``python -m tests.tools.speed_skill PROFILES`` prints the tables of docs/decision-quality.md ("Learned speeds"), with
``--fit`` the constants of ``daemon.throughput.Law``. PROFILES holds gavel-throughputs.csv, placements.csv and
zeus-power-throughput.csv. An error is that of the predicted speed, ``|predicted / measured - 1|``. Every (workload,
GPU asked about, GPU observed) counts once, however many batch sizes were profiled.
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize, nnls
from scipy.special import logit

from daemon.gpus import DATA_SHEETS
from daemon.throughput import Law, Point, kind, learn
from daemon.types import Floats

GPUS = {
    "k80": "K80", "p100": "P100", "v100": "V100", "a40": "A40", "rtx6000": "RTX-6000", "T4": "T4",
    "V100-32GB": "V100", "A100-40GB": "A100", "RTX6000-24GB": "RTX-6000", "2080Ti-11GB": "RTX-2080-TI",
}  # fmt: skip
TRACED = {("placements", "bert"), ("placements", "cifar10"), ("placements", "imagenet")}
"""Workloads that traces are made of: the shipped law is not fitted to them."""
RIDGE = 0.1
STARTS = np.array([0.6, 0.3, 0.4, 0.2, 0.2])
DRAWS = 1000

Workload = tuple[str, str]
Seconds = dict[Point, float]


@dataclass(frozen=True, slots=True)
class Miss:
    """One prediction: of which workload, GPU observed and asked about, its error, weight, and miss in deviations."""

    workload: Workload
    seen: str
    asked: str
    error: float
    weight: float
    off: float = 0.0


def read(folder: Path) -> dict[Workload, Seconds]:
    """Read step seconds of every workload by point."""
    found: dict[Workload, Seconds] = defaultdict(dict)
    for row in _rows(folder / "gavel-throughputs.csv"):
        count, rate = int(row["num_gpus"]), float(row["steps_per_s"])
        if rate > 0:  # Steps a second of all replicas together.
            nodes = 1 if row["placement"] == "consolidated" or count == 1 else 2
            point = Point(GPUS[row["gpu"]], float(row["batch_size"] or 1), count, nodes)
            if count > 1 or row["placement"] == "consolidated":
                found["gavel", row["model"]][point] = count / rate
    for row in _rows(folder / "placements.csv"):
        if row["model"] != "gpt_pmp":  # Pipelined: the law does not speak of it.
            count, nodes = int(row["num_gpus"]), int(row["num_nodes"])
            # Placements that differ only in how GPUs spread over the same nodes count once.
            point = Point(GPUS[row["gpu"]], float(row["local_bsz"]), count, nodes)
            found["placements", row["model"]].setdefault(point, float(row["step_time_s"]))
    most: dict[tuple[Workload, Point], int] = {}
    for row in _rows(folder / "zeus-power-throughput.csv"):
        name = "zeus", f"{row['dataset']}/{row['network']}/{row['optimizer']}"
        point, limit = Point(GPUS[row["gpu"]], float(row["batch_size"])), int(row["power_limit"])
        if limit > most.get((name, point), 0):
            most[name, point] = limit
            found[name][point] = float(row["time_per_epoch"]) * point.batch
    return dict(found)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        yield from csv.DictReader(file)


def single(seconds: Seconds) -> dict[str, dict[float, float]]:
    """Give the seconds on one GPU, by GPU and batch."""
    found: dict[str, dict[float, float]] = defaultdict(dict)
    for point, value in seconds.items():
        if point.replicas == 1:
            found[point.gpu][point.batch] = value
    return found


# The fit.


def fit(profiles: Mapping[Workload, Seconds], without: str | None = None) -> Law:
    """Fit the powers of the data sheets' ratios by least absolute error, leaving one GPU out of everything."""
    gains, shares, here, there, weights = _pairs(profiles, without)

    def loss(powers: Floats) -> float:
        grows, fixed = gains @ powers[:3], gains[:, [0, 2]] @ powers[3:]
        miss = np.log(here * ((1 - shares) * np.exp(-fixed) + shares * np.exp(-grows))) - np.log(there)
        return float(np.average(np.sqrt(miss**2 + 0.05**2), weights=weights) + RIDGE * np.sum((powers - STARTS) ** 2))

    a, b, c, d, e = minimize(loss, STARTS, method="L-BFGS-B").x
    return replace(Law(), grows=(a, b, c), fixed=(d, 0.0, e))


def fit_sync(profiles: Mapping[Workload, Seconds]) -> tuple[Floats, Floats]:
    """Fit synchronisation to steps on several GPUs over the step on one, by least absolute error.

    Gives gamma, the three logarithms of sync and their growth, as in ``Law``; then the standard deviations of the
    logarithms, from the steps that alone would say more: the lower half, of steps without any synchronisation to be
    seen, has no end.
    """
    rows: list[tuple[float, ...]] = []
    for seconds in profiles.values():
        for gpu, curve in single(seconds).items():
            full = curve[max(curve)]
            several = [p for p in seconds if p.gpu == gpu and p.replicas > 1 and p.batch in curve]
            rows += [(kind(p), p.replicas, curve[p.batch], full, seconds[p], 1 / len(several)) for p in several]
    kinds, count, one, full, actual, weight = np.array(rows).T
    way = kinds.astype(np.int64)

    def loss(x: Floats) -> float:
        sync = full * np.exp(x[1:4])[way] * (1 + x[4:][way] * (count - 2))
        miss = np.log((one ** x[0] + sync ** x[0]) ** (1 / x[0]) / actual)
        return float(np.average(np.sqrt(miss**2 + 0.05**2), weights=weight))

    bounds = [(1, 10), *[(-6, 2)] * 3, *[(0, 1)] * 3]
    found = minimize(loss, [1.5, -2, -2, -1, 0.1, 0.1, 0.1], method="L-BFGS-B", bounds=bounds).x
    alone = np.log(np.maximum(actual / one - 1, 0.005) * one / full)
    above = np.maximum(alone - found[1:4][way], 0.0)
    kept = weight * (above > 0)
    wide = [float(np.sqrt(np.average(above[way == k] ** 2, weights=kept[way == k]))) for k in range(3)]
    return np.asarray(found), np.array(wide)


def shares(profiles: Mapping[Workload, Seconds]) -> tuple[float, float]:
    """Give median and standard deviation of the logit of the share that grows with the batch, at the largest batch."""
    found: list[float] = []
    for seconds in profiles.values():
        for curve in single(seconds).values():
            fixed, each = _line(curve)
            if len(curve) > 2:
                share = each / (fixed / max(curve) + each)
                found.append(float(logit(np.clip(share, 0.02, 0.98))))
    return float(np.median(found)), float(np.std(found))


def _pairs(profiles: Mapping[Workload, Seconds], without: str | None) -> tuple[Floats, ...]:
    rows: list[tuple[Floats, float, float, float, float]] = []
    for seconds in profiles.values():
        by = {gpu: curve for gpu, curve in single(seconds).items() if gpu != without}
        for one, mine in by.items():
            fixed, each = _line(mine)
            for other, theirs in by.items():
                common = [batch for batch in mine if batch in theirs]
                gain = DATA_SHEETS[other].features() - DATA_SHEETS[one].features()
                for batch in common if other != one else []:
                    share = each * batch / (fixed + each * batch) if len(mine) > 1 else 0.7
                    rows.append((gain, share, mine[batch], theirs[batch], 1 / len(common)))
    gains, *others = zip(*rows, strict=True)
    return np.array(gains), *(np.array(column) for column in others)


def _line(curve: Mapping[float, float]) -> tuple[float, float]:
    """Fit ``seconds = fixed + each x batch`` by relative error, neither below zero."""
    batch, seconds = np.array(list(curve)), np.array(list(curve.values()))
    found, _ = nnls(np.stack([1 / seconds, batch / seconds], axis=1), np.ones(len(batch)))
    return float(found[0]), float(found[1])


# The tables.


def unseen(profiles: Mapping[Workload, Seconds], guess: Callable[[str], "Guess"], whole: bool) -> list[Miss]:
    """Ask for the speed on a GPU left out, given the same job on another: its whole batch curve, or this batch only."""
    found: list[Miss] = []
    for asked in sorted({point.gpu for seconds in profiles.values() for point in seconds}):
        predict = guess(asked)
        for workload, seen, mine, theirs in _moves(profiles, asked):
            common = [batch for batch in mine if batch in theirs]
            for batch in common:
                known = {Point(seen, b): mine[b] for b in ([batch, *mine] if whole else [batch])}
                found.append(_miss(workload, seen, predict, known, Point(asked, batch), theirs[batch], len(common)))
    return found


def moved(profiles: Mapping[Workload, Seconds], guess: Callable[[str], "Guess"], reach: float) -> list[Miss]:
    """Ask for other batches on a GPU left out, once the job has run there at one; batches differ at most by reach."""
    found: list[Miss] = []
    for asked in sorted({point.gpu for seconds in profiles.values() for point in seconds}):
        predict = guess(asked)
        for workload, seen, mine, theirs in _moves(profiles, asked):
            common = sorted(batch for batch in mine if batch in theirs)
            pairs = [(b, c) for b in common for c in common if b != c and max(b / c, c / b) <= reach]
            for batch, other in pairs:
                known = {Point(seen, b): s for b, s in mine.items()} | {Point(asked, batch): theirs[batch]}
                found.append(_miss(workload, seen, predict, known, Point(asked, other), theirs[other], len(pairs)))
    return found


def counts(profiles: Mapping[Workload, Seconds], predict: "Guess", shown: bool) -> list[Miss]:
    """Ask for other counts of the same GPU, given one GPU's curve, and with ``shown`` one such count as well."""
    found: list[Miss] = []
    for workload, seconds in profiles.items():
        for gpu, curve in single(seconds).items():
            known = {Point(gpu, batch): value for batch, value in curve.items()}
            several = [p for p in seconds if p.gpu == gpu and p.replicas > 1 and p.batch in curve][::7]
            for asked in several:
                kin = [
                    p for p in seconds if p.gpu == gpu and p.replicas in (2, 4) and (p.nodes > 1) == (asked.nodes > 1)
                ]
                kin = [p for p in kin if p != asked and p.batch == asked.batch][:1]
                more = {p: seconds[p] for p in kin} if shown else {}
                if kin:
                    found.append(_miss(workload, gpu, predict, known | more, asked, seconds[asked], len(several)))
    return found


def _moves(
    profiles: Mapping[Workload, Seconds], asked: str
) -> Iterator[tuple[Workload, str, dict[float, float], dict[float, float]]]:
    for workload, seconds in profiles.items():
        by = single(seconds)
        for seen in by if asked in by else ():
            if seen != asked:
                yield workload, seen, by[seen], by[asked]


Guess = Callable[[Seconds, Point], tuple[float, float]]
"""From what is known of a job and a point: log seconds there, and the standard deviation."""


def _miss(
    workload: Workload, seen: str, predict: Guess, known: Seconds, asked: Point, actual: float, share: int
) -> Miss:
    found, spread = predict(known, asked)
    off = float(np.log(actual) - found)
    return Miss(workload, seen, asked.gpu, abs(float(np.exp(off)) - 1), 1 / share, off / spread if spread else 0.0)


def hindsight(profiles: Mapping[Workload, Seconds], own: bool) -> list[Miss]:
    """Take the best single ratio of each pair of GPUs as known, over all workloads or for each workload of its own."""
    rows: dict[tuple[object, ...], list[tuple[Workload, str, str, float, float]]] = defaultdict(list)
    for asked in sorted(set(GPUS.values())):
        for workload, seen, mine, theirs in _moves(profiles, asked):
            common = [batch for batch in mine if batch in theirs]
            for batch in common:
                ratio = float(np.log(theirs[batch] / mine[batch]))
                key = (seen, asked, workload if own else None)
                rows[key].append((workload, seen, asked, ratio, 1 / len(common)))
    found: list[Miss] = []
    for each in rows.values():
        middle = float(np.median([ratio for *_, ratio, _ in each]))
        found += [Miss(w, s, a, abs(float(np.exp(r - middle)) - 1), weight) for w, s, a, r, weight in each]
    return found


def by_law(law: Law) -> Guess:
    """Guess by the law, as the daemon does."""

    def guess(known: Seconds, asked: Point) -> tuple[float, float]:
        found, spread = (
            learn(law, list(known), list(known.values()), max(p.batch for p in known))
            .asked([asked.gpu])
            .log_seconds([asked])
        )
        return float(found[0]), float(np.hypot(spread[0], law.noise))

    return guess


def by_ratio(known: Seconds, asked: Point) -> tuple[float, float]:
    """Guess by the data sheets' float32 rates from the same batch on the GPU seen, counts in proportion."""
    seen = next(p for p in known if p.batch == asked.batch and p.gpu != asked.gpu)
    return float(np.log(known[seen] * DATA_SHEETS[seen.gpu].float32 / DATA_SHEETS[asked.gpu].float32)), 0.0


def by_constant(known: Seconds, asked: Point) -> tuple[float, float]:
    """Guess that the ratio seen at one batch holds at all."""
    here = next(p for p in known if p.gpu == asked.gpu)
    before = {p.batch: s for p, s in known.items() if p.gpu != asked.gpu}
    return float(np.log(before[asked.batch] * known[here] / before[here.batch])), 0.0


def by_one(known: Seconds, asked: Point) -> tuple[float, float]:
    """Guess that more GPUs cost no step time: perfect scaling."""
    return float(np.log(known[Point(asked.gpu, asked.batch)])), 0.0


def median(misses: Sequence[Miss]) -> float:
    """Weigh the median error."""
    errors, weights = np.array([(miss.error, miss.weight) for miss in misses]).T
    order = np.argsort(errors)
    mass = np.cumsum(weights[order])
    return float(errors[order][np.searchsorted(mass, mass[-1] / 2)])


def interval(misses: Sequence[Miss], seed: int = 0) -> tuple[float, float]:
    """Give the 95 % interval of the median from drawing workloads."""
    chance = np.random.default_rng(seed)
    by: dict[Workload, list[Miss]] = defaultdict(list)
    for miss in misses:
        by[miss.workload].append(miss)
    names = list(by)
    drawn = [
        median([miss for i in chance.integers(len(names), size=len(names)) for miss in by[names[i]]])
        for _ in range(DRAWS)
    ]
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def line(name: str, misses: Sequence[Miss]) -> str:
    """Write one row: median, interval, share inside 80 %, how many, and the median for each GPU asked about."""
    low, high = interval(misses)
    offs, weights = np.array([(miss.off, miss.weight) for miss in misses]).T
    covered = f"{np.average(np.abs(offs) < 1.2816, weights=weights):8.2f}" if np.any(offs) else " " * 8
    each = " ".join(
        f"{gpu} {median([m for m in misses if m.asked == gpu]):.2f}" for gpu in sorted({m.asked for m in misses})
    )
    return f"{name:<44} {median(misses):6.3f} [{low:.3f}, {high:.3f}] {covered} {len(misses):6d}  {each}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profiles", type=Path)
    parser.add_argument("--fit", action="store_true", help="print the constants of the shipped law")
    given = parser.parse_args()
    profiles = read(given.profiles)
    out = sys.stdout
    if given.fit:
        untraced = {name: seconds for name, seconds in profiles.items() if name not in TRACED}
        law, (sync, wide) = fit(untraced), fit_sync(untraced)
        out.write(f"grows {np.round(law.grows, 2)} fixed {np.round(law.fixed, 2)}\n")
        out.write(f"gamma, sync, growth {np.round(sync, 2)} sync_spread {np.round(wide, 1)}\n")
        out.write(f"share, share_spread {np.round(shares(untraced), 1)}\n")
        return 0
    laws = {gpu: fit(profiles, gpu) for gpu in sorted({p.gpu for s in profiles.values() for p in s})}
    traced = {name: seconds for name, seconds in profiles.items() if name in TRACED}
    bound = {name: _bound(seconds) for name, seconds in profiles.items()}
    out.write(f"{'one GPU':<44} {'median':>6} {'95 % interval':<16} {'in 80 %':>8} {'n':>6}  by GPU asked about\n")
    out.write(line("unseen GPU, float32 ratio", unseen(profiles, lambda _: by_ratio, True)) + "\n")
    out.write(line("unseen GPU, law, one batch seen", unseen(profiles, lambda g: by_law(laws[g]), False)) + "\n")
    out.write(line("unseen GPU, law, batch curve seen", unseen(profiles, lambda g: by_law(laws[g]), True)) + "\n")
    out.write(line("  where the GPU is the limit (1)", unseen(bound, lambda g: by_law(laws[g]), True)) + "\n")
    out.write(line("  same, float32 ratio", unseen(bound, lambda _: by_ratio, True)) + "\n")
    out.write(line("hindsight, one ratio a pair of GPUs", hindsight(profiles, False)) + "\n")
    out.write(line("hindsight, one a pair and workload", hindsight(profiles, True)) + "\n")
    for reach, name in ((np.inf, "any other batch"), (4.0, "batch within x4"), (2.05, "batch within x2")):
        out.write(line(f"one move, {name}, law", moved(profiles, lambda g: by_law(laws[g]), reach)) + "\n")
        out.write(line(f"one move, {name}, ratio carried", moved(profiles, lambda _: by_constant, reach)) + "\n")
    out.write(f"\n{'other counts, traced workloads'}\n")
    out.write(line("perfect scaling", counts(traced, by_one, False)) + "\n")
    out.write(line("law, one GPU seen", counts(traced, by_law(Law()), False)) + "\n")
    out.write(line("law, and one count seen", counts(traced, by_law(Law()), True)) + "\n")
    return 0


def _bound(seconds: Seconds) -> Seconds:
    """Keep the batches at which at least half of a step grows with the batch, on every GPU that ran them."""
    shares: dict[float, float] = {}
    for curve in single(seconds).values():
        fixed, each = _line(curve)
        for batch in curve:
            share = each * batch / (fixed + each * batch) if len(curve) > 1 else 0.0
            shares[batch] = min(share, shares.get(batch, 1.0))
    return {p: s for p, s in seconds.items() if shares.get(p.batch, 0.0) >= 0.5}


if __name__ == "__main__":
    raise SystemExit(main())
