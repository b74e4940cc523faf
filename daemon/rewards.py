"""Edge: what the experts of running jobs would have done, remembered until it is known how each job went.

The experts are the forecaster and "the present persists". What a job's end teaches weighs them in the next turns of all
jobs of the same owner. In memory only: after a restart they begin anew, as after a job that is not seen to end.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from daemon import engine
from daemon.forecast.drivers import MEMORY
from daemon.forecast.stretches import step_seconds
from daemon.reward import Course, came, mixed, refined, regrets
from daemon.types import Forecast, History, Job
from providers.types import Offer

FORETOLD, PRESENT = "foretold", "present"
PRIOR: Mapping[str, float] = {FORETOLD: 0.9, PRESENT: 0.1}
MOST_DISPUTES = 16
MOST_ROWS = 1024

_Row = tuple[int, float, tuple[float, ...], str]
"""Step, seconds a step, each kind of memory, and the offer's id."""


@dataclass(slots=True)
class _Story:
    """One running job: what it showed, and the cases in which its experts would have decided differently."""

    rows: list[_Row] = field(default_factory=list)
    offers: dict[str, Offer] = field(default_factory=dict)
    disputes: list[tuple[engine.Case, Mapping[str, str]]] = field(default_factory=list)


class Rewards:
    """The weights of the experts, by owner, and the stories of running jobs."""

    def __init__(self) -> None:
        self._weights: dict[str | None, Mapping[str, float]] = {}
        self._stories: dict[str, _Story] = {}
        self._lock = threading.Lock()

    def weights(self, job: Job) -> Mapping[str, float]:
        """Give the weights of a job's experts; they sum to 1."""
        return self._weights.get(job.owner, PRIOR)

    def mixed(self, job: Job, foretold: Forecast, present: Forecast) -> Forecast:
        """Give the forecast that the engine should weigh."""
        return mixed(foretold, present, self.weights(job)[FORETOLD])

    def saw(self, job: Job, history: History, offer: Offer) -> None:
        """Remember what a job has shown since it was last looked at, on the machine it runs on."""
        story = self._stories.setdefault(job.name, _Story())
        if story.rows and len(history) and history.step[-1] < story.rows[-1][0]:
            story = self._stories[job.name] = _Story()
        story.offers[offer.id] = offer
        new = history.step > (story.rows[-1][0] if story.rows else -1)
        memory = [history.columns.get(name, np.full(len(history), np.nan)) for name in MEMORY]
        places = np.flatnonzero(new).tolist()
        seconds = step_seconds(history)
        story.rows += [
            (int(history.step[row]), float(seconds[row]), tuple(float(each[row]) for each in memory), offer.id)
            for row in places
        ]
        if len(story.rows) > MOST_ROWS:
            story.rows = story.rows[:-1:2] + story.rows[-1:]

    def decided(self, job: Job, case: engine.Case, chosen: Mapping[str, str]) -> None:
        """Remember a case in which experts would have taken different offers, by id; of too many every other goes."""
        story = self._stories.get(job.name)
        if story is None or len(set(chosen.values())) < 2:
            return
        bare = replace(case.forecast, probability=np.ones(1), paths={}, deviations={})
        story.disputes.append((replace(case, forecast=bare), chosen))
        if len(story.disputes) > MOST_DISPUTES:
            story.disputes = story.disputes[::2]

    def ended(self, job: Job) -> None:
        """Judge a job's experts by how it went, and refine the weights of its owner's. A story is told once."""
        story = self._stories.pop(job.name, None)
        if story is None:
            return
        found: dict[str, list[float]] = {}
        for case, chosen in story.disputes:
            course = _course(story, case)
            truth = came(case.forecast, course) if course is not None else None
            if truth is not None:
                for name, regret in regrets(engine.weigh(replace(case, forecast=truth)).options, chosen).items():
                    found.setdefault(name, []).append(regret)
        with self._lock:
            told = {name: float(np.mean(each)) for name, each in found.items()}
            self._weights[job.owner] = refined(self.weights(job), told)

    def forget(self, job: str) -> None:
        """Forget a job that was removed."""
        self._stories.pop(job, None)


def _course(story: _Story, case: engine.Case) -> Course | None:
    """Give how the job went, its step times put on the case's machine; rows that cannot be are left out."""
    names = list(story.offers)
    factor, _ = case.speeds.factors(case.current, [story.offers[name] for name in names])
    on = dict(zip(names, factor.tolist(), strict=True))
    rows = [row for row in story.rows if 0 < on[row[3]] < np.inf]
    if not rows:
        return None
    memory = {name: np.array([row[2][place] for row in rows]) for place, name in enumerate(MEMORY)}
    return Course(np.array([row[0] for row in rows]), np.array([row[1] / on[row[3]] for row in rows]), memory)
