"""Values: what was seen of spot availability, and the chance that the present run of it ends, learned as it goes.

Availability is looked at every ten minutes. It comes in runs, up and down in turn, and on real traces a run that has
lasted goes on lasting: in the first look after its beginning one in three ends, after half a day one in fifty. So the
chance of an end is learned for classes of a run's age (a semi-Markov process), for each offer by itself, from a prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOOK_MINUTES = 10
AGES = (1, 2, 3, 5, 8, 14, 26, 50, 100)
"""Looks at which each class of age begins; the last has no end."""
CLASSES = len(AGES)
_CLASS_OF = tuple(int(np.searchsorted(AGES, age, side="right")) - 1 for age in range(AGES[-1] + 1))

Counts = tuple[float, ...]
_NOTHING: Counts = (0.0,) * (2 * CLASSES)


def class_of(age: int) -> int:
    """Find the class of a run's age in looks."""
    return _CLASS_OF[age] if age < AGES[-1] else CLASSES - 1


@dataclass(frozen=True, slots=True)
class Availability:
    """What was seen of one offer. ``age`` counts the looks of the present run, the newest included.

    ``looks`` counts, for each class of age (all of down, then all of up), the looks that another one followed, and
    ``ends`` those where that one began a new run.
    """

    up: bool
    age: int = 1
    looks: Counts = _NOTHING
    ends: Counts = _NOTHING

    @property
    def place(self) -> int:
        """Give the index of the present class among the counts."""
        return class_of(self.age) + (CLASSES if self.up else 0)

    def look(self, up: bool) -> "Availability":
        """Add a look, ten minutes after the last."""
        at, ended = self.place, up != self.up
        looks = (*self.looks[:at], self.looks[at] + 1, *self.looks[at + 1 :])
        ends = (*self.ends[:at], self.ends[at] + 1, *self.ends[at + 1 :]) if ended else self.ends
        return Availability(up, 1 if ended else self.age + 1, looks, ends)


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed before anything is seen: the chance that a run ends between two looks, by class of its age.

    ``weight`` is how many ends a class's prior counts as. ``elsewhere`` is the chance that another offer is up when one
    is lost, and counts as one loss.
    """

    down: tuple[float, ...]
    up: tuple[float, ...]
    weight: float
    elsewhere: float = 0.5

    def chances(self, seen: Availability) -> Floats:
        """Give the chance float[2 * CLASSES] that a run ends before the next look: down, then up."""
        first = np.array((*self.down, *self.up))
        return np.asarray((np.array(seen.ends) + self.weight) / (np.array(seen.looks) + self.weight / first))


@dataclass(frozen=True, slots=True)
class Market:
    """What was seen of several offers of the same use, looked at together.

    ``whole`` is up while any of them is. ``lost`` counts the ends of their up runs, ``saved`` those at which another
    was up.
    """

    offers: tuple[Availability, ...]
    whole: Availability
    lost: int = 0
    saved: int = 0

    @classmethod
    def begin(cls, up: Sequence[bool]) -> "Market":
        """Begin with a first look at each offer."""
        return cls(tuple(Availability(one) for one in up), Availability(any(up)))

    @classmethod
    def of(cls, offers: Sequence[Availability]) -> "Market":
        """Gather offers that were looked at apart; the whole is then taken to be as the one that is up longest."""
        whole = max(offers, key=lambda one: (one.up, one.age if one.up else -one.age))
        return cls(tuple(offers), whole)

    def look(self, up: Sequence[bool]) -> "Market":
        """Add a look at each offer, ten minutes after the last."""
        gone = sum(before.up and not now for before, now in zip(self.offers, up, strict=True))
        return replace(
            self,
            offers=tuple(before.look(now) for before, now in zip(self.offers, up, strict=True)),
            whole=self.whole.look(any(up)),
            lost=self.lost + gone,
            saved=self.saved + (gone if any(up) else 0),
        )


PRIOR = Prior(
    down=(0.361, 0.213, 0.135, 0.107, 0.066, 0.051, 0.039, 0.027, 0.009),
    up=(0.310, 0.194, 0.158, 0.103, 0.074, 0.041, 0.041, 0.031, 0.023),
    weight=2.0,
)
"""Pooled."""
