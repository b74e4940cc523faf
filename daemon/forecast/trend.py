"""Pure decisions: continue hyperparameters that move smoothly (a learning rate) along their own curve."""

import numpy as np

from daemon.types import Floats

_POINTS = 64


def continue_trends(steps: Floats, filled: Floats, ahead: Floats, total: Floats) -> Floats:
    """Continue each column: float64[R, L] and future steps float64[R, K] in, float64[R, K] out.

    Of a line, an exponential and a cosine that ends at ``total`` the one is taken that fits the newest points within
    1 % of their range, anchored at the last value; where none does, the last value stays. Signs never change.
    """
    if not len(filled):
        return np.empty(ahead.shape)
    recent, at = filled[:, -_POINTS:], steps[:, -_POINTS:]
    last = recent[:, -1:]
    now = at[:, -1:]
    span = np.maximum(now - at[:, :1], 1.0)
    range_ = np.ptp(recent, axis=1)
    best = np.repeat(last, ahead.shape[1], axis=1)
    error = np.full(len(filled), 0.01)
    end = np.where(np.isfinite(total), total, np.inf)[:, None]
    size = np.maximum(np.abs(recent), 1e-30)
    for basis, shape, values in (
        ((at - now) / span, (ahead - now) / span, recent),
        (_cosine(at, end) - _cosine(now, end), _cosine(ahead, end) - _cosine(now, end), recent),
        ((at - now) / span, (ahead - now) / span, np.log(size)),
    ):
        slope, misfit = _fit(basis, values - values[:, -1:])
        log = values is not recent
        path = values[:, -1:] + slope[:, None] * shape
        if log:
            path = np.sign(last) * np.exp(np.clip(path, np.log(size[:, -1:]) - 12, np.log(size[:, -1:]) + 3))
            misfit = misfit * np.abs(last[:, 0])
        share = misfit / np.maximum(range_, 1e-300)
        taken = (range_ > 0) & (share < error) & np.isfinite(path).all(axis=1)
        best[taken], error[taken] = path[taken], share[taken]
    low, high = np.minimum(recent.min(axis=1), 0), np.maximum(recent.max(axis=1), 0)
    widest = 10 * np.maximum(np.abs(low), high)
    best = np.where((low >= 0)[:, None], np.maximum(best, 0), np.where((high <= 0)[:, None], np.minimum(best, 0), best))
    bounded: Floats = np.clip(best, -widest[:, None], widest[:, None])
    return bounded


def _cosine(steps: Floats, end: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        wave: Floats = np.where(np.isfinite(end), np.cos(np.pi * np.minimum(steps / end, 1.0)), 0.0)
    return wave


def _fit(basis: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Fit values = slope x basis through the newest point: slope and root mean square misfit, each float64[R]."""
    scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-300)
    power = (basis**2).sum(axis=1)
    slope = (basis * values / scale).sum(axis=1) / np.maximum(power, 1e-12)
    misfit = np.sqrt(((values / scale - slope[:, None] * basis) ** 2).mean(axis=1))
    return slope * scale[:, 0], misfit * scale[:, 0]
