"""Pure decisions: a run whose experts are judged, once it has ended, by the decisions each would have led to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from daemon.replay.cautious import Cautious
from daemon.replay.future import Future, Place
from daemon.replay.run import Declared, Run
from daemon.replay.trace import Trace
from daemon.reward import regrets
from policies import guards
from policies.base import Policy
from policies.types import Option, Settings


@dataclass(frozen=True, slots=True)
class Disputed:
    """A moment at which experts would have taken different offers. ``place`` is ``None`` at the start."""

    place: Place | None
    now: float
    chosen: Mapping[str, str]


class Rewarded(Run):
    """One run under ``Cautious`` with weights, and what its experts would have done at each turn."""

    def __init__(self, trace: Trace, policy: Policy, eyes: Cautious, settings: Settings) -> None:
        """Prepare as ``Run`` does."""
        self._disputed: list[Disputed] = []
        self._experts = eyes
        super().__init__(trace, policy, eyes, settings)

    def regret(self) -> dict[str, float]:
        """Judge the experts in hindsight: the mean regret of each over the moments of dispute in which it was heard."""
        truth = Declared(self._trace).future(self.world)
        found: dict[str, list[float]] = {}
        for one in self._disputed:
            if one.place is None:
                options = self._beginnings(truth)
            else:
                options = self._weigh(truth.cut(one.place.progress), one.place, one.now)
            for name, regret in regrets(options, one.chosen).items():
                found.setdefault(name, []).append(regret)
        return {name: float(np.mean(each)) for name, each in found.items()}

    def _beginnings(self, future: Future) -> tuple[Option, ...]:
        options = super()._beginnings(future)
        if not future.foreseen:
            alone = {name: super(Rewarded, self)._beginnings(one) for name, one in self._alone(future).items()}
            self._note(None, 0.0, {name: each[self._best(each)].offer.id for name, each in alone.items()})
        return options

    def _weighed(self, future: Future, place: Place, now: float) -> tuple[Option, ...]:
        if place.running:
            alone = {
                name: guards.decide(self._policy, self._situation(self._weigh(one, place, now)))
                for name, one in self._alone(future).items()
            }
            self._note(place, now, {name: choice.option.offer.id for name, choice in alone.items()})
        return self._weigh(future, place, now)

    def _alone(self, future: Future) -> dict[str, Future]:
        """Give each expert's part of a future as the whole of it."""
        owner = np.array(self._experts.owner)
        found = {}
        for name in dict.fromkeys(self._experts.owner):
            mine = owner == name
            found[name] = replace(future, probability=mine / mine.sum())
        return found

    def _note(self, place: Place | None, now: float, chosen: Mapping[str, str]) -> None:
        if len(set(chosen.values())) > 1:
            self._disputed.append(Disputed(place, now, chosen))
