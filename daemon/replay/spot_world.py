"""Pure decisions: a job under a deadline, beside recorded spot availability: work, changeovers, losses, bills.

A rule is asked at every tick, knowing which zones are up for all of it, and holds one machine, or none, for the tick.
Every start of a machine is a changeover: it is billed and nothing is done meanwhile. A zone that is down at a tick's
beginning takes its machine away, and what was under way of a changeover is lost. Waiting without a machine is free. The
old machine is given back at the beginning of a tick, when the changeover to the new one begins. Once the work is done,
nothing is billed.
"""

from dataclasses import dataclass
from typing import Protocol

from daemon.replay.spot_trace import Bools, Terms

OFF = -1
ON_DEMAND = -2
"""The machines of a run are zones, counted from 0, or one of these two."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a rule may know at a tick: nothing of the availability ahead.

    ``up[z]``: zone ``z`` is up for all of this tick. ``machine`` is held from the tick before, ``OFF`` if it was lost;
    ``starting`` are the units of its changeover still to come. ``left`` is the work left, in units.
    """

    terms: Terms
    tick: int
    up: tuple[bool, ...]
    machine: int
    starting: int
    left: int

    @property
    def ticks_left(self) -> int:
        """Count the ticks to the deadline, this one included."""
        return self.terms.ticks - self.tick

    @property
    def units_left(self) -> int:
        """Count the units to the deadline."""
        return self.ticks_left * self.terms.tick

    def holds(self, machine: int) -> bool:
        """Say whether the deadline can still be held on demand, whatever happens, after a tick with this machine."""
        starting = (self.starting if machine == self.machine else self.terms.changeover) if machine != OFF else 0
        spent = min(starting, self.terms.tick)
        left = self.left - (self.terms.tick - spent if machine != OFF else 0)
        again = starting - spent if machine == ON_DEMAND else self.terms.changeover
        return left <= 0 or left + again <= self.units_left - self.terms.tick


class Rule(Protocol):
    """A way to choose the machine for each tick of one run; it may remember what it saw in that run."""

    def choose(self, sight: Sight) -> int:
        """Give ``OFF``, ``ON_DEMAND`` or a zone that is up. Asked once for each tick, in order."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to. ``hours`` until the work was done, or the deadline if it was not."""

    usd: float
    hours: float
    missed: bool
    changeovers: int


def play(terms: Terms, up: Bools, rule: Rule) -> Outcome:
    """Play one run over availability ``up`` bool[zones, ticks], held to the deadline by the net.

    The net is the same for every rule: a choice after which on-demand could be too late is not carried out, on-demand
    is instead. Raises ``ValueError`` where a rule asks for a zone that is down.
    """
    machine, starting, left, usd, changeovers, units = OFF, 0, terms.work, 0.0, 0, 0
    for tick in range(terms.ticks):
        if machine >= 0 and not up[machine, tick]:
            machine, starting = OFF, 0
        sight = Sight(terms, tick, tuple(up[:, tick].tolist()), machine, starting, left)
        taken = rule.choose(sight)
        if taken >= 0 and not sight.up[taken]:
            raise ValueError(f"zone {taken} is down at tick {tick} and cannot be taken")
        if taken != ON_DEMAND and not sight.holds(taken):
            taken = ON_DEMAND
        if taken != machine:
            machine, starting = taken, terms.changeover if taken != OFF else 0
            changeovers += taken != OFF
        if machine != OFF:
            used = min(terms.tick, starting + left)
            usd += terms.usd(terms.on_demand_usd_per_hour if machine == ON_DEMAND else terms.spot_usd_per_hour, used)
            spent = min(starting, used)
            starting, left = starting - spent, left - (used - spent)
        else:
            used = terms.tick
        units += used
        if left == 0:
            break
    return Outcome(usd, units * terms.unit_seconds / 3600, left > 0, changeovers)
