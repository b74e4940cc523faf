"""Values: what a policy is."""

from typing import Protocol

from policies.types import Choice, Situation


class Policy(Protocol):
    """A preference over options. Pure: the same situation always gives the same choice; no clock, no I/O.

    ``foresees`` says which forecast the engine prices for it: the predicted trajectories, or the present persisting.
    """

    foresees: bool

    def choose(self, situation: Situation) -> Choice:
        """Take one of ``situation.options``, which the guards have already thinned; ``options[0]`` is staying."""
