"""Pure decisions: memory, given hyperparameters: weights and runtime, activations, attention; nothing negative.

The most that a step holds is the larger of two: what the optimiser holds at its own step, whatever the batch (weights,
gradients, moments), and what is there when the backward pass begins: most of the same, and activations, linear in
batch x length but for attention's scores. So at small sizes memory stands on a plateau that says nothing of the slope.
Both readings of the smallest stretches, on the plateau and above it, are fitted; those that do not fit fall away.

An allocator does not give back what it took, so memory never falls along a path, and a stretch that followed a bigger
one says nothing. The deviation is set so that the 0.99 quantile is the upper edge of what the data leave open: the
engine reads it as a chance of not fitting, so the tail must be honest where it is not Gaussian.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.forecast.affine import PARTICLES, Belief, Prior, belief, fit
from daemon.forecast.cost import later, newest, one_scale
from daemon.forecast.drivers import MEMORY, Points
from daemon.forecast.rows import Flags
from daemon.forecast.stretches import Stretches
from daemon.types import Floats, History

PRIOR = Prior((0.5, 0.5, 0.0), 5.0)
HOST_BESIDE_GPU = Prior((0.86, 0.14, 0.0), 6.0)
TAIL = 2.326
EDGE = (0.35, 0.35)
"""How far towards the highest particle the 0.99 quantile goes, up to one doubling beyond what was seen and from two
on: a step above the least that covers 98.5 % of small models' measured memory (``tests.benchmarks.memory_skill``)."""

_EVEN_LENGTH = 400.0
"""Length at which attention's scores weigh as much as all other activations: 34/5 of a head's width (Korthikanti et
al. 2022, "Reducing activation recomputation"), which is 50 to 130. Kernels that keep no scores have no such term."""
_OF_PLATEAU = (0.65, 0.98)
"""What the fixed part is of the plateau: gradients, or moments too, come and go."""
_OF_GPU_PLATEAU = (0.48, 0.98)
"""The same on a GPU, where Adam takes all its parameters at once: weights and two moments of what is then, with
gradients and as much again for what lies between, up to twice as much."""
_FLAT = 0.04
_ALONE = {MEMORY[0]: 0.85, MEMORY[1]: 1.0}
"""The same where one size was seen, or all on the plateau: nothing tells the slope. Measured likewise."""
_LEAST = 0.006
_PER_OCTAVE = 0.01
_HELD_ROWS = 16
_FORGET = 9.0
"""A reading that misses by this much more, in squared deviations, falls away: three deviations."""
_SHUFFLED = np.argsort(np.arange(PARTICLES) * 7 % PARTICLES)
"""An order that goes well with even steps: 7 and the number of particles have no common factor."""


@dataclass(frozen=True, slots=True)
class Memories:
    """The laws of J jobs for one kind of memory: ``known`` bool[J] where there is one, ``risen`` where it has grown.

    ``shares`` float[J, 2 P, 3] are relative to the reference, first above the plateau, then on it; ``holds_gib``
    float[J] is what the process holds now; ``held``, ``reach`` and ``peak_gib`` float[J, S] are what each stretch has
    needed (NaN: it says nothing).
    """

    known: Flags
    risen: Flags
    shares: Floats
    reference: Floats  # [J, 3]: held, reach, gib
    noise: Floats
    holds_gib: Floats
    held: Floats
    reach: Floats
    peak_gib: Floats
    alone: float
    edge: tuple[float, float] = EDGE

    def predict(self, points: Points) -> tuple[Floats, Floats]:
        """Give (mean, 0.99 quantile) in GiB at points, both monotone in work and reach; 0 for jobs without a law.

        Never under the peak of a stretch as big or smaller.
        """
        job, held, reach = points.job, points.at.held, points.at.held_reach
        reference = self.reference[job]
        share = (self.shares * self.reference[:, None, 2:])[job]
        cloud = share[:, :, 1] * (held / reference[:, 0])[:, None]
        cloud += share[:, :, 2] * (reach / reference[:, 1])[:, None]
        cloud += share[:, :, 0]
        seen_held, seen_reach, peak = self.held[job], self.reach[job], self.peak_gib[job]
        within = (seen_held <= held[:, None] * 1.0001) & (seen_reach <= reach[:, None] * 1.0001)
        floor = np.where(within & np.isfinite(peak), peak, 0.0).max(axis=1)
        more = np.maximum(np.log2(held / np.fmax.reduce(self.held, axis=1, initial=0.0)[job]), 0.0)
        beyond = more + np.maximum(np.log2(reach / np.fmax.reduce(self.reach, axis=1, initial=0.0)[job]), 0.0)
        # The likelier of the two readings is not known: the one that asks for more stands in the middle too.
        mean = np.maximum(np.maximum(cloud.mean(axis=1), cloud[:, :PARTICLES].mean(axis=1)), floor)
        edge = self.edge[0] + (self.edge[1] - self.edge[0]) * np.clip(more - 1.0, 0.0, 1.0)
        edge = np.where(self.risen[job], edge, self.alone)
        upper = np.maximum(edge * cloud.max(axis=1) + (1.0 - edge) * cloud.mean(axis=1), floor) * (
            1.0 + TAIL * (self.noise[job] + _PER_OCTAVE * beyond)
        )
        upper = np.maximum(upper, mean * (1.0 + TAIL * _LEAST))
        return np.where(self.known[job], mean, 0.0), np.where(self.known[job], upper, 0.0)

    def along(self, points: Points, shape: tuple[int, int, int]) -> tuple[Floats, Floats]:
        """Give (gib, deviation), both float64[J, M, K]: along K memory never falls, nor under what is held now."""
        mean, upper = (points.spread(each).reshape(shape) for each in self.predict(points))
        mean = np.maximum.accumulate(np.maximum(mean, self.holds_gib[:, None, None], out=mean), axis=2)
        least = (self.holds_gib * (1.0 + TAIL * _LEAST))[:, None, None]
        upper = np.maximum.accumulate(np.maximum(upper, least, out=upper), axis=2)
        return mean, (upper - mean) / TAIL


