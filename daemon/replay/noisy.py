"""Pure decisions: what is believed of speeds when every poll's step time is off.

A profile says how fast a machine is; polls say it again, each off by a log-normal share. What is believed of a machine
that the job has run on is the mean of both, weighed by how sure each is, and what is left of doubt on the present
machine is carried into the futures, so that a move must pay back in spite of it.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from daemon.replay.future import Future
from daemon.replay.run import POLL_SECONDS, Eyes
from daemon.replay.world import World

PROFILE_SPREAD = 0.05
"""How far a profile may be off, as a log standard deviation."""
FIRST_SCATTER = 0.1
"""How far one poll is taken to be off before any scatter was seen."""
STRATA = np.array([-1.2816, -0.5244, 0.0, 0.5244, 1.2816])
"""The middles of five equal parts of a normal distribution."""


@dataclass(slots=True)
class Noisy:
    """Another's eyes, with the step time seen on the present machine off by a share at each poll."""

    eyes: Eyes
    share: float
    random: np.random.Generator
    _polls: Counter[int] = field(default_factory=Counter)
    _sums: dict[int, float] = field(default_factory=dict)
    _squares: float = 0.0
    _at: float = 0.0

    def future(self, world: World) -> Future:
        """Look with the other's eyes, then correct what is known of each machine by what was seen on it."""
        found = self.eyes.future(world)
        seen = self.random.normal(0.0, self.share, max(1, round((world.now - self._at) / POLL_SECONDS)))
        self._at = world.now
        self._polls[world.offer] += len(seen)
        self._sums[world.offer] = self._sums.get(world.offer, 0.0) + float(seen.sum())
        self._squares += float(seen @ seen)
        pace = found.pace.copy()
        for offer in self._polls:
            pace[:, :, offer] *= np.exp(self._believed(offer)[0])
        pace = np.repeat(pace, len(STRATA), axis=0)
        doubt = np.exp(self._believed(world.offer)[1] * STRATA)
        pace[:, :, world.offer] *= np.tile(doubt, len(found.pace))[:, None]
        misfit = np.repeat(found.misfit, len(STRATA), axis=0)
        probability = np.repeat(found.probability, len(STRATA)) / len(STRATA)
        return replace(found, pace=pace, misfit=misfit, probability=probability)

    def _believed(self, offer: int) -> tuple[float, float]:
        """Give the mean and the standard deviation of how far an offer's log step time is from what is known of it."""
        polls = self._polls[offer]
        scatter = (FIRST_SCATTER**2 + self._squares) / (1 + self._polls.total())
        sure, seen = PROFILE_SPREAD**-2, polls / scatter
        return seen / (seen + sure) * self._sums[offer] / polls, (seen + sure) ** -0.5
