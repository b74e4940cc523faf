"""Pure decisions: how a run's pace departs from its medians: what slow steps add on average, and how steady that is.

The law of step times is one of medians, so that evaluations, checkpoints and a busy neighbour do not bend it. A run's
total time is one of means: this is the difference, from the rows seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.forecast.drivers import drivers
from daemon.forecast.stretches import filled, step_seconds
from daemon.types import Floats, History, Ints

BLOCKS = 6
STEADY = 0.01
"""Least relative error of a pace that is told for long."""
_SHY = 0.5
"""Relative error of a pace told from one row; falls with the rows."""
_LASTING = 0.5
"""The part of a block's departure that is taken to last, and does not even out over what is left."""
_MOST = 30.0


@dataclass(frozen=True, slots=True)
class Pace:
    """``factor``: mean over median step time. The relative deviation for the rest is of ``spread`` and ``lasting``.

    ``spread`` is that of a mean over ``block`` steps; over more it falls with their root, but for ``lasting``.
    """

    factor: float
    spread: float
    lasting: float
    block: float

    def deviation(self, steps: Floats) -> Floats:
        """Give the relative deviation of the mean over the next ``steps`` float64[K]."""
        evened = self.spread**2 * np.minimum(self.block / np.maximum(steps, 1.0), 4.0)
        found: Floats = np.sqrt(evened + self.lasting**2)
        return found


def pace(history: History) -> Pace:
    """Read a job's pace from the rows seen; the first of them, which starts up, is left out."""
    seconds = step_seconds(history)
    steps = np.maximum(np.diff(history.step, prepend=history.step[:1] - 1), 1).astype(np.float64)
    known = np.flatnonzero(np.isfinite(seconds))
    known = known[1:] if len(known) > 2 else known
    if not len(known):
        return Pace(1.0, 0.0, _SHY, 1.0)
    took, steps = seconds[known] / _medians(history, seconds, known), steps[known]
    took = np.minimum(took, _MOST)
    factor = float((took * steps).sum() / steps.sum())
    shy = _SHY / len(known)
    ends = np.unique(np.searchsorted(np.cumsum(steps), np.linspace(0, steps.sum(), BLOCKS + 1)[1:-1]))
    blocks = [part for part in np.split(np.arange(len(known)), ends) if len(part)]
    if len(blocks) < 2:
        return Pace(factor, 0.0, float(np.hypot(STEADY, shy)), float(steps.sum()))
    means = np.array([(took[part] * steps[part]).sum() / steps[part].sum() for part in blocks]) / factor
    spread = float(means.std(ddof=1))
    lasting = float(np.sqrt(STEADY**2 + shy**2 + spread**2 * (_LASTING**2 + 1 / len(blocks))))
    return Pace(factor, spread, lasting, float(steps.sum()) / len(blocks))


def _medians(history: History, seconds: Floats, known: Ints) -> Floats:
    """Give the median step time of each known row's setting of the hyperparameters that drive its cost."""
    columns: Sequence[Floats] = [filled(history.columns[name]) for name in drivers(history).roles]
    setting = np.zeros(len(known), dtype=np.int64)
    if columns:
        table = np.nan_to_num(np.stack(columns, axis=1)[known])
        setting = np.ravel(np.unique(table, axis=0, return_inverse=True)[1])
    middle = np.array([np.median(seconds[known][setting == one]) for one in range(int(setting.max()) + 1)])
    found: Floats = middle[setting]
    return found
