"""Pure decisions: what a run had shown at some moment, and what is asked of it then."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.backtest.history import Run
from daemon.forecast.regimes import drives
from daemon.types import Declared, Floats, History

ELAPSED = "elapsed_s"
MOST_EARLIER = 8
"""Earlier runs handed to the forecaster with a job."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A column's values at future ``steps`` float64[P], asked when ``size`` rows of the run had been seen.

    ``actual`` and ``at_s`` float64[P] are what came (for the score alone). ``total`` is the end that
    all are told, if the run ``ends`` for them: its file has ``total_steps``, or a final value is asked.
    ``earlier`` are finished earlier runs, the owner's before the group's, newest first.
    """

    run: Run
    target: str
    seen: float
    size: int
    steps: Floats
    at_s: Floats
    actual: Floats
    total: int
    ends: bool
    earlier: tuple[Run, ...] = ()

    @property
    def now(self) -> float:
        """The newest step that has been seen."""
        return float(self.run.step[self.size - 1])

    def column(self, name: str) -> Floats:
        """Give what has been seen of a column."""
        return self.run.column(name)[: self.size]


def ask(
    run: Run, target: str, seen: float, horizon_s: float | None, earlier: Sequence[Run] = (), size: int | None = None
) -> Question | None:
    """Ask for a run's final value (``horizon_s`` ``None``), or for all later values up to a horizon in seconds.

    ``None`` where nothing can be asked: nothing known of the column before the cut or after it. The cut is at a share
    of the recorded run, and the final value is asked at the step at which it stands: a run that ended before its
    ``total_steps`` is not compared with a forecast for them. With ``size`` that many rows are seen, and ``seen`` is
    only what this is called.
    """
    values = run.column(target)
    known = np.flatnonzero(np.isfinite(values))
    if len(run) < 2 or len(known) < 2:
        return None
    if size is None:
        size = int(np.searchsorted(run.step, run.step[0] + seen * (run.step[-1] - run.step[0]), side="right"))
    size = min(max(size, 1), len(run) - 1)
    later = known[known >= size]
    if not len(later) or known[0] >= size:
        return None
    told = run.total_steps[:size][np.isfinite(run.total_steps[:size])]
    end = max(float(told[-1]) if len(told) else 0.0, float(run.step[-1]))
    if horizon_s is None:
        later = later[-1:]
    else:
        clock = run.elapsed_s if np.isfinite(run.elapsed_s).any() else run.step
        now = clock[:size][np.isfinite(clock[:size])]
        later = later[clock[later] <= now[-1] + horizon_s] if len(now) else later[:0]
    if not len(later):
        return None
    ends = bool(len(told)) or horizon_s is None
    return Question(
        run, target, seen, size, run.step[later], run.elapsed_s[later], values[later], int(end), ends, tuple(earlier)
    )


def history(question: Question, declared: Sequence[str] = ()) -> History:
    """Give the history that a daemon would have held at that moment, with the true future of ``declared`` columns."""
    run, size = question.run, question.size
    given = {
        name: values[:size]
        for name, values in run.columns.items()
        if np.isfinite(values[:size]).any() and name != "throughput"
    }
    return History(
        run.job, run.step[:size].astype(np.int64), _clock(run)[:size], given, offers=("",) * size,
        total_steps=question.total if question.ends else None, declared=declarations(run, size, declared),
        owner=run.owner or None, group=run.group, diverged=0 <= run.diverged_row < size,
        earlier=tuple(whole(one) for one in question.earlier[:MOST_EARLIER]),
    )  # fmt: skip


def whole(run: Run) -> History:
    """Give a finished run as the history it left."""
    return History(
        run.job, run.step.astype(np.int64), _clock(run), dict(run.columns), offers=("",) * len(run),
        total_steps=int(run.step[-1]), owner=run.owner or None, group=run.group,
    )  # fmt: skip


def _clock(run: Run) -> Floats:
    """Give times that never go back, for a clock that was set anew on the way."""
    clock = np.where(np.isfinite(run.elapsed_s), run.elapsed_s, -np.inf)
    rising: Floats = np.maximum.accumulate(clock)
    return np.where(np.isfinite(rising), rising, 0.0) if np.isfinite(run.elapsed_s).any() else run.step.copy()


def declarations(run: Run, size: int, names: Sequence[str]) -> tuple[Declared, ...]:
    """Give the true changes of columns after the first ``size`` rows, as a job would declare them.

    Each column is declared at the next step too: else one that never changes again would be taken for undeclared.
    """
    found: dict[int, dict[str, float]] = {}
    for name in names:
        values = run.column(name)
        known = np.flatnonzero(np.isfinite(values))
        fresh = known[np.concatenate([[True], values[known[1:]] != values[known[:-1]]])] if len(known) else known
        if len(known) and known[0] < size:
            present = float(values[known[known < size][-1]])
            found.setdefault(int(run.step[size - 1]) + 1, {})[name.removeprefix("hp.")] = present
        for row in fresh[fresh >= size].tolist():
            found.setdefault(int(run.step[row]), {})[name.removeprefix("hp.")] = float(values[row])
    return tuple(Declared(step, found[step]) for step in sorted(found))


def earlier_runs(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Give each run's predecessors, in the order of ``runs``: of its owner and then of its group, newest first.

    Earlier is by ``started_at`` and, where that says nothing, by the order of the files.
    """
    order = sorted(range(len(runs)), key=lambda place: runs[place].started_at)
    found: list[tuple[Run, ...]] = [()] * len(runs)
    owners: dict[str, list[Run]] = {}
    groups: dict[str, list[Run]] = {}
    for place in order:
        run = runs[place]
        mine = owners.setdefault(run.owner, []) if run.owner else []
        ours = groups.setdefault(run.group, [])
        near = [one for one in reversed(ours) if one.owner == run.owner]
        rest = [one for one in reversed(ours[-200:]) if one.owner != run.owner]
        own = near[:100] or list(reversed(mine[-100:]))
        found[place] = (*own, *rest)
        ours.append(run)
        if run.owner:
            mine.append(run)
    return found


def after_change(run: Run, steps: int) -> int | None:
    """Count the rows seen so many steps after the first change of a driving hyperparameter; ``None`` without one."""
    turns = [
        known[1:][values[known[1:]] != values[known[:-1]]]
        for name in drivers(run)
        for values in [run.columns[name]]
        for known in [np.flatnonzero(np.isfinite(values))]
    ]
    first = np.concatenate(turns) if turns else np.zeros(0)
    if not len(first):
        return None
    return int(np.searchsorted(run.step, run.step[int(first.min())] + steps, side="right"))


def drivers(run: Run) -> list[str]:
    """Name the hyperparameters that may drive a step's cost and that change in this run."""
    names = [name for name in run.columns if name.startswith("hp.") and drives(name)]
    return [name for name in names if len(np.unique(run.columns[name][np.isfinite(run.columns[name])])) > 1]
