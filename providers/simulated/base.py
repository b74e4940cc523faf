"""Values: what may run on the machines of a simulated cloud."""

from typing import Protocol

from providers.types import Offer


class Runner(Protocol):
    """Something real that happens on machines: the cloud says when one comes and goes.

    Called in order, one at a time, outside the cloud's lock, by whichever thread noticed the transition; it must
    return soon. After a restart of the cloud it is told anew of every machine that runs.
    """

    def machine_running(self, machine: str, offer: Offer, template: str) -> None:
        """The machine has booted. ``template`` names what it was launched from, "" for one that was there before."""

    def machine_stopping(self, machine: str) -> None:
        """It is shutting down; what runs on it still does until ``machine_off``."""

    def machine_off(self, machine: str, gone: bool) -> None:
        """The power is off. The disk stays unless ``gone``."""