def memories(name: str, histories: Sequence[History], seen: Stretches) -> Memories:
    """Fit one kind of memory of many jobs at once, from packed stretches."""
    level, peak = seen.memory(name)
    telling: Flags = np.isfinite(level) & ~_overshadowed(seen, level)
    own = telling & (seen.group == 0)
    usable = np.where(own.any(axis=1)[:, None], own, telling)
    known: Flags = np.asarray(usable.any(axis=1))
    which = newest(usable, seen.count)
    rows = np.arange(len(which))
    reference = np.stack([seen.held[rows, which], seen.held_reach[rows, which], level[rows, which]], axis=1)
    reference = np.where(known[:, None], reference, 1.0)
    features = np.stack(
        [np.ones_like(seen.held), seen.held / reference[:, :1], seen.held_reach / reference[:, 1:2]], axis=2
    )
    features = np.nan_to_num(features, nan=1.0)
    beside = name == MEMORY[0]
    on_gpu: Flags = np.asarray(np.isfinite(seen.gpu_level).any(axis=1))
    flat = belief([HOST_BESIDE_GPU if beside and each else PRIOR for each in on_gpu]).shares
    scores = _scores(reference[:, 1] / reference[:, 0])
    prior = _split(flat[:, :, 0], 1.0 - flat[:, :, 0], scores)
    trust = np.where(telling, _trust(seen, level, peak), np.inf)
    values = one_scale(features, np.where(telling, level, np.nan) / reference[:, 2:], trust, seen.group, prior)
    of_plateau = _OF_PLATEAU if beside else _OF_GPU_PLATEAU
    deviations = np.where(np.isfinite(values), values * trust, np.inf)
    shares = _both(features, values, deviations, prior, scores, of_plateau)
    here = np.isfinite(peak) & (seen.group == 0)
    here[rows, which] |= known
    with np.errstate(invalid="ignore"):
        rough = np.where(here, peak / level - 1.0, 0.0).max(axis=1)
    risen: Flags = np.asarray(_plateau(values, deviations)[1].any(axis=1))
    return Memories(
        known, risen, shares, reference, np.clip(rough, _LEAST, 0.1), _holds(name, histories),
        np.where(known[:, None], np.where(here, seen.held, np.nan), 1.0),
        np.where(known[:, None], np.where(here, seen.held_reach, np.nan), 1.0), np.where(here, peak, np.nan),
        _ALONE[name],
    )  # fmt: skip


