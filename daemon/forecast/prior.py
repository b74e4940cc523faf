"""Pure decisions: made-up runs that teach the networks the shapes training takes, beside the recorded ones."""

from dataclasses import dataclass

import numpy as np

from daemon.forecast import shapes
from daemon.types import Floats

Random = np.random.Generator
MADE = "prior"
"""The group of made-up curves, with their family after a slash."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One hyperparameter's whole schedule: the levels and the steps they begin at, to ``total``."""

    levels: Floats
    starts: Floats
    total: float
    family: int


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One whole recorded column of a run, with the group by which runs are split.

    ``partner`` are the same rows of the run's training loss, where it has one beside this column.
    """

    group: str
    steps: Floats
    values: Floats
    total: float
    column: str = ""
    partner: Floats | None = None


_SHAPES = ("constant", "single", "equal", "geometric", "irregular", "curriculum", "return", "noise")
_ROUND = (0.05, 0.1, 1 / 8, 1 / 6, 0.2, 0.25, 1 / 3, 0.4, 0.5, 0.6, 2 / 3, 0.75, 0.8, 0.9)
"""Shares of the total at which people put a change."""
_SHARES = np.array([0.69, 0.26, 0.018, 0.005, 0.006, 0.008, 0.006, 0.007])


def plan(random: Random) -> Plan:
    """Make one schedule: constant in most cases, else one jump, else a ramp, a curriculum, a return or noise.

    After one change about three in four of them change no more; a ramp that has repeated itself mostly goes on.
    """
    total = float(np.round(10 ** random.uniform(2, 6)))
    kind = int(random.choice(3, p=[0.45, 0.35, 0.2]))
    level = _opening(random, kind)
    shape = str(random.choice(_SHAPES, p=_SHARES / _SHARES.sum()))
    if shape == "constant":
        return Plan(np.array([level]), np.zeros(1), total, kind)
    levels, shares = _shape(random, shape, level)
    jitter = float(random.choice([0.0, 0.02, 0.1], p=[0.65, 0.2, 0.15]))
    dwells = np.maximum(shares[:-1] * np.exp(jitter * random.standard_normal(len(shares) - 1)) * total, 1)
    starts = np.concatenate([[0.0], np.cumsum(np.round(dwells))])
    levels = np.clip(np.round(levels), 1, 1e9)
    kept = starts < total
    kept[1:] &= levels[1:] != levels[:-1]
    return Plan(levels[kept], starts[kept], total, kind)


def _opening(random: Random, kind: int) -> float:
    low, high = ((0, 13), (5, 16), (0, 10))[kind]
    power = float(2 ** random.integers(low, high))
    return float(np.round(power * random.choice([1.0, 1.0, 1.0, 1.5, 1.25, random.uniform(1, 2)])))


def _shape(random: Random, shape: str, level: float) -> tuple[Floats, Floats]:
    """Give levels, and each level's dwell as a share of the total (the last one's is not used)."""
    if shape == "single":
        ratio = random.choice(
            [2.0, 4.0, 8.0, 1.5, 3.0, 0.5, 10 ** random.uniform(-0.7, 1)], p=[0.4, 0.15, 0.07, 0.1, 0.06, 0.12, 0.1]
        )
        share = random.choice(_ROUND) if random.random() < 0.7 else random.uniform(0.02, 1.0)
        return np.array([level, level * ratio]), np.array([share, 0.0])
    if shape == "curriculum":
        count = int(random.integers(5, 21))
        whole = random.choice([1.0, random.uniform(0.1, 1.0)])
        return level * np.arange(1, count + 1.0), np.full(count, whole / count)
    if shape == "return":
        count = int(random.integers(3, 9))
        other = level * random.choice([2.0, 0.5, 4.0, 1.5])
        dwell = 10 ** random.uniform(-1.5, -0.5) * np.array([1.0, 10 ** random.uniform(-0.7, 0.7)])
        return np.where(np.arange(count) % 2 == 0, level, other), dwell[np.arange(count) % 2]
    count = int(random.choice([3, 4, 5, 6, 7, 8, 9], p=[0.06, 0.24, 0.22, 0.18, 0.12, 0.1, 0.08]))
    if shape == "noise":
        powers: Floats = random.integers(-2, 3, count).astype(np.float64)
        return level * np.exp2(powers), random.dirichlet(np.ones(count))
    whole = float(random.choice([1.0, random.uniform(0.3, 1.0)], p=[0.6, 0.4]))
    growth = {"equal": 1.0, "geometric": float(random.choice([2.0, 1.5, 0.5]))}.get(shape, 1.0)
    shares = np.power(growth, np.arange(count, dtype=np.float64))
    ratios = np.full(count - 1, float(random.choice([2.0, 1.5, 4.0, 3.0], p=[0.8, 0.08, 0.08, 0.04])))
    if shape == "irregular":
        shares = np.exp(0.6 * random.standard_normal(count))
        ratios = random.choice([2.0, 1.5, 1.2], size=count - 1)
    levels = level * np.concatenate([[1.0], np.cumprod(ratios)])
    if shape == "equal" and random.random() < 0.25:
        levels = level * np.arange(1, count + 1.0)
    spans: Floats = whole * shares / shares.sum()
    return levels, spans


def curve(random: Random) -> Series:
    """Make one metric's curve: a power law with noise, at times a late drop of a decaying rate, a plateau or a rise."""
    count = int(random.integers(8, 260))
    total = float(np.round(10 ** random.uniform(1.5, 6)))
    steps = np.unique(np.round(np.linspace(random.choice([0, 1]), total, count)))
    share = steps / total
    power = 10 ** random.uniform(-1, 0.3)
    knee = 10 ** random.uniform(-3.5, -0.5)
    values = (1 + share / knee) ** -power
    floor = random.uniform(0, 2)
    if random.random() < 0.35:
        values = values - random.uniform(0, 0.3) * np.maximum(share - 0.5, 0) ** random.uniform(1, 2)
    if random.random() < 0.15:
        values = values + random.uniform(0, 0.5) * np.maximum(share - random.uniform(0.2, 0.9), 0)
    if random.random() < 0.1:
        values = values - random.uniform(0.05, 0.3) * (share > random.uniform(0.2, 0.9))
    noise = 10.0 ** random.uniform(-4, -0.8) * random.standard_normal(len(steps))
    if random.random() < 0.3:
        noise = np.convolve(noise, np.ones(5) / 5, mode="same")
    sign = -1.0 if random.random() < 0.15 else 1.0
    told: Floats = 10.0 ** random.uniform(-2, 2) * (sign * (values + noise) + floor)
    return Series(f"{MADE}/power", np.asarray(steps, dtype=np.float64), told, total)


