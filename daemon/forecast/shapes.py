"""Pure decisions: made-up metric curves of many families, so that the curve nets know more shapes than a falling loss.

Each family is a law over the share of the run that is done, its parameters drawn widely; ``made`` gives it rows, noise,
a sign, a level and a unit.
"""

from collections.abc import Callable, Mapping

import numpy as np

from daemon.types import Floats

Random = np.random.Generator
FEWEST = 5
LARGEST = 1e11


def _log(random: Random, low: float, high: float) -> float:
    """Draw evenly in the logarithm."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def falling(random: Random, share: Floats) -> Floats:
    """Fall from 1 to a floor: by a power, an exponential or a stretched one, or in a line."""
    kind = random.random()
    floor = random.choice([0.0, random.uniform(0, 0.8)])
    if kind < 0.45:
        fall = (1 + share / _log(random, 3e-4, 0.5)) ** -_log(random, 0.1, 2)
    elif kind < 0.9:
        fall = np.exp(-((share / _log(random, 0.02, 2)) ** random.uniform(0.4, 1.3)))
    else:
        fall = 1 - random.uniform(0.2, 1) * share
    found: Floats = floor + (1 - floor) * fall
    return found


def _after(random: Random, share: Floats, low: float = 0.03, high: float = 1.0) -> tuple[float, Floats]:
    """Draw the moment of a change, and give the share that has gone by since."""
    moment = float(random.uniform(low, high))
    return moment, np.maximum(share - moment, 0.0)


def overfitting(random: Random, share: Floats) -> Floats:
    """Fall, and from some moment on rise: ever faster, in a line, or towards a level."""
    fall = falling(random, share)
    _, since = _after(random, share, 0.02, 0.9)
    height = _log(random, 0.05, 3)
    kind = random.random()
    if kind < 0.6:
        return fall + height * since ** random.uniform(0.7, 2)
    if kind < 0.8:
        return fall + 0.5 * height * (1 - np.exp(-since / _log(random, 0.03, 0.5)))
    return fall + 0.3 * height * np.log1p(since / _log(random, 0.01, 0.3))


def bumps(random: Random, share: Floats) -> Floats:
    """Fall with one bump or two on the way, skew as they come."""
    found = falling(random, share)
    for _ in range(int(random.choice([1, 2], p=[0.75, 0.25]))):
        top, rise = random.uniform(0.1, 1.1), _log(random, 0.02, 0.3)
        decay = rise * _log(random, 0.4, 3)
        width = np.where(share < top, rise, decay)
        found = found + _log(random, 0.05, 1.2) / np.cosh((share - top) / width)
    return found


def wandering(random: Random, share: Floats) -> Floats:
    """Wander around a target that itself moves and saturates: rewards of reinforcement learning."""
    count = len(share)
    reach = 1 - np.exp(-share / _log(random, 0.02, 3)) if random.random() < 0.7 else np.ones(count)
    start, goal = random.uniform(-1, 1), random.uniform(-1, 3)
    pull = _log(random, 0.01, 0.7)
    shocks = _log(random, 0.03, 0.6) * random.standard_normal(count)
    value, found = start, np.empty(count)
    for row in range(count):
        target = start + (goal - start) * reach[row]
        value += pull * (target - value) + shocks[row]
        found[row] = value
    if random.random() < 0.2:
        moment, since = _after(random, share)
        found = found - np.where(share > moment, _log(random, 0.2, 2) * np.exp(-since / _log(random, 0.03, 1)), 0)
    return found


def late(random: Random, share: Floats) -> Floats:
    """Move late and by stages: steps of an S form, each at its own moment and as steep as it comes."""
    found = np.zeros(len(share))
    for _ in range(int(random.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))):
        middle, steep = random.uniform(0.05, 1.4), _log(random, 3, 120)
        kind, ahead = random.random(), np.clip(steep * (share - middle), -50, 50)
        if kind < 0.4:
            stage = 0.5 * (1 + np.tanh(ahead / 2))
        elif kind < 0.7:
            stage = np.exp(-np.exp(-np.clip(ahead, -6, 50)))
        else:
            power = _log(random, 1.5, 12)
            stage = share**power / (share**power + middle**power)
        found = found + random.uniform(0.2, 1) * stage
    slope = random.choice([0.0, random.uniform(-0.2, 0.2)])
    return np.asarray(-found - slope * share + random.choice([0.0, 1.0, random.uniform(0, 2)]))


def spikes(random: Random, share: Floats) -> Floats:
    """Learn, with rare spikes, of one row or fading."""
    found = falling(random, share) + random.choice([0.0, 0.1])
    places = np.flatnonzero(random.random(len(share)) < _log(random, 0.01, 0.2))
    fade = random.choice([0.0, random.uniform(0.2, 0.8)])
    high, up = np.zeros(len(share)), _log(random, 0.3, 300)
    for place in places.tolist():
        tail = fade ** np.arange(len(share) - place) if fade else np.eye(1, len(share) - place)[0]
        high[place:] = np.maximum(high[place:], up * _log(random, 0.5, 2) * tail)
    return np.asarray(found * (1 + high) if random.random() < 0.7 else found + high)


def diverging(random: Random, share: Floats) -> Floats:
    """Learn, and from some moment on run away, burst to another level for good, or come back from a burst."""
    fall = falling(random, share)
    moment, since = _after(random, share, 0.1, 1.2)
    height = _log(random, 0.5, 1e10) if random.random() < 0.3 else _log(random, 0.3, 30)
    kind = random.random()
    if kind < 0.35:
        grown = height * np.expm1(np.minimum(since / _log(random, 0.02, 0.5), 12)) / np.expm1(3)
    elif kind < 0.8:
        grown = np.where(share > moment, height, 0.0)
    else:
        grown = np.where(share > moment, height * np.exp(-since / _log(random, 0.02, 0.5)), 0.0)
    return np.asarray(np.minimum(fall + grown, LARGEST))


def drops(random: Random, share: Floats) -> Floats:
    """Fall a little, and by steps where a learning rate decays."""
    found = falling(random, share) * random.choice([1.0, random.uniform(0, 0.5)])
    count = int(random.integers(1, 7))
    moments = random.uniform(0, 1.1, count)
    if random.random() < 0.5:
        moments = np.arange(1, count + 1) / (count + random.integers(0, 2)) * random.uniform(0.6, 1)
    size, ratio, quick = _log(random, 0.05, 0.6), random.choice([1.0, random.uniform(0.3, 1)]), _log(random, 0.002, 0.1)
    for place, moment in enumerate(np.sort(moments).tolist()):
        since = np.maximum(share - moment, 0.0)
        step = np.where(share > moment, 1 - np.exp(-since / quick) if quick > 0.01 else 1.0, 0.0)
        found = found - size * ratio**place * step
    return np.asarray(found)


def waves(random: Random, share: Floats) -> Floats:
    """Fall in waves: sines, rectified ones, triangles, or restarts of which each begins high again."""
    fall = falling(random, share)
    phase = share * _log(random, 1, 20) + random.uniform(0, 1)
    kind = random.random()
    if kind < 0.35:
        wave = np.sin(2 * np.pi * phase)
    elif kind < 0.6:
        wave = np.abs(np.sin(np.pi * phase)) if random.random() < 0.5 else 1 - 2 * np.abs(np.cos(np.pi * phase))
    elif kind < 0.8:
        wave = np.abs(2 * (phase % 1.0) - 1)
    else:
        wave = np.exp(-(phase % 1.0) / _log(random, 0.1, 1))
    height = _log(random, 0.03, 1) * (fall if random.random() < 0.3 else np.ones(len(share)))
    found: Floats = fall + height * wave
    return found


def walks(random: Random, share: Floats) -> Floats:
    """Walk at random, with a drift, in the value or in its logarithm."""
    count = len(share)
    jumps = random.standard_t(random.choice([3, 30]), count) / np.sqrt(count)
    walk = np.cumsum(jumps) * _log(random, 0.1, 2) + random.uniform(-1, 1) * share
    found: Floats = np.exp(np.clip(walk, -8, 8)) if random.random() < 0.4 else walk
    return found


def noisy(random: Random, share: Floats) -> Floats:
    """Move little under heavy noise, whose tails are long at times."""
    fall = falling(random, share) * random.uniform(0, 1) + random.choice([0.0, 1.0, 3.0])
    noise = random.standard_t(random.choice([2, 4, 30]), len(share)) * _log(random, 0.05, 1)
    found: Floats = fall * np.exp(np.clip(noise, -4, 4)) if random.random() < 0.5 else fall + noise
    return found


def flat(random: Random, share: Floats) -> Floats:
    """Stay as it is for long, under slight noise, and move after that or never."""
    moment, since = _after(random, share, 0.15, 1.6)
    level = random.uniform(0.2, 3)
    kind = random.random()
    if kind < 0.5:
        moved = 1 - np.exp(-since / _log(random, 0.01, 0.5))
    elif kind < 0.8:
        moved = random.uniform(0.5, 3) * since
    else:
        moved = np.where(share > moment, 1.0, 0.0)
    still = _log(random, 1e-4, 0.03) * random.standard_normal(len(share))
    return np.asarray(level + still + random.choice([-0.9 * level, random.uniform(-1, 1)]) * moved)


def settling(random: Random, share: Floats) -> Floats:
    """Fall fast to where it stays."""
    floor = random.uniform(0, 1)
    return floor + _log(random, 0.1, 50) * np.exp(-((share / _log(random, 0.02, 0.6)) ** random.uniform(0.8, 1.2)))


def smooth(random: Random, share: Floats) -> Floats:
    """Move along a smooth random function, in the value or in its logarithm: tones of random pitch around a drift."""
    count, pitch = 24, _log(random, 0.5, 12)
    tones = random.standard_normal(count) * pitch
    phases = random.uniform(0, 2 * np.pi, count)
    found = np.sqrt(2 / count) * np.cos(2 * np.pi * share[:, None] * tones / 2 + phases).sum(axis=1)
    found = _log(random, 0.05, 1) * found + random.uniform(-1, 1) * share
    if random.random() < 0.3:
        found = found + falling(random, share) * random.uniform(0, 2)
    return np.asarray(np.exp(found) if random.random() < 0.4 else found)


def turns(random: Random, share: Floats) -> Floats:
    """Go one way and then another: at some moment another family takes over, from there or from a level of its own."""
    names = [name for name in FAMILIES if name not in ("turns", "diverging")]
    before = FAMILIES[str(random.choice(names))](random, share)
    moment, since = _after(random, share, 0.05, 1.3)
    begun = np.flatnonzero(since > 0)
    if not len(begun) or begun[0] == 0:
        return before
    first = int(begun[0])
    new = FAMILIES[str(random.choice(names))](random, since[first:] / max(1 - moment, 0.05))
    range_ = float(np.ptp(before[: first + 1]))
    size = _log(random, 0.1, 1) * (range_ + 0.05) / (float(np.ptp(new)) + 1e-2)
    joined = before.copy()
    joined[first:] = before[first - 1] + random.choice([0.0, random.normal() * range_]) + size * (new - new[0])
    return joined


FAMILIES: Mapping[str, Callable[[Random, Floats], Floats]] = {
    "falling": falling,
    "overfitting": overfitting,
    "bumps": bumps,
    "wandering": wandering,
    "late": late,
    "spikes": spikes,
    "diverging": diverging,
    "drops": drops,
    "waves": waves,
    "walks": walks,
    "noisy": noisy,
    "flat": flat,
    "settling": settling,
    "smooth": smooth,
    "turns": turns,
}


def made(random: Random, family: str) -> tuple[Floats, Floats, float]:
    """Make a curve of a family: (steps float64[R], values float64[R], the total step), of at least ``FEWEST`` rows."""
    count = int(_log(random, FEWEST, 260))
    total = float(np.round(10 ** random.uniform(1.5, 6)))
    places = np.linspace(random.choice([0.0, 1 / count]), 1, count)
    if random.random() < 0.2:
        places = np.sort(random.uniform(0, 1, count))
    if random.random() < 0.1:
        places = places * random.uniform(0.5, 1)  # stopped before its time
    steps = np.unique(np.round(places * total))
    if len(steps) < FEWEST:
        steps = np.arange(FEWEST, dtype=np.float64) * max(np.floor(total / FEWEST), 1)
        total = max(total, float(steps[-1]))
    values = FAMILIES[family](random, steps / total)
    size = float(np.subtract(*np.percentile(values, [95, 5]))) + 1e-6
    noise = random.standard_normal(len(steps))
    if random.random() < 0.25:
        noise = np.convolve(noise, np.ones(5), mode="same") / np.sqrt(5)
    values = values + 10.0 ** random.uniform(-4, -1) * size * noise
    if random.random() < 0.35:
        values = -values
    kind = random.random()
    if kind < 0.45:  # positive throughout
        values = values - min(float(values.min()), 0.0) * 1.001 + 10.0 ** random.uniform(-2, 0.5) * min(size, 10.0)
    elif kind < 0.75:
        values = values + random.uniform(-2, 2) * min(size, 10.0)
    found: Floats = 10.0 ** random.uniform(-2, 3) * values
    return steps, found, total
