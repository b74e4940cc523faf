"""Values: what a policy is."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Protocol, TypeGuard, runtime_checkable

from policies.types import Choice, Option, Rejection, Settings, Situation


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


@runtime_checkable
class LetsGo(Protocol):
    """The mark of a policy whose promise rests on letting a machine go: only a VM can be, with its disk kept."""

    lets_go: bool


@runtime_checkable
class FleetPolicy(Protocol):
    """The optional ability to look at several jobs at once, before each is decided for by itself."""

    def share(self, situations: Sequence[Situation], taken_usd_per_hour: float) -> Mapping[str, float]:
        """Give each job the dollars an hour that it may cost at most, by name; a job left out has no share.

        Asked once a batch with the jobs of one policy that are decided for now; ``taken_usd_per_hour`` is what its
        other jobs cost, moves under way at the dearer of their two machines. With it the shares should sum to no more
        than the fleet's budget. A share reaches its job as ``Situation.share_usd_per_hour``, and a guard holds it; it
        is recorded with the decision, so it need not come out the same again.
        """

    def cap(self, settings: Settings) -> float | None:
        """Name the dollars an hour that all jobs of a policy may cost together: held again where a move begins."""


def judges(policy: Policy) -> TypeGuard[OwnPayback]:
    """Say whether a policy judges payback itself."""
    return _can(type(policy), OwnPayback)


def shares(policy: Policy) -> TypeGuard[FleetPolicy]:
    """Say whether a policy shares a budget among its jobs."""
    return _can(type(policy), FleetPolicy)


@cache
def _can(kind: type, ability: type) -> bool:
    """Look once for each kind of policy: the check of a protocol takes longer than a guard over all options."""
    return issubclass(kind, ability)