def shape(random: Random, family: str) -> Series:
    """Make one metric's curve of a family of ``shapes.FAMILIES``, so that what does not look like a loss is known."""
    steps, values, total = shapes.made(random, family)
    return Series(f"{MADE}/{family}", steps, values, total)


def usage(random: Random) -> Series:
    """Make one utilisation series: steady, periodic with pauses, bursty, or stepping, with noise, within [0, 1].

    A third begin idle, ramp up, and fall idle again when the work is done.
    """
    count = int(random.integers(40, 400))
    index = np.arange(count, dtype=np.float64)
    level = random.uniform(0.05, 0.97)
    values: Floats = np.full(count, level)
    if random.random() < 0.55:
        period = random.uniform(3, 60)
        phase = ((index + random.uniform(0, period)) / period) % 1.0
        pause = phase < random.uniform(0.05, 0.5)
        values = np.where(pause, level * random.uniform(0, 1), level)
        if random.random() < 0.3:
            values = level * (0.7 + 0.3 * np.sin(2 * np.pi * phase))
    if random.random() < 0.3:
        bursts = random.random(count) < 10 ** random.uniform(-2, -0.7)
        values = np.where(bursts, random.uniform(0, 1), values)
    if random.random() < 0.2:
        values = _between(random, values, level * random.uniform(0, 1))
    if random.random() < 0.2:
        values = np.where(index > random.integers(1, count), values * random.uniform(0.3, 1.5), values)
    noise = 10.0 ** random.uniform(-3, -0.9) * random.standard_normal(count)
    values = values + noise * random.choice([1.0, level])
    if random.random() < 0.35:
        values = _phases(random, values)
    return Series("prior", index, np.clip(values, 0, 1), float("nan"))


def _between(random: Random, values: Floats, other: float) -> Floats:
    """Let a series stay now at its own level, now at another, each stay as long as it happens to be."""
    stays = random.exponential(10 ** random.uniform(0.3, 1.7, 2)[np.arange(len(values)) % 2]) + 1
    place = np.searchsorted(np.cumsum(stays), np.arange(len(values)), side="right")
    return np.where(place % 2 == 0, values, other)


def _phases(random: Random, values: Floats) -> Floats:
    """Put idle time, a ramp and a warm-up in front of the work, and mostly idle time behind it."""
    count = len(values)
    idle = random.uniform(0, 0.6) * float(np.median(values))
    begin = int(random.uniform(0, 0.4) * count)
    end = int(random.uniform(0.5, 1.0) * count) if random.random() < 0.6 else count
    index = np.arange(count)
    share = np.clip((index - begin) / random.uniform(1, 8), 0, 1)
    if random.random() < 0.4:
        warm = begin + int(random.uniform(0, 0.3) * count)
        share = np.where(index < warm, share * random.uniform(0.3, 0.9), share)
    share = np.minimum(share, np.clip(1 - (index - end) / random.uniform(0.5, 4), 0, 1))
    found: Floats = idle + share * (values - idle)
    return found
