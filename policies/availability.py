"""Values: what was seen of spot availability, and the chance that the present run of it ends, learned as it goes.

Availability is looked at every ten minutes. It comes in runs, up and down in turn, and on real traces a run that has
lasted goes on lasting: in the first look after its beginning one in three ends, after half a day one in fifty. And a
run is likelier to be long if the last of its kind was. So the chance of an end is learned for classes of a run's age
and by how long the last run was (a semi-Markov process with memory), for each offer by itself, from a prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOOK_MINUTES = 10
AGES = (1, 2, 3, 5, 8, 14, 26, 50, 100)
"""Looks at which each class of age begins; the last has no end."""
LONG_LOOKS = 8
"""A run that lasts so long is a long one."""
CLASSES = 2 * len(AGES)
"""States of a run up or down: classes of age after a short run of its kind, then after a long one."""
_CLASS_OF = tuple(int(np.searchsorted(AGES, age, side="right")) - 1 for age in range(AGES[-1] + 1))
_LONG_FROM = _CLASS_OF[LONG_LOOKS]

Counts = tuple[float, ...]
_NOTHING: Counts = (0.0,) * (2 * CLASSES)


def class_of(age: int, after_long: bool = False) -> int:
    """Find the class of a run by its age in looks and by whether the last of its kind was long."""
    return (_CLASS_OF[age] if age < AGES[-1] else len(AGES) - 1) + (len(AGES) if after_long else 0)


@dataclass(frozen=True, slots=True)
class Availability:
    """What was seen of one offer. ``age`` counts the looks of the present run, the newest included.

    ``looks`` counts, for each class (all of down, then all of up), the looks that another one followed, and ``ends``
    those where that one began a new run. ``long_down`` and ``long_up``: the last run of that kind was long, which a run
    that was never seen is taken to be.
    """

    up: bool
    age: int = 1
    looks: Counts = _NOTHING
    ends: Counts = _NOTHING
    long_down: bool = True
    long_up: bool = True

    @property
    def state(self) -> int:
        """Give the class of the present run among those of its kind."""
        return class_of(self.age, self.long_up if self.up else self.long_down)

    @property
    def place(self) -> int:
        """Give the index of that class among the counts."""
        return self.state + (CLASSES if self.up else 0)

    def look(self, up: bool) -> "Availability":
        """Add a look, ten minutes after the last."""
        at, ended = self.place, up != self.up
        looks = (*self.looks[:at], self.looks[at] + 1, *self.looks[at + 1 :])
        if not ended:
            return replace(self, age=self.age + 1, looks=looks)
        ends = (*self.ends[:at], self.ends[at] + 1, *self.ends[at + 1 :])
        long = self.age >= LONG_LOOKS
        down, above = (self.long_down, long) if self.up else (long, self.long_up)
        return Availability(up, 1, looks, ends, down, above)


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed before anything is seen: the chance that a run ends between two looks, by its class.

    ``weight`` is how many ends a class's prior counts as. ``elsewhere`` is the chance that another offer is up when one
    is lost, and counts as one loss.
    """

    down: tuple[float, ...]
    up: tuple[float, ...]
    weight: float
    elsewhere: float = 0.5
    long_share: float = 0.35

    def chances(self, seen: Availability) -> Floats:
        """Give the chance float[2 * CLASSES] that a run ends before the next look: down, then up."""
        first = np.array((*self.down, *self.up))
        return np.asarray((np.array(seen.ends) + self.weight) / (np.array(seen.looks) + self.weight / first))

    def long(self, seen: Availability, up: bool) -> float:
        """Give the share of long runs among those of a kind; the prior's own counts as ``weight`` ends."""
        half = slice(CLASSES, None) if up else slice(CLASSES)
        ends = np.array(seen.ends[half]).reshape(2, -1).sum(axis=0)
        return float((ends[_LONG_FROM:].sum() + self.weight * self.long_share) / (ends.sum() + self.weight))

    def interruptions_per_hour(self, seen: Availability) -> float:
        """Give how often an hour capacity that is had now is taken back: one over the hours that its run still lasts.

        Capacity that is not up is taken to come back as a new run.
        """
        chances = self.chances(seen)[CLASSES:]
        after_long = seen.long_up
        age = seen.age if seen.up else 1
        left = lasts = 1.0
        for at in range(age, AGES[-1]):
            left *= 1.0 - chances[class_of(at, after_long)]
            lasts += left
        lasts += left / chances[class_of(AGES[-1], after_long)]
        return float(60 / LOOK_MINUTES / lasts)


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
    down=(
        *(0.4445, 0.2334, 0.1586, 0.12, 0.0793, 0.0526, 0.0437, 0.0218, 0.011),
        *(0.1418, 0.1787, 0.0987, 0.0904, 0.0506, 0.0487, 0.0338, 0.0323, 0.008),
    ),
    up=(
        *(0.3614, 0.2177, 0.1694, 0.1229, 0.0816, 0.0477, 0.0408, 0.0471, 0.0451),
        *(0.1831, 0.1492, 0.139, 0.0734, 0.0637, 0.0324, 0.0421, 0.0208, 0.0217),
    ),
    weight=2.0,
    long_share=0.33,
)
"""Ends over looks in five of the eleven zones of skypilot-org/spot-traces (aws-02-15-2023: us-east-1c, us-east-1f
v100_1; aws-10-26-2022: us-west-2a k80_8, us-west-2b v100_1, us-west-2b v100_8), read 2026-11. ``weight`` was chosen on
the same five, each with a prior from the other four."""
