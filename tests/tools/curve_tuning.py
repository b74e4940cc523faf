"""Edge: made-up runs on which the spread of metric forecasts is tuned, so that ``alien`` stays a test that nothing saw.

``python -m tests.tools.curve_tuning [--weights DIR] [--seed S]``: 16 kinds whose laws stand neither in ``alien``
nor in the lessons (``daemon/forecast/shapes.py``), asked for their final metric as ``alien`` asks.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from daemon.forecast.ensemble import Recurrent, shipped
from daemon.types import Floats
from tests.benchmarks.alien import Line, found

Random = np.random.Generator
EACH = 30


def _success(random: Random, t: Floats) -> Floats:
    """Count successes out of a few trials, of a skill that grows."""
    skill = random.uniform(0, 0.3) + random.uniform(0.1, 0.7) * (t / (t + random.uniform(0.05, 1.5)))
    return random.binomial(20, np.clip(skill, 0, 1)) / 20


def _forgetting(random: Random, t: Floats) -> Floats:
    """Learn one task after another, each forgotten in part when the next begins."""
    count = int(random.integers(2, 6))
    part = (t * count) % 1.0
    place = np.minimum((t * count).astype(int), count - 1)
    return 0.4 + 0.1 * place + 0.5 * np.sqrt(part) * random.uniform(0.3, 1) - 0.3 * (part < 0.1)


def _duel(random: Random, t: Floats) -> Floats:
    """Let two nets chase each other: a beat of two tones around a level that drifts."""
    slow, quick = random.uniform(2, 5), random.uniform(8, 14)
    tones = np.cos(slow * t + random.uniform(0, 6)) * np.cos(quick * t)
    return 0.7 + random.uniform(0.05, 0.4) * tones + random.uniform(-0.3, 0.3) * t


def _norms(random: Random, t: Floats) -> Floats:
    """Measure gradients: logarithms that remember, with long tails."""
    value, found_ = 0.0, []
    for _ in t:
        value = 0.8 * value + 0.3 * random.standard_t(3)
        found_.append(value)
    return np.exp(np.clip(np.array(found_), -6, 6) - random.uniform(0, 2) * t)


def _turning(random: Random, t: Floats) -> Floats:
    """Fall and turn as a parabola of the logarithm does."""
    low = random.uniform(-2.5, 0.2)
    return 0.3 + random.uniform(0.02, 0.2) * (np.log(t + 0.01) - low) ** 2


def _stuck(random: Random, t: Floats) -> Floats:
    """Learn to a saddle, stay, and leave it, or not."""
    leave = random.uniform(0.2, 1.4)
    return 0.7 + 2 * np.exp(-t / 0.05) - 0.6 * np.clip((t - leave) / random.uniform(0.02, 0.3), 0, 1)


def _bursting(random: Random, t: Floats) -> Floats:
    """Run into a pole, and stay as high as numbers are let."""
    pole = random.uniform(0.3, 1.5)
    return np.minimum(0.5 + 0.05 / np.maximum(pole - t, 1e-4), random.choice([5.0, 100.0, 500.0]))


def _collapse(random: Random, t: Floats) -> Floats:
    """Earn more and more, and lose it at once; some come back."""
    moment = random.uniform(0.2, 1.3)
    earned = 200 * t ** random.uniform(0.3, 1.2)
    back = random.choice([0.0, 0.9])
    return np.where(t < moment, earned, earned * (0.1 + back * np.clip(4 * (t - moment), 0, 1)))


def _outliers(random: Random, t: Floats) -> Floats:
    """Count losses of batches, some of which hold an outlier."""
    return 2 * (1 + 30 * t) ** -0.4 + (random.random(len(t)) < 0.08) * random.pareto(1.5, len(t))


def _halving(random: Random, t: Floats) -> Floats:
    """Halve the error by the clock: a stair in the logarithm."""
    return 2.0 ** -np.floor(t * random.uniform(1, 7) + random.uniform(0, 1))


def _growing(random: Random, t: Floats) -> Floats:
    """Grow as a tree does: slowly, quickly, slowly."""
    half = random.uniform(0.1, 1.5)
    return 1 - np.exp(-((t / half) ** random.uniform(1.5, 6)))


def _brownian(random: Random, t: Floats) -> Floats:
    """Wander without a pull."""
    return np.cumsum(random.standard_normal(len(t))) / np.sqrt(len(t)) + random.uniform(-2, 2)


def _swinging(random: Random, t: Floats) -> Floats:
    """Settle as a pendulum does, or swing ever wider."""
    return 1 + np.exp(random.uniform(-4, 1) * t) * np.cos(random.uniform(5, 60) * t)


def _quality(random: Random, t: Floats) -> Floats:
    """Score what is made: better for a while, worse from then on, by a hump on the logarithm of the time."""
    top = random.uniform(0.1, 1.2)
    return 30 * np.exp(-(np.log((t + 0.02) / top) ** 2) / random.uniform(0.5, 3))


def _tasks(random: Random, t: Floats) -> Floats:
    """Begin anew on harder data now and then: each time a jump up and a fall."""
    starts = np.concatenate([[0.0], np.sort(random.uniform(0, 1, random.integers(1, 4)))])
    since = t[:, None] - starts
    each = np.where(since >= 0, np.exp(-np.maximum(since, 0) * 15) * random.uniform(0.2, 1, len(starts)), 0)
    return random.uniform(0.1, 1) + each.sum(axis=1)


KINDS: Mapping[str, Callable[[Random, Floats], Floats]] = {
    "success": _success, "forgetting": _forgetting, "duel": _duel, "norms": _norms, "turning": _turning,
    "stuck": _stuck, "bursting": _bursting, "collapse": _collapse, "outliers": _outliers, "halving": _halving,
    "growing": _growing, "brownian": _brownian, "swinging": _swinging, "quality": _quality, "tasks": _tasks,
    "plain": lambda r, t: r.uniform(0.1, 2) + (1 + t / 10 ** r.uniform(-3, -1)) ** -r.uniform(0.2, 1),
}  # fmt: skip


def runs(seed: int = 0, each: int = EACH) -> list[dict[str, object]]:
    """Make the rows of all runs, evenly spaced, with a little noise."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for kind, shape in KINDS.items():
        for number in range(each):
            count = int(np.exp(random.uniform(np.log(6), np.log(200))))
            total = int(10 ** random.uniform(2.5, 5))
            t = np.linspace(1 / count, 1, count)
            values = shape(random, t)
            values = values + 10 ** random.uniform(-4, -1.3) * np.ptp(values) * random.standard_normal(count)
            rows += [
                {"job": f"{kind}/{number}", "group": kind, "step": int(share * total), "elapsed_s": share * total,
                 "total_steps": total, "metric.score": f"{value:.6g}"}
                for share, value in zip(t, values, strict=True)
            ]  # fmt: skip
    return rows


def drawn(lines: list[Line]) -> str:
    """Draw kinds by row and shares seen by column: coverage of 80 %, and CRPS over the last value's."""
    kinds = dict.fromkeys(line.kind for line in lines)
    return "\n".join(
        f"{kind:15s} "
        + "  ".join(
            f"{one.coverage80:.2f} {one.coverage95:.2f} {one.over_last:.3f}" for one in lines if one.kind == kind
        )
        for kind in kinds
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.curve_tuning", description=__doc__)
    parser.add_argument("--weights", type=Path, help="folder of other weights than those shipped")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("kind, and at 20, 40, 60 and 80 % seen: coverage of 80 and 95 %, CRPS over the last value's")
    print(drawn(found("metric.score", runs(given.seed), Recurrent(shipped(given.weights)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
