"""Pure decisions: the seconds of a training step on any GPUs, learned from what a job showed and from public profiles.

The law is Pollux's (Qiao et al., OSDI'21, section 3.2), for a local batch ``b`` on ``n`` GPUs, ``s`` accumulation
steps before the one that synchronises::

    T_grad = fixed + each x b          T_sync = 0 if n = 1, else first x (1 + growth x (n - 2)), within or between nodes
    T_step = s x T_grad + (T_grad^gamma + T_sync^gamma)^(1/gamma)

On another GPU ``fixed`` and ``each`` shrink with powers of the data sheets' ratios. What is unknown of a job (its
seconds, the share that grows with the batch, its synchronisation, how far each GPU model is off the data sheets' law)
has a Gaussian prior fitted to public profiles; observations turn it into a posterior by Gauss-Newton, so a prediction
comes with its standard deviation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from daemon.gpus import DATA_SHEETS
from daemon.types import Floats, Ints

ITERATIONS = 12
LONGEST_STEP = 2.0
"""No latent moves further in one Gauss-Newton step, so that a poor start cannot run away."""

UNTOLD_FILL = 0.5

_SECONDS, _SHARE, _SYNC, _GPUS = 0, 1, 2, 5


class Point(NamedTuple):
    """Where a step runs: the GPU as its data sheet is named ("" unknown), the batch of one pass on one GPU, counts."""

    gpu: str
    batch: float
    replicas: int = 1
    nodes: int = 1
    accumulation: int = 0


@dataclass(frozen=True, slots=True)
class Law:
    """What public profiles say before a job has shown anything.

    ``grows`` and ``fixed`` are powers of (float32 rate, tensor gain, bandwidth) by which both parts of ``T_grad`` get
    faster; ``share`` is the logit of the part that grows with the batch, and ``sync`` the logarithms of ``T_sync`` over
    ``T_grad`` within a node by NVLink, within a node without it, and between nodes, both for a pass that fills the
    memory of the GPU; the ``*_spread`` are prior
    standard deviations, ``noise`` that of one observation's logarithm. Fitted by ``tests.tools.speed_skill --fit``;
    the spreads of GPUs and the noise are set so that 80 % intervals hold (docs/decision-quality.md).
    """

    grows: tuple[float, float, float] = (0.82, 0.31, 0.54)
    fixed: tuple[float, float, float] = (0.25, 0.0, 0.19)
    share: float = 2.6
    share_spread: float = 1.4
    sync: tuple[float, float, float] = (-2.5, -2.9, -1.5)
    sync_spread: tuple[float, float, float] = (1.5, 1.6, 1.3)
    growth: tuple[float, float, float] = (0.0, 0.37, 0.22)
    gamma: float = 1.0
    grows_spread: float = 0.5
    fixed_spread: float = 0.6
    unknown_spread: float = 1.0
    noise: float = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A job's posterior. ``gpus`` are the models that have latents; ``full`` is the batch that fills the first one."""

    law: Law
    gpus: tuple[str, ...]
    full: float
    at: Floats
    covariance: Floats

    def log_seconds(self, points: Sequence[Point]) -> tuple[Floats, Floats]:
        """Predict log seconds float[P] of a step, and their standard deviations float[P]."""
        found, slope = _law(self, self.at, points)
        return found, _deviation(slope, self.covariance)

    def ratios(self, points: Sequence[Point], to: Point) -> tuple[Floats, Floats]:
        """Predict log seconds over those at another point, both float[P]; what both share cancels in the deviation."""
        found, slope = _law(self, self.at, [*points, to])
        return found[:-1] - found[-1], _deviation(slope[:-1] - slope[-1], self.covariance)

    def asked(self, models: Sequence[str]) -> "Learned":
        """Add GPUs about which nothing was observed: for them the prior holds."""
        new = tuple(dict.fromkeys(model for model in models if model not in self.gpus))
        if not new:
            return self
        old = len(self.at)
        mean, prior = _prior(self.law, (*self.gpus, *new), 0.0)
        mean[:old], prior[:old, :old] = self.at, self.covariance
        return Learned(self.law, (*self.gpus, *new), self.full, mean, prior)


