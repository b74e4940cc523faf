"""Edge: several providers as one: a job's machine at its own, or launched anew at another that its recipe names.

Nothing is carried over but the job: its checkpoint must lie where the other machine can read it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from providers.base import Launching, Provider
from providers.errors import Incompatible
from providers.types import Allocation, Call, Launch, LaunchRecipe, Offer, Operation, Replace, Route, Target


class Mixed:
    """A ``Provider`` with ``Abroad``: ``home`` serves a job's target; the others may serve what it is replaced by."""

    def __init__(self, home: Provider, all_of_them: Mapping[str, Provider]) -> None:
        self.name = home.name
        self._home = home
        self._all = all_of_them
        self._launching = {name: one for name, one in all_of_them.items() if isinstance(one, Launching)}

    def describe(self, target: Target) -> Allocation:
        """Say what the target is now, at whichever provider it is."""
        return self._of(target.provider).describe(target)

    def offers(self, target: Target) -> Sequence[Offer]:
        """List what this target could become where it is."""
        return self._of(target.provider).offers(target)

    def abroad(self, target: Target, recipe: LaunchRecipe) -> list[Offer]:
        """List what a VM could be replaced by at the other providers that the recipe names, in the places it names."""
        if target.kind != "vm":
            return []
        named = {
            name: one for name, one in self._launching.items() if name in recipe.places and name != target.provider
        }
        return [offer for name, one in named.items() for offer in one.around(recipe.places[name].place)]

    def route(self, current: Allocation, offer: Offer) -> Route:
        """Find the way to an offer; to one of another provider there is only a new machine, if that has room for it."""
        name = self._serving(offer, current.target.provider)
        if name == current.target.provider:
            return self._of(name).route(current, offer)
        if current.target.kind != "vm":
            raise Incompatible(f"{current.target.id} cannot become {offer.id}, which is at {name}")
        self._launching[name].room(offer)
        return Replace(f"{offer.id} is at {name}")

    def perform(self, call: Call, token: str) -> Operation:
        """Make one mutation: a launch where its offer is, by the template for there, all else where its target is."""
        if not isinstance(call, Launch):
            return self._of(call.target.provider).perform(call, token)
        name = self._serving(call.offer, self.name)
        if name in call.recipe.places:
            call = replace(call, recipe=replace(call.recipe, template=call.recipe.places[name].template))
        elif name != self.name:
            raise Incompatible(f"the launch recipe names no template at {name} - add one under its places")
        return self._of(name).perform(call, token)

    def poll(self, operation: Operation) -> Operation:
        """Ask how an operation stands, at the provider that began it."""
        return self._of(operation.provider).poll(operation)

    def _of(self, name: str) -> Provider:
        return self._all.get(name, self._home)

    def _serving(self, offer: Offer, first: str) -> str:
        """Name the provider of an offer: ``first`` if it serves it or nobody says that they do."""
        mine = self._launching.get(first)
        if mine is not None and mine.serves(offer):
            return first
        return next((name for name, one in self._launching.items() if one.serves(offer)), first)


def mixed(providers: Mapping[str, Provider]) -> dict[str, Provider]:
    """Let the jobs of each provider also use the others. One alone stays as it is."""
    if len(providers) < 2:
        return dict(providers)
    return {name: Mixed(one, providers) for name, one in providers.items()}
