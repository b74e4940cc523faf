"""Values: situations for the tests of policies, made short."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from policies.types import Limits, Option, Settings, Situation, Spread
from providers.types import Offer, Price, Resources

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)  # a Wednesday


def offer(
    name: str = "m5.large",
    usd: float | None = 1.0,
    memory: float = 64.0,
    gpus: int = 1,
    **more: Any,
) -> Offer:
    """Make an offer of the AWS kind."""
    resources = Resources(8, memory, gpus, "T4" if gpus else None, 16.0 if gpus else 0.0)
    price = None if usd is None else Price(usd, "test", NOW)
    return Offer("aws", "us-east-1", name, resources, price, **more)


def spread(mean: float, width: float = 0.1) -> Spread:
    """Make a symmetric spread."""
    return Spread(mean, tuple(mean + width * (tenth - 5) / 4 for tenth in range(1, 10)))


def option(
    offered: Offer, objective: float = 10.0, saving: float = 0.0, route: str = "in_place", **more: Any
) -> Option:
    """Make an option to move there now."""
    usd_per_hour = offered.price.usd_per_hour if offered.price else 0.0
    made = Option(
        offer=offered,
        route=route,  # type: ignore[arg-type]
        kind=None if route == "stay" else "change_machine",
        usd=spread(objective),
        hours=spread(10.0),
        objective=spread(objective),
        saving=spread(saving, 0.0 if route == "stay" else 0.1),
        usd_per_hour=usd_per_hour,
        usd_per_progress=None,
        misfit=0.0,
        misfit_resource=None,
        late=0.0,
        over_budget=0.0,
        move_usd=0.0 if route == "stay" else 0.05,
        pause_seconds=0.0 if route == "stay" else 60.0,
        lead_seconds=0.0 if route == "stay" else 180.0,
        due_seconds=0.0,
        price_age_hours=1.0,
    )
    return replace(made, **more)


def stay(objective: float = 10.0, **more: Any) -> Option:
    """Make the option of staying, at a dollar an hour."""
    return option(offer("g4dn.xlarge"), objective, route="stay", **more)


def better(name: str = "g5.xlarge", usd: float = 0.8, **more: Any) -> Option:
    """Make a move that pays: two dollars less to the finish."""
    return option(offer(name, usd), 8.0, 2.0, **more)


def situation(*options: Option, settings: Settings | None = None, **more: Any) -> Situation:
    """Put options into a situation under a policy without limits."""
    return Situation("bert", NOW, settings or policy(), options, **more)


def policy(limits: Limits | None = None, **more: Any) -> Settings:
    """Make the settings of a policy."""
    return Settings("test", "cost_per_progress", "0", limits=limits or Limits(), **more)
