"""Values: what a cloud must be able to do for Scaleahead."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from providers.types import Allocation, Call, LaunchRecipe, Offer, Operation, Route, Target


class Provider(Protocol):
    """One cloud account. Every method may block on the network and is called from a worker thread.

    Every method raises only errors of ``providers.errors``. No method retries a mutation by itself.
    """

    name: str

    def describe(self, target: Target) -> Allocation:
        """Say what the target is now. Reads only; may be repeated at will.

        Raises ``NotFound`` if the cloud does not show it, which the caller believes only after several sightings.
        """

    def offers(self, target: Target) -> Sequence[Offer]:
        """List what this target could become, priced where a sourced price is known. Reads only, from a cache."""

    def route(self, current: Allocation, offer: Offer) -> Route:
        """Find the way from the present allocation to an offer: the pre-flight. Reads only; never stops anything.

        Called again between steps, so ``InPlace.aspects`` shrinks as modifications take effect.
        Raises ``Incompatible``, ``QuotaExceeded``, ``NoCapacity`` or ``NotPermitted`` when there is no way now.
        """

    def perform(self, call: Call, token: str) -> Operation:
        """Make one mutation. Repeating it with the same token has no second effect, also across processes.

        A call whose effect is already there returns a done operation. Raises ``AnswerLost`` when the outcome is
        unknown, ``WrongState`` when the resource is not in the state that the call needs, ``NoCapacity`` on shortage.
        """

    def poll(self, operation: Operation) -> Operation:
        """Ask how an operation stands. Reads only. A failed one says so in its value, not by raising."""


class Inventory(Protocol):
    """The optional ability to list what carries our labels, for orphan sweeps and lost launches."""

    def labelled(self, key: str, value: str | None = None) -> Sequence[Allocation]:
        """List every resource with this label, terminated ones left out. Raises ``Transient`` rather than cut short."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What permissions are asked about: a job's target, its recipe, and whether it may be changed or only looked at."""

    target: Target
    recipe: LaunchRecipe | None = None
    changed: bool = False


class Permitted(Protocol):
    """The optional ability to say beforehand which permissions are missing."""

    def lacking(self, subjects: Sequence[Subject]) -> Sequence[str]:
        """Name the missing ones in the cloud's words, each with what it is needed on. Changes nothing.

        What a cloud does not tell without doing it is not named. Raises ``NotPermitted`` for credentials that are no
        good at all, ``Transient`` when it cannot be told now.
        """


@runtime_checkable
class Launching(Protocol):
    """The optional ability to take in a job from another provider, by launching a machine for it."""

    def serves(self, offer: Offer) -> bool:
        """Say whether an offer is one of this provider's. Reads nothing."""

    def around(self, place: str) -> Sequence[Offer]:
        """List the offers that a machine launched in a place could be. Reads only, from a cache."""

    def room(self, offer: Offer) -> None:
        """Check a launch beforehand. Raises ``Incompatible``, ``QuotaExceeded``, ``Invalid`` where there is no way."""


class Abroad(Protocol):
    """The optional ability to name what a target could be replaced by at other providers."""

    def abroad(self, target: Target, recipe: LaunchRecipe) -> Sequence[Offer]:
        """List the offers at the providers that the recipe names. Reads only, from a cache."""


class Bounded(Protocol):
    """The optional ability to say which permissions are there that are never needed and do harm in wrong hands."""

    def excess(self) -> Sequence[str]:
        """Name them in the cloud's words. Changes nothing; what the cloud does not tell is not named."""


class Priced(Protocol):
    """The optional ability to fetch prices anew."""

    def refresh_prices(self) -> int:
        """Fetch prices into the cache and say how many were accepted. Keeps the old ones when it fails."""
