"""Pure decisions: rolling windows over recorded runs, and the weighted quantile loss by which utilisation is judged.

Every method sees the context alone, and all are asked for every row of the horizon. The loss is over the nine deciles:
twice the summed pinball loss over the summed size of what came (Salinas et al. 2020), deciles read off each method's
quantiles linearly in the normal score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from daemon.backtest.baselines import Answer
from daemon.backtest.history import Run
from daemon.backtest.question import Question
from daemon.backtest.score import LEVELS
from daemon.types import Floats, Ints

DECILES = np.arange(1, 10) / 10


@dataclass(frozen=True, slots=True)
class Windows:
    """How windows are laid: rows seen, rows asked, rows from one to the next, and how many of a run at most."""

    context: int
    horizon: int
    every: int
    most: int | None = None


def merged(run: Run, seconds: float) -> Run:
    """Give a run in the means of even times, ``seconds`` each; its steps number these.

    Times without a row are left out. A run without elapsed times is given back as it is.
    """
    known = np.flatnonzero(np.isfinite(run.elapsed_s))
    if not len(known):
        return run
    places, into = np.unique(np.floor(run.elapsed_s[known] / seconds), return_inverse=True)
    return replace(
        run, step=places - places[0], elapsed_s=places * seconds,
        total_steps=np.full(len(places), np.nan), diverged_row=-1,
        columns={name: _means(values[known], into, len(places)) for name, values in run.columns.items()},
    )  # fmt: skip


def _means(values: Floats, into: Ints, size: int) -> Floats:
    there = np.isfinite(values)
    count = np.bincount(into[there], minlength=size)
    total = np.bincount(into[there], values[there], minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def windows(run: Run, target: str, laid: Windows) -> list[Question]:
    """Lay windows over a run, from its beginning on; with ``most`` they are thinned evenly.

    A window in whose context half of the values or more are unknown, or all in its horizon, is left out.
    """
    starts = np.arange(0, len(run) - laid.context - laid.horizon + 1, laid.every)
    if laid.most is not None and len(starts) > laid.most:
        starts = starts[np.unique(np.round(np.linspace(0, len(starts) - 1, laid.most)).astype(np.int64))]
    found = [_window(run, target, int(start), laid) for start in starts]
    return [one for one in found if one is not None]


def _window(run: Run, target: str, start: int, laid: Windows) -> Question | None:
    part = slice(start, start + laid.context + laid.horizon)
    cut = replace(
        run, step=run.step[part] - run.step[start], elapsed_s=run.elapsed_s[part], total_steps=run.total_steps[part],
        columns={name: values[part] for name, values in run.columns.items()}, diverged_row=-1,
    )  # fmt: skip
    values = cut.column(target)
    later = laid.context + np.flatnonzero(np.isfinite(values[laid.context :]))
    if 2 * np.isfinite(values[: laid.context]).sum() <= laid.context or not len(later):
        return None
    seen = (start + laid.context) / len(run)
    return Question(
        cut, target, seen, laid.context, cut.step[later], cut.elapsed_s[later], values[later], int(cut.step[-1]), False
    )


def deciles(quantiles: Floats) -> Floats:
    """Read the nine deciles off seven quantiles, linearly in the normal score: float64[P, 7] to float64[P, 9]."""
    known, asked = ndtri(np.array(LEVELS)), ndtri(DECILES)
    place = np.clip(np.searchsorted(known, asked, side="right") - 1, 0, len(known) - 2)
    part = (asked - known[place]) / (known[place + 1] - known[place])
    found: Floats = quantiles[:, place] * (1 - part) + quantiles[:, place + 1] * part
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """One method's answers window by window, W in all: summed decile loss and size, and rows in the 80 and 95 %."""

    loss: Floats
    size: Floats
    rows: Floats
    inside80: Floats
    inside95: Floats

    def wql(self) -> float:
        """Give the weighted quantile loss of all windows."""
        return float(self.loss.sum() / self.size.sum())

    def coverage(self) -> tuple[float, float]:
        """Give the shares of rows within the 80 % and the 95 % interval."""
        return float(self.inside80.sum() / self.rows.sum()), float(self.inside95.sum() / self.rows.sum())

    def of(self, chosen: Ints) -> "Losses":
        """Give some of the windows."""
        return Losses(*(getattr(self, name)[chosen] for name in self.__slots__))


def losses(questions: Sequence[Question], answers: Sequence[Answer]) -> Losses:
    """Score answers. Rounding errors do not put a value outside."""
    found = []
    for question, made in zip(questions, answers, strict=True):
        came, quantiles = question.actual, made.quantiles
        miss = came[:, None] - deciles(quantiles)
        slack = 1e-9 * np.maximum(np.abs(came), 1e-9)
        inside = [
            float(((came >= quantiles[:, low] - slack) & (came <= quantiles[:, high] + slack)).sum())
            for low, high in ((1, 5), (0, 6))
        ]
        loss = 2 * np.maximum(DECILES * miss, (DECILES - 1) * miss).mean(axis=1).sum()
        found.append((float(loss), float(np.abs(came).sum()), float(len(came)), *inside))
    return Losses(*np.array(found).reshape(-1, 5).T)


def apart(
    ours: Losses, theirs: Losses, clusters: Sequence[str], seed: int, draws: int = 2000
) -> Mapping[str, float | int]:
    """Give our weighted quantile loss less theirs, with a 95 % interval from drawing clusters with replacement."""
    names, place = np.unique(np.array(clusters), return_inverse=True)
    gap = np.bincount(place, ours.loss - theirs.loss, minlength=len(names))
    size = np.bincount(place, ours.size, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(0, len(names), (draws, len(names)))
    low, high = np.percentile(gap[drawn].sum(axis=1) / size[drawn].sum(axis=1), [2.5, 97.5])
    return {
        "difference": float(gap.sum() / size.sum()), "low": float(low), "high": float(high), "clusters": len(names),
    }  # fmt: skip
