"""Pure decisions: the time of a step, given hyperparameters, on the machine that the job runs on now.

Fitted afresh from the stretches of the window at each forecast: it costs less than keeping a recursion would, and
cannot drift. Medians in a stretch keep slow steps (compilation, evaluation, a checkpoint) out.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from daemon.forecast.affine import PARTICLES, Belief, fit
from daemon.forecast.drivers import Points
from daemon.forecast.rows import Flags
from daemon.forecast.stretches import Stretches
from daemon.types import Floats, Ints

FIXED = (1.2, 2.2)
"""Part of a step that does not grow with its work, as a beta distribution: of doubling the batch in Gavel's table of
five models on three GPUs the median is .36, the deciles .01 and .89."""
FIXED_FULL = (2.2, 7.8)
FULL = 32_768.0
"""Tokens a step from which a machine is taken to be full, so that less of a step is fixed."""
ATTENTION = 20_000.0
"""Attention window, in tokens, at which attending costs as much as the rest of the work: 6 to 12 times a model's width
by operations. Its spread is in logarithms."""
ATTENTION_SPREAD = 0.7
_LEAST_SPREAD = 0.04
_LEAST_SCATTER = 0.005
_MOST_SCATTER = 0.5
_PER_OCTAVE = 0.025
_NEAR = 0.5
_ON_IT = 0.05


@dataclass(frozen=True, slots=True)
class Costs:
    """The laws of J jobs: ``known`` bool[J] where there is one, shares float[J, 3] relative to the reference.

    ``work``, ``reach`` and ``residual`` float[J, S] are of the stretches seen on the present machine (NaN elsewhere).
    """

    known: Flags
    shares: Floats
    covariance: Floats
    reference: Floats  # [J, 3]: work, reach, seconds
    scatter: Floats
    work: Floats
    reach: Floats
    residual: Floats

    def predict(self, points: Points) -> tuple[Floats, Floats]:
        """Give (seconds[U], deviation[U]) at points; 0 for jobs without a law.

        The deviation is that of one observed step: what the law leaves open, the scatter of steps, and 2.5 % for
        every doubling away from the nearest stretch seen (of the reach, by what attending costs). At what was seen,
        the law gives way to what was seen.
        """
        job, work, reach = points.job, points.at.work, points.at.reach
        reference = self.reference[job]
        features = np.stack([np.ones_like(work), work / reference[:, 0], reach / reference[:, 1]], axis=1)
        middle = (features * self.shares[job]).sum(axis=1)
        variance = np.maximum(((features[:, None, :] @ self.covariance[job])[:, 0] * features).sum(axis=1), 0.0)
        seen = np.log(self.work)[job], np.log(self.reach)[job]
        distance = np.abs(np.log(work)[:, None] - seen[0]) + np.abs(np.log(reach)[:, None] - seen[1])
        distance = np.where(np.isfinite(distance), distance, np.inf)[:, ::-1]
        nearest = distance.argmin(axis=1)
        far = np.minimum(distance[np.arange(len(job)), nearest], 50.0)
        mean = reference[:, 2] * middle * np.exp(self.residual[job, -1 - nearest] * np.exp(-far / _NEAR))
        left_open = np.sqrt(variance) / middle * (1.0 - 0.8 * np.exp(-far / _ON_IT))
        away = np.abs(np.log(work / self.work[job, -1 - nearest]))
        attending = np.minimum(4.0 * features[:, 2] * self.shares[job, 2] / middle, 1.0)
        away = np.where(self.known[job], np.minimum(away + attending * far, 50.0), 0.0)
        spread = np.sqrt(left_open**2 + self.scatter[job] ** 2 + (_PER_OCTAVE * away / np.log(2.0)) ** 2)
        return np.where(self.known[job], mean, 0.0), np.where(self.known[job], mean * spread, 0.0)


def costs(seen: Stretches, tokens: Flags) -> Costs:
    """Fit the step time of many jobs at once, from packed stretches; ``tokens`` bool[J]: work is told in tokens."""
    here = (seen.group == 0) & np.isfinite(seen.seconds)
    known: Flags = np.asarray(here.any(axis=1))
    which = newest(here, seen.count)
    rows = np.arange(len(which))
    reference = np.stack([seen.work[rows, which], seen.reach[rows, which], seen.seconds[rows, which]], axis=1)
    reference = np.where(known[:, None], reference, 1.0)
    features = np.stack([np.ones_like(seen.work), seen.work / reference[:, :1], seen.reach / reference[:, 1:2]], axis=2)
    features = np.nan_to_num(features, nan=1.0)
    values = seen.seconds / reference[:, 2:]
    trust = _trust(seen)
    prior = expected(reference[:, 1] / reference[:, 0], tokens & (reference[:, 0] >= FULL))
    values = one_scale(features, values, trust, seen.group, prior)
    cloud = fit(features, values, np.where(np.isfinite(values), values * trust, np.inf), prior)
    shares = cloud.mean(axis=1)
    apart = cloud - shares[:, None, :]
    fitted = (features @ shares[:, :, None])[:, :, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = np.log(values / fitted) * seen.count / (seen.count + 1.0)
    told = here & np.isfinite(seen.scatter)
    scatter = _middle(np.where(told, seen.scatter, np.nan), 0.05)
    return Costs(
        known, shares, apart.transpose(0, 2, 1) @ apart / cloud.shape[1], reference,
        np.clip(scatter, _LEAST_SCATTER, _MOST_SCATTER),
        np.where(here, seen.work, np.nan), np.where(here, seen.reach, np.nan),
        np.clip(np.where(here, np.nan_to_num(residual), 0.0), -1.0, 1.0),
    )  # fmt: skip


def expected(window: Floats, full: Flags) -> Belief:
    """Draw what is expected of the shares of a step with attention window float64[J], on a ``full`` machine or not.

    The spread that data have to overcome is held up, so that windows told in other units than tokens can be learned.
    """
    even = (np.arange(PARTICLES) + 0.5) / PARTICLES
    random = np.random.default_rng(20)
    drawn = np.stack([random.beta(*shape, 64 * PARTICLES) for shape in (FIXED, FIXED_FULL)])
    fixed = np.sort(drawn, axis=1).reshape(2, PARTICLES, 64).mean(axis=2)[full.astype(np.int64)]
    at = ATTENTION * np.exp(ATTENTION_SPREAD * ndtri(random.permutation(even)))
    reach = window[:, None] / (window[:, None] + at)
    shares = np.stack([fixed, (1 - fixed) * (1 - reach), (1 - fixed) * reach], axis=2)
    return Belief(shares, np.maximum(shares.std(axis=1), _LEAST_SPREAD))


def newest(usable: Flags, count: Floats) -> Ints:
    """Choose the stretch that shares are relative to: the newest usable one with three rows, else the newest usable."""
    last = usable.shape[1] - 1
    firm = usable & (count >= 3)
    chosen: Flags = np.where(firm.any(axis=1, keepdims=True), firm, usable)
    return np.asarray(last - chosen[:, ::-1].argmax(axis=1), dtype=np.int64)


def _middle(values: Floats, otherwise: float) -> Floats:
    ranked = np.sort(values, axis=1)
    n = np.isfinite(values).sum(axis=1)
    found = np.take_along_axis(ranked, np.maximum((n - 1) // 2, 0)[:, None], axis=1)[:, 0]
    return np.where(n > 0, found, otherwise)


def later(work: Floats, reach: Floats, group: Floats) -> Floats:
    """Count, for each stretch, how many later ones of its job have the same hyperparameters and machine."""
    same = (work[:, :, None] == work[:, None, :]) & (reach[:, :, None] == reach[:, None, :])
    same &= group[:, :, None] == group[:, None, :]
    return np.asarray(np.triu(same, 1).sum(axis=2), dtype=float)


def _trust(seen: Stretches) -> Floats:
    """Give each stretch's relative deviation: few rows, much scatter, great age and another machine weigh less."""
    scatter = np.where(np.isfinite(seen.scatter), seen.scatter, 0.05)
    count = np.maximum(seen.count, 1.0)
    spread = np.sqrt(0.015**2 + (1.25 * scatter) ** 2 / count + (0.5 / count**2) ** 2 + 0.03**2 * (seen.group > 0))
    return np.asarray(spread * 1.5 ** np.minimum(later(seen.work, seen.reach, seen.group), 8.0), dtype=float)