def _scores(window: Floats) -> Floats:
    """Draw what attention's scores weigh against all other activations at each job's reference: float64[J, P].

    Nothing in every second particle (kernels that keep no scores), else by the length that is attended to.
    """
    wide = np.exp2(np.linspace(-2.0, 2.0, PARTICLES // 2))
    even = np.stack([np.full(PARTICLES // 2, np.inf), _EVEN_LENGTH * wide], axis=1).ravel()
    return np.asarray(window[:, None] / even)


def _split(fixed: Floats, growing: Floats, scores: Floats) -> Belief:
    """Make a belief of shares: fixed, and what grows with the batch, split into activations and attention's scores."""
    quadratic = growing * scores / (1.0 + scores)
    shares = np.stack([fixed, growing - quadratic, quadratic], axis=2)
    return Belief(shares, shares.std(axis=1) + 1e-3)


def _both(
    features: Floats, values: Floats, deviations: Floats, prior: Belief, scores: Floats, of_plateau: tuple[float, float]
) -> Floats:
    """Fit with the smallest stretches above the plateau, and on it: shares float64[J, 2 P, 3].

    A particle that puts more than was seen where the plateau was seen is no reading of it: the other's stands there.
    """
    above = fit(features, values, deviations, prior)
    counted = np.isfinite(deviations)
    flat, risen, least = _plateau(values, deviations)
    plateau = np.where(np.isfinite(least), least, 1.0)
    even = (np.arange(PARTICLES) + 0.5) / PARTICLES
    fixed = plateau * (of_plateau[0] + (of_plateau[1] - of_plateau[0]) * even[_SHUFFLED])
    largest = np.max(np.where(flat, features[:, :, 1], 0.0), axis=1, initial=0.0, keepdims=True)
    below = (plateau - fixed) * even / np.maximum(largest, 1e-9)
    growing = np.where(risen.any(axis=1, keepdims=True), np.maximum(1.0 - fixed, 0.02), below)
    on_it = fit(features, values, np.where(risen, deviations, np.inf), _split(fixed, growing, scores))
    there = np.einsum("jsf,jpf->jsp", features, on_it)
    over = flat[:, :, None] & (there > ((1.0 + _FLAT) * least)[:, :, None])
    on_it = np.where(over.any(axis=1)[:, :, None], above, on_it)
    worse = _misfit(features, values, deviations, above, counted) - _misfit(features, values, deviations, on_it, risen)
    above = np.where((worse > _FORGET)[:, None, None], on_it, above)
    return np.concatenate([above, on_it], axis=1)


def _plateau(values: Floats, deviations: Floats) -> tuple[Flags, Flags, Floats]:
    """Say which stretches lie as low as the lowest, bool[J, S], which above, and how low that is, float64[J, 1]."""
    counted = np.isfinite(deviations)
    least = np.min(np.where(counted, values, np.inf), axis=1, initial=np.inf, keepdims=True)
    flat: Flags = np.asarray(counted & (values <= (1.0 + _FLAT) * least))
    risen: Flags = np.asarray(counted & ~flat)
    return flat, risen, least


def _misfit(features: Floats, values: Floats, deviations: Floats, cloud: Floats, counted: Flags) -> Floats:
    """Give the sum of squared misses, in deviations, of a cloud's middle: float64[J]."""
    fitted = (features @ cloud.mean(axis=1)[:, :, None])[:, :, 0]
    with np.errstate(invalid="ignore"):
        missed = np.where(counted, (fitted - values) / np.where(counted, deviations, 1.0), 0.0)
    return np.asarray((missed**2).sum(axis=1))


def _holds(name: str, histories: Sequence[History]) -> Floats:
    """Read what each process holds now: the most of its newest rows; an earlier process's is gone."""
    found = np.zeros(len(histories))
    for row, history in enumerate(histories):
        values = history.columns.get(name)
        if values is not None:
            recent = values[-_HELD_ROWS:]
            found[row] = np.where((recent > 0) & (recent < np.inf), recent, 0.0).max(initial=0.0)
    return found


def _overshadowed(seen: Stretches, level: Floats) -> Flags:
    """Say which stretches came after a bigger one of their machine or run whose memory they still hold."""
    held, reach = seen.held, seen.held_reach
    bigger = (held[:, :, None] >= held[:, None, :]) & (reach[:, :, None] >= reach[:, None, :])
    bigger &= (held[:, :, None] > held[:, None, :]) | (reach[:, :, None] > reach[:, None, :])
    bigger &= seen.group[:, :, None] == seen.group[:, None, :]
    bigger &= level[:, None, :] >= 0.9 * level[:, :, None]
    return np.asarray(np.triu(bigger, 1).any(axis=1))


def _trust(seen: Stretches, level: Floats, peak: Floats) -> Floats:
    """Give each stretch's relative deviation: few rows, roughness, age and another machine or run weigh less."""
    count = np.maximum(seen.count, 1.0)
    rough = np.clip(np.where(level > 0, peak / level - 1.0, 0.0), 0.0, 0.1)
    spread = np.sqrt(0.003**2 + rough**2 + (0.1 / count) ** 2 + 0.03**2 * (seen.group > 0))
    return np.asarray(spread * 2.0 ** np.minimum(later(seen.held, seen.held_reach, seen.group), 8.0), dtype=float)
