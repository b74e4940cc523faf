"""Pure decisions: from quantiles at nine levels to M evenly spread paths."""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from daemon.forecast.rows import reversed_bits
from daemon.types import Floats, Ints

LEVELS = (0.025, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.975)
KNOTS = 8
POOLED = 32
"""Points, even in probability, by which a member stands in a mixture."""


def spreading(trajectories: int) -> Floats:
    """Give the matrix float64[M, 9] that turns quantiles into paths: linear in the normal score."""
    scores, at = ndtri(LEVELS), ndtri(reversed_bits(trajectories))
    place = np.clip(np.searchsorted(scores, at) - 1, 0, len(scores) - 2)
    part = (at - scores[place]) / (scores[place + 1] - scores[place])
    matrix = np.zeros((trajectories, len(scores)))
    matrix[np.arange(trajectories), place] = 1 - part
    matrix[np.arange(trajectories), place + 1] = part
    return matrix


def outermost(trajectories: int) -> Ints:
    """Name the paths that lie beyond the outermost quantiles."""
    return np.flatnonzero((spreading(trajectories) < 0).any(axis=1))


def knots(points: int) -> tuple[tuple[int, ...], Floats]:
    """Choose up to ``KNOTS`` of K grid points, and the matrix float64[knots, K] that interpolates between them.

    The nearest two, then ever wider apart to the middle (half of a grid's points lie in the nearest tenth), then even.
    """
    half = points // 2
    near = {0, min(1, points - 1), points // 24, points // 8, points // 4}
    far = {round(place) for place in np.linspace(half, points - 1, max(KNOTS - len(near), 2))}
    chosen = sorted(near | far)
    matrix = np.zeros((len(chosen), points))
    for row in range(len(chosen)):
        unit = np.zeros(len(chosen))
        unit[row] = 1.0
        matrix[row] = np.interp(np.arange(points), chosen, unit)
    return tuple(chosen), matrix


def paths(quantiles: Floats, trajectories: int) -> Floats:
    """Spread quantiles float64[R, K, 9] into float64[R, M, K], equal in weight."""
    found: Floats = np.matmul(spreading(trajectories)[None], quantiles.transpose(0, 2, 1))
    return found


def pooled(quantiles: Sequence[Floats] | Floats, points: Sequence[int] = ()) -> Floats:
    """Pool members' quantiles, each float64[..., 9], into those of their mixture, float64[..., 9].

    Each stands in it by as many ``points``, all by ``POOLED`` where none are told. Where members differ, the mixture
    is wider than each of them: what none of them can know shows in its width.
    """
    each = [
        np.matmul(one, spreading(count).T)
        for one, count in zip(quantiles, points or [POOLED] * len(quantiles), strict=True)
    ]
    ranked = np.sort(np.concatenate(each, axis=-1), axis=-1)
    at = np.clip(np.array(LEVELS) * ranked.shape[-1] - 0.5, 0, ranked.shape[-1] - 1)
    low = np.minimum(at.astype(np.int64), ranked.shape[-1] - 2)
    found: Floats = ranked[..., low] + (at - low) * (ranked[..., low + 1] - ranked[..., low])
    return found


def normal(deviation: Floats) -> Floats:
    """Give the nine quantiles of a normal spread: float64[...] to float64[..., 9]."""
    spread: Floats = deviation[..., None] * ndtri(LEVELS)
    return spread


def left(quantiles: Floats, trajectories: int) -> Floats:
    """Give the deviation that smooths the gap between neighbouring paths: float64[R, K, 9] to float64[R, K]."""
    gap: Floats = (quantiles[..., 6] - quantiles[..., 2]) / max(0.6 * trajectories, 1)
    return gap