def one_scale(features: Floats, values: Floats, trust: Floats, group: Floats, prior: Belief) -> Floats:
    """Bring rows of other machines and runs to the present one's scale: one factor a group, found with the law.

    A group that shares no stretch with the present machine and has only one of its own says nothing, and is left out.
    """
    rows = np.flatnonzero((group > 0).any(axis=1))
    if not len(rows):
        return values
    raw, values = values, values.copy()
    own = Belief(*(np.broadcast_to(each, (len(group), *each.shape[1:]))[rows] for each in (prior.shares, prior.spread)))
    law = own.shares.mean(axis=1)
    for _ in range(4):
        for place, j in enumerate(rows):
            values[j] = _rescaled(features[j], raw[j], law[place], group[j])
        spread = np.where(np.isfinite(values[rows]), values[rows] * trust[rows], np.inf)
        law = fit(features[rows], values[rows], spread, own).mean(axis=1)
    return values


def _rescaled(features: Floats, raw: Floats, law: Floats, group: Floats) -> Floats:
    values = raw.copy()
    expected = features @ law
    here = np.flatnonzero((group == 0) & np.isfinite(raw))
    for number in np.unique(group[group > 0]):
        rows = np.flatnonzero((group == number) & np.isfinite(raw))
        if not len(rows):
            continue
        apart = np.abs(features[rows][:, None] - features[here]).max(axis=2, initial=0.0) / features[rows].max(
            axis=1, keepdims=True
        )
        shared = apart.min(axis=1, initial=np.inf) < 0.01
        if shared.any():
            factor = float(np.median(raw[here][apart[shared].argmin(axis=1)] / raw[rows[shared]]))
        elif np.ptp(features[rows, 1]) + np.ptp(features[rows, 2]) > 0.05:
            factor = float(np.exp(np.mean(np.log(expected[rows] / raw[rows]))))
        else:
            factor = np.nan
        values[rows] = raw[rows] * factor
    return values