def learn(law: Law, points: Sequence[Point], seconds: Sequence[float], full: float | None = None) -> Learned:
    """Learn from steps that took ``seconds``.

    ``full`` is the batch that fills the first point's GPU; untold, the first pass is taken to fill half of it. Raises
    ``ValueError`` without an observation: a step has no scale then.
    """
    if not points:
        raise ValueError("no step was observed - give the present machine's")
    gpus = tuple(dict.fromkeys(point.gpu for point in points))
    full = full or points[0].batch / UNTOLD_FILL
    share = 1 / (1 + np.exp(-law.share))
    of_full = 1 - share + share * points[0].batch / full
    mean, covariance = _prior(law, gpus, float(np.log(seconds[0]) - np.log(of_full)))
    known = np.log(np.asarray(seconds, dtype=np.float64))
    start = Learned(law, gpus, full, mean, covariance)
    at = mean
    for _ in range(ITERATIONS):
        found, slope = _law(start, at, points)
        gain = np.linalg.solve(slope @ covariance @ slope.T + law.noise**2 * np.eye(len(known)), slope @ covariance).T
        step = mean + gain @ (known - found + slope @ (at - mean)) - at
        longest = float(np.abs(step).max())
        at = at + step * min(1.0, LONGEST_STEP / max(longest, 1e-12))
        if longest < 1e-6:
            break
    return Learned(law, gpus, full, at, covariance - gain @ slope @ covariance)


def _prior(law: Law, gpus: tuple[str, ...], log_seconds: float) -> tuple[Floats, Floats]:
    mean = np.zeros(_GPUS + 2 * len(gpus))
    spread = np.zeros(len(mean))
    mean[_SECONDS], spread[_SECONDS] = log_seconds, 3.0
    mean[_SHARE], spread[_SHARE] = law.share, law.share_spread
    mean[_SYNC:_GPUS], spread[_SYNC:_GPUS] = law.sync, law.sync_spread
    for i, gpu in enumerate(gpus[1:], 1):
        known = gpu in DATA_SHEETS and gpus[0] in DATA_SHEETS
        spread[_GPUS + 2 * i] = law.fixed_spread if known else law.unknown_spread
        spread[_GPUS + 2 * i + 1] = law.grows_spread if known else law.unknown_spread
    return mean, np.diag(spread**2)


def at(job: Learned, latents: Floats, points: Sequence[Point]) -> tuple[Floats, Floats]:
    """Give log seconds float[P] and their slopes float[P, L] where the latents have these values."""
    return _law(job, latents, points)


def kind(point: Point) -> int:
    """Say by what replicas are joined: 0 NVLink, 1 a node without it, 2 the network between nodes."""
    sheet = DATA_SHEETS.get(point.gpu)
    return 2 if point.nodes > 1 else 0 if sheet is not None and sheet.linked else 1


def _law(job: Learned, at: Floats, points: Sequence[Point]) -> tuple[Floats, Floats]:
    """Give log seconds float[P] and their slopes in the latents float[P, L]."""
    law = job.law
    gpu = np.array([job.gpus.index(point.gpu) for point in points], dtype=np.int64)
    batch, replicas, _, accumulated = np.array([point[1:] for point in points], dtype=np.float64).T
    faster = _faster(job)
    share = 1.0 / (1.0 + np.exp(-at[_SHARE]))
    fixed = np.exp(at[_SECONDS] - faster[gpu, 0] + at[_GPUS + 2 * gpu]) * (1 - share)
    grows = np.exp(at[_SECONDS] - faster[gpu, 1] + at[_GPUS + 2 * gpu + 1]) * share * batch / job.full
    grad = fixed + grows
    way = np.array([kind(point) for point in points], dtype=np.int64)
    # Faster GPUs come with faster links: the profiles tell T_sync over T_grad of the same GPU.
    one_sync = np.exp(at[_SECONDS] - faster[gpu, 1] + at[_SYNC + way])
    sync = np.where(replicas > 1, one_sync * (1 + np.array(law.growth)[way] * np.maximum(replicas - 2, 0)), 0.0)
    powers = grad**law.gamma + sync**law.gamma
    last = powers ** (1 / law.gamma)
    step = accumulated * grad + last
    by_grad = (accumulated * grad + last * grad**law.gamma / powers) / step
    by_sync = last * sync**law.gamma / powers / step
    slope = np.zeros((len(points), len(at)))
    rows: Ints = np.arange(len(points))
    slope[:, _SECONDS] = 1.0
    slope[:, _SHARE] = by_grad * (grows * (1 - share) - fixed * share) / grad
    slope[rows, _SYNC + way] = by_sync
    slope[rows, _GPUS + 2 * gpu] = by_grad * fixed / grad
    slope[rows, _GPUS + 2 * gpu + 1] = by_grad * grows / grad
    return np.log(step), slope


def _faster(job: Learned) -> Floats:
    """Log gains float[G, 2] of each GPU over the reference, of the fixed and of the growing part."""
    first = DATA_SHEETS.get(job.gpus[0])
    powers = np.array([job.law.fixed, job.law.grows])
    gains = np.zeros((len(job.gpus), 2))
    for i, gpu in enumerate(job.gpus):
        sheet = DATA_SHEETS.get(gpu)
        if first is not None and sheet is not None:
            gains[i] = powers @ (sheet.features() - first.features())
    return gains


def _deviation(slope: Floats, covariance: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(np.einsum("pi,ij,pj->p", slope, covariance, slope), 0.0)))
