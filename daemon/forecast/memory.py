"""Pure decisions: memory, given hyperparameters: weights and runtime, activations, attention; nothing negative.

An allocator does not give back what it took, so memory never falls along a path, and a stretch that followed a bigger
one says nothing. The deviation is set so that the 0.99 quantile is the upper edge of what the data leave open: the
engine reads it as a chance of not fitting, so the tail must be honest where it is not Gaussian.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.forecast.affine import Prior, belief, fit
from daemon.forecast.cost import later, newest, one_scale
from daemon.forecast.drivers import MEMORY, Points
from daemon.forecast.rows import Flags
from daemon.forecast.stretches import Stretches
from daemon.types import Floats, History

PRIOR = Prior((0.5, 0.47, 0.03), 5.0)
HOST_BESIDE_GPU = Prior((0.86, 0.13, 0.01), 6.0)
TAIL = 2.326
_LEAST = 0.006
_PER_OCTAVE = 0.01
_HELD_ROWS = 16
_EDGE = 0.6
"""How far towards the highest particle the 0.99 quantile goes: measured, on grids of small models' real memory."""


@dataclass(frozen=True, slots=True)
class Memories:
    """The laws of J jobs for one kind of memory: ``known`` bool[J] where there is one.

    ``shares`` float[J, P, 3] are relative to the reference; ``holds_gib`` float[J] is what the process holds now;
    ``held``, ``reach`` and ``peak_gib`` float[J, S] are what each stretch has needed (NaN: it says nothing).
    """

    known: Flags
    shares: Floats
    reference: Floats  # [J, 3]: held, reach, gib
    noise: Floats
    holds_gib: Floats
    held: Floats
    reach: Floats
    peak_gib: Floats

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
        beyond = np.maximum(np.log2(held / np.fmax.reduce(self.held, axis=1, initial=0.0)[job]), 0.0)
        beyond += np.maximum(np.log2(reach / np.fmax.reduce(self.reach, axis=1, initial=0.0)[job]), 0.0)
        mean = np.maximum(cloud.mean(axis=1), floor)
        edge = _EDGE * cloud.max(axis=1) + (1.0 - _EDGE) * cloud.mean(axis=1)
        upper = np.maximum(edge, floor) * (1.0 + TAIL * (self.noise[job] + _PER_OCTAVE * beyond))
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
    prior = belief([HOST_BESIDE_GPU if beside and each else PRIOR for each in on_gpu])
    trust = np.where(telling, _trust(seen), np.inf)
    values = one_scale(features, np.where(telling, level, np.nan) / reference[:, 2:], trust, seen.group, prior)
    shares = fit(features, values, np.where(np.isfinite(values), values * trust, np.inf), prior)
    here = np.isfinite(peak) & (seen.group == 0)
    here[rows, which] |= known
    with np.errstate(invalid="ignore"):
        rough = np.where(here, peak / level - 1.0, 0.0).max(axis=1)
    return Memories(
        known, shares, reference, np.clip(rough, _LEAST, 0.1), _holds(name, histories),
        np.where(known[:, None], np.where(here, seen.held, np.nan), 1.0),
        np.where(known[:, None], np.where(here, seen.held_reach, np.nan), 1.0), np.where(here, peak, np.nan),
    )  # fmt: skip


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


def _trust(seen: Stretches) -> Floats:
    """Give each stretch's relative deviation: few rows, age and another machine or run weigh less."""
    count = np.maximum(seen.count, 1.0)
    spread = np.sqrt(0.005**2 + (0.1 / count) ** 2 + 0.03**2 * (seen.group > 0))
    return np.asarray(spread * 2.0 ** np.minimum(later(seen.held, seen.held_reach, seen.group), 8.0), dtype=float)
