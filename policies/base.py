"""Values: what a policy is."""

from typing import Protocol, runtime_checkable

from policies.types import Choice, Option, Rejection, Situation


class Policy(Protocol):
    """A preference over options. Pure: the same situation always gives the same choice; no clock, no I/O.

    ``foresees`` says which forecast the engine prices for it: the predicted trajectories, or the present persisting.
    """

    foresees: bool

    def choose(self, situation: Situation) -> Choice:
        """Take one of ``situation.options``, which the guards have already thinned; ``options[0]`` is staying."""


@runtime_checkable
class OwnPayback(Protocol):
    """The optional ability to judge whether a move pays. Without it the saving in the objective decides."""

    def payback(self, situation: Situation, option: Option) -> Rejection | None:
        """Refuse a move that does not earn what it costs. Pure. Not asked while staying does not fit."""
