"""Pure decisions: Shockwave's forecast of a run whose batch size moves in regimes (Zheng et al., NSDI 2023).

The shares of the run that its regimes take are Dirichlet. A regime that is over has its true share; what is left is
split evenly among the present one and those to come (the paper's restatement of the posterior).
"""

import zlib
from collections.abc import Sequence

import numpy as np

from daemon.backtest.baselines import Answer, series, weighted
from daemon.backtest.history import Run
from daemon.backtest.question import ELAPSED, Question, drivers
from daemon.forecast.regimes import drives
from daemon.forecast.rows import Flags
from daemon.forecast.schedule import ScheduleSamples, declarations, follow
from daemon.types import Floats, History, Ints

DRAWS = 200


def shockwave(question: Question, told: bool) -> Answer | None:
    """Answer a question for the total time; ``None`` for another column, or where nothing changes in regimes.

    Told, it knows the regimes to come in their order and how long a step takes in each. Not told, it takes those it
    has seen to come back in proportion to the steps they had.
    """
    names = drivers(question.run) if question.target == ELAPSED else []
    if not names:
        return None
    regime = regimes(question.run, names)
    if not len(series(question.run, ELAPSED, question.size)[0]):
        return None
    present = float(question.column(ELAPSED)[np.isfinite(question.column(ELAPSED))][-1])
    share, seconds = _told(question, regime) if told else _counted(question, regime, names)
    random = np.random.default_rng(17)
    drawn = random.dirichlet(share, DRAWS) if len(share) > 1 else np.ones((DRAWS, 1))
    left = question.steps - question.now
    totals = present + (drawn @ seconds)[:, None] * left[None]
    mean = present + float(share @ seconds / share.sum()) * left
    return weighted(np.asarray(mean), totals, np.full(DRAWS, 1 / DRAWS))


def regimes(run: Run, names: list[str]) -> Ints:
    """Number the regime of each row: it rises where one of the columns changes. int64[n]."""
    turns = np.zeros(len(run), dtype=bool)
    for name in names:
        values = run.columns[name]
        known = np.flatnonzero(np.isfinite(values))
        turns[known[1:][values[known[1:]] != values[known[:-1]]]] = True
    return np.cumsum(turns).astype(np.int64)


def _seconds(run: Run, rows: Flags, otherwise: float) -> float:
    values = run.column("step_seconds")[rows]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else otherwise


def _told(question: Question, regime: Ints) -> tuple[Floats, Floats]:
    """Give the concentration of what is left over the present regime and those to come, and their true step times."""
    now = int(regime[question.size - 1])
    coming = list(range(now, int(regime[-1]) + 1))
    begun = float(question.run.step[np.flatnonzero(regime == now)[0]])
    each = (question.total - begun) / len(coming)
    share = np.full(len(coming), each)
    share[0] = each - (question.now - begun)
    if share[0] <= 0:
        # The present regime has outlasted its share: half of one more step is all that it is given.
        share[0] = 0.5
    everything = _seconds(question.run, regime >= 0, 1.0)
    seconds = [_seconds(question.run, regime == one, everything) for one in coming]
    return np.asarray(share / share.sum() * len(coming)), np.array(seconds)


def _counted(question: Question, regime: Ints, names: list[str]) -> tuple[Floats, Floats]:
    """Give the concentration and step time of each setting that was seen."""
    size = question.size
    table = np.stack([question.run.columns[name][:size] for name in names], axis=1)
    _, setting = np.unique(np.nan_to_num(table, nan=-1.0), axis=0, return_inverse=True)
    setting = np.ravel(setting)
    width = np.diff(question.run.step[:size], prepend=question.run.step[0])
    everything = _seconds(question.run, np.arange(len(regime)) < size, 1.0)
    count = np.bincount(setting, width) / max(float(width.sum()), 1.0)
    padded = [np.concatenate([setting == one, np.zeros(len(regime) - size, dtype=bool)]) for one in range(len(count))]
    seconds = [_seconds(question.run, rows, everything) for rows in padded]
    return np.asarray(1.0 + 10 * count), np.array(seconds)


class Regimes:
    """Sample schedules as Shockwave would, in the place of the shipped forecaster's own.

    The settings of driving hyperparameters that were seen share what is left of the run, the present one first and
    then in the order in which they were first seen, by a Dirichlet draw over the steps that each has had. What a job
    declares is known; other hyperparameters stay as they are.
    """

    def sample(self, histories: Sequence[History], grids: Sequence[Ints], trajectories: int) -> list[ScheduleSamples]:
        """Sample M futures a job on its grid; the same for the same input."""
        return [_sampled(one, ahead, trajectories) for one, ahead in zip(histories, grids, strict=True)]


def _sampled(history: History, ahead: Ints, trajectories: int) -> ScheduleSamples:
    last = {name: history.last(name) for name in history.columns if name.startswith("hp.")}
    paths = {name: np.full((trajectories, len(ahead)), value) for name, value in last.items() if value is not None}
    names = sorted(name for name in paths if drives(name))
    if names:
        table = np.stack([_filled(history.columns[name]) for name in names], axis=1)
        settings, place = np.unique(table, axis=0, return_inverse=True)
        place = np.ravel(place)
        first = np.array([np.flatnonzero(place == one)[0] for one in range(len(settings))], dtype=np.float64)
        first[place[-1]] = -1.0
        order = np.argsort(first)
        steps = np.bincount(place, np.diff(history.step, prepend=history.step[0]), minlength=len(settings))[order]
        random = np.random.default_rng(zlib.crc32(history.job.encode()))
        shares = random.dirichlet(1.0 + 10 * steps / max(float(steps.sum()), 1.0), trajectories)
        gone = (ahead - history.step[-1]) / max(int(ahead[-1] - history.step[-1]), 1)
        turn = (np.cumsum(shares, axis=1)[:, None, :-1] < gone[None, :, None]).sum(axis=2)
        for column, name in enumerate(names):
            paths[name] = settings[order][turn, column]
    told = declarations(history)
    for name, changes in told.items():
        followed = follow(changes, history.last(name), ahead.astype(np.float64))
        paths[name] = np.repeat(followed[None], trajectories, axis=0)
    return ScheduleSamples(np.full(trajectories, 1 / trajectories), paths, tuple(sorted(told)), ())


def _filled(values: Floats) -> Floats:
    """Carry known values forward, and the first one back."""
    known = np.isfinite(values)
    place = np.maximum.accumulate(np.where(known, np.arange(len(values)), int(np.argmax(known))))
    return values[place]
