"""Pure decisions: the law that cost and memory share, ``y = a + b x work + c x reach`` with nothing negative.

The law is fitted in relative numbers: features and values over those of a reference stretch, so that the coefficients
are shares and one prior fits every job. What is not known stays a cloud of particles, each of them a law of its own
(randomised maximum a posteriori, Bardsley et al. 2014): mean and quantiles over the cloud are monotone because every
particle is, and the cloud is wide exactly where the stretches seen so far leave the shares open.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.types import Floats

PARTICLES = 24
_MASKS = np.array([[a, b, c] for a in (0.0, 1.0) for b in (0.0, 1.0) for c in (0.0, 1.0)][1:])


@dataclass(frozen=True, slots=True)
class Prior:
    """Expected shares of (fixed, work, reach) and how firmly they are held (a Dirichlet's concentration)."""

    shares: tuple[float, float, float]
    firmness: float


@dataclass(frozen=True, slots=True)
class Belief:
    """A prior as particles: shares float[J or 1, P, 3], their standard deviations float[J or 1, 3]."""

    shares: Floats
    spread: Floats


def belief(priors: Sequence[Prior]) -> Belief:
    """Draw the particles of one prior for all jobs, or of one a job.

    The generator's seed is fixed: the same history gives the same forecast.
    """
    drawn = {
        prior: np.random.default_rng(20).dirichlet(np.array(prior.shares) * prior.firmness, PARTICLES)
        for prior in set(priors)
    }
    shares = np.stack([drawn[prior] for prior in priors])
    return Belief(shares, shares.std(axis=1) + 1e-3)


def fit(features: Floats, values: Floats, deviations: Floats, prior: Belief) -> Floats:
    """Fit J laws at once: features float[J, S, 3], values and deviations float[J, S] -> shares float[J, P, 3].

    A stretch of infinite deviation does not count. The optimum under "nothing negative" is found exactly, by solving
    each of the seven supports and taking the best feasible one.
    """
    half = np.random.default_rng(21).standard_normal((PARTICLES // 2, values.shape[1]))
    noise = np.concatenate([half, -half])
    counted = np.isfinite(deviations) & np.isfinite(values)
    scaled = np.where(counted[..., None], features / np.where(counted, deviations, 1.0)[..., None], 0.0)
    target = np.where(counted, values / np.where(counted, deviations, 1.0), 0.0)
    turned = scaled.transpose(0, 2, 1)
    firm = prior.spread**-2.0
    square = turned @ scaled + firm[:, :, None] * np.eye(3)
    right = (turned @ target[..., None]).transpose(0, 2, 1) + noise @ scaled + prior.shares * firm[:, None, :]
    best: Floats = np.zeros_like(right)
    score = np.full(right.shape[:2], -np.inf)
    for mask in _MASKS:
        inverse = np.linalg.inv(square * np.outer(mask, mask) + np.diag(1.0 - mask)) * np.outer(mask, mask)
        found = right @ inverse
        gain = np.where(found.min(axis=2) >= 0.0, (found * right).sum(axis=2), -np.inf)
        better = gain > score
        score = np.where(better, gain, score)
        best[better] = found[better]
    return best
