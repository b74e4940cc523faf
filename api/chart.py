"""Pure decisions: what a picture of a job needs, from its history, forecast and offers.

Everything is drawn over training steps; each point also has its time, so that a picture may be drawn over that.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from api.answers import Answer, DeclaredOut, DriftOut, MoveOut, Real, cells, moment
from daemon.forecast.base import quantiles, seconds_to
from daemon.look import Look, PlannedMove
from daemon.types import Floats, Forecast, History
from providers.types import Offer, Resources

LEVELS = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


class CapacityOut(Answer):
    """From a step on, what the machine under a job can hold of each usage column."""

    from_step: int
    at: datetime | None
    offer: str
    limits: dict[str, Real]


class HistoryOut(Answer):
    """The run so far as columns of one length; ``capacity`` is that of the machines it ran on."""

    job: str
    total_steps: int | None
    diverged: bool
    step: list[int]
    at: list[datetime]
    columns: dict[str, list[float | None]]
    available: list[str]
    declared: list[DeclaredOut]
    capacity: list[CapacityOut]


class FinishOut(Answer):
    """When the job is done, on the machines that the plan has for it."""

    step: int | None
    seconds: dict[str, Real]
    at: dict[str, datetime | None]


class ForecastOut(Answer):
    """The forecast in quantiles by column, the plan, and the capacity ahead. ``seconds`` is the median time to a step.

    ``steps`` is empty while nothing can be foretold; ``missing`` then says why.
    """

    job: str
    made_at: datetime | None
    at_step: int
    steps: list[int]
    seconds: list[float | None]
    quantiles: dict[str, dict[str, list[float | None]]]
    finish: FinishOut
    method: str
    reason: str
    declared: list[str]
    unknown: list[str]
    drift: DriftOut
    plan: list[MoveOut]
    capacity: list[CapacityOut]
    missing: str


def limits(has: Resources) -> dict[str, float | None]:
    """Say what one node can hold of each usage column."""
    found: dict[str, float | None] = {"usage.memory_gib": has.memory_gib, "usage.cpu_cores": has.cpu_cores}
    if has.gpus:
        found["usage.gpu_memory_gib"] = has.gpu_memory_gib
        found["usage.gpu_util"] = 1.0
    if has.network_gbps is not None:
        found["usage.network_mbps"] = has.network_gbps * 1000
    return found


def capacity_behind(history: History, offers: Mapping[str, Offer]) -> list[CapacityOut]:
    """List the machines that the rows of a history ran on, one entry a change."""
    found: list[CapacityOut] = []
    for row, name in enumerate(history.offers):
        if not name or (found and found[-1].offer == name):
            continue
        offer = offers.get(name)
        found.append(
            CapacityOut(
                from_step=int(history.step[row]),
                at=moment(float(history.at_s[row])),
                offer=name,
                limits=limits(offer.resources) if offer else {},
            )
        )
    return found


def capacity_ahead(
    current: Offer | None, plan: Sequence[PlannedMove], at_step: int, now: datetime, offers: Mapping[str, Offer]
) -> list[CapacityOut]:
    """List the present machine and those that the plan moves to."""
    found: list[CapacityOut] = []
    if current is not None:
        found.append(CapacityOut(from_step=at_step, at=now, offer=current.id, limits=limits(current.resources)))
    for move in plan:
        offer = offers.get(move.offer)
        at = now + timedelta(seconds=move.in_seconds)
        bounds = limits(offer.resources) if offer else {}
        found.append(CapacityOut(from_step=max(move.at_step, at_step), at=at, offer=move.offer, limits=bounds))
    return found


def history_out(history: History, columns: Sequence[str], offers: Mapping[str, Offer]) -> HistoryOut:
    """Make the answer of a history; no ``columns`` means all of them."""
    wanted = [name for name in columns if name in history.columns] if columns else list(history.columns)
    return HistoryOut(
        job=history.job,
        total_steps=history.total_steps,
        diverged=history.diverged,
        step=[int(step) for step in history.step],
        at=[moment(float(at)) for at in history.at_s],
        columns={name: cells(list(history.columns[name])) for name in wanted},
        available=sorted(history.columns),
        declared=[DeclaredOut.of(d) for d in history.declared],
        capacity=capacity_behind(history, offers),
    )


def weighted(values: Floats, weights: Floats, level: float) -> float:
    """Read a quantile of weighted values."""
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weights[order])
    place = min(int(np.searchsorted(mass, level * mass[-1] - 1e-12)), len(values) - 1)
    return float(values[order][place])


def finish_seconds(forecast: Forecast) -> dict[str, float]:
    """Read quantiles of the time to the finish on the present machine; empty if the end is not known."""
    seconds = seconds_to(forecast)
    if seconds is None or forecast.finish_step is None:
        return {}
    return {name: weighted(seconds[:, -1], forecast.probability, level) for name, level in LEVELS.items()}


def finish_of(look: Look, now: datetime) -> FinishOut:
    """Say when a job is done: by the option taken, which knows the moves ahead, else on the present machine."""
    forecast, choice = look.forecast, look.choice
    start = forecast.made_at if forecast else now
    if choice is not None:
        hours = choice.option.hours
        seconds = {name: hours.quantile(level) * 3600 for name, level in LEVELS.items()}
    else:
        seconds = finish_seconds(forecast) if forecast else {}
    known = {name: value for name, value in seconds.items() if np.isfinite(value) and value < 3e9}
    at: dict[str, datetime | None] = {name: start + timedelta(seconds=value) for name, value in known.items()}
    return FinishOut(
        step=forecast.finish_step if forecast else None,
        seconds={name: known.get(name) for name in LEVELS},
        at={name: at.get(name) for name in LEVELS},
    )


def forecast_out(look: Look, columns: Sequence[str], offers: Mapping[str, Offer], now: datetime) -> ForecastOut:
    """Make the answer of a forecast; no ``columns`` means all of them."""
    forecast = look.forecast
    current = look.allocation.offer if look.allocation else None
    if forecast is None:
        return _nothing(look, current, offers, now)
    wanted = [name for name in columns if name in forecast.paths] if columns else list(forecast.paths)
    seconds = seconds_to(forecast)
    median: list[float | None] = []
    if seconds is not None:
        median = cells([weighted(seconds[:, k], forecast.probability, 0.5) for k in range(seconds.shape[1])])
    return ForecastOut(
        job=forecast.job,
        made_at=forecast.made_at,
        at_step=forecast.at_step,
        steps=[int(step) for step in forecast.steps],
        seconds=median,
        quantiles={name: _band(forecast, name) for name in wanted},
        finish=finish_of(look, now),
        method=forecast.method,
        reason=forecast.reason,
        declared=list(forecast.declared),
        unknown=list(forecast.unknown),
        drift=DriftOut.of(look.drift),
        plan=[MoveOut.of(move) for move in look.plan],
        capacity=capacity_ahead(current, look.plan, forecast.at_step, forecast.made_at, offers),
        missing=look.reason,
    )


def _band(forecast: Forecast, name: str) -> dict[str, list[float | None]]:
    rows = quantiles(forecast, name, list(LEVELS.values()))
    return {level: cells(list(row)) for level, row in zip(LEVELS, rows, strict=True)}


def _nothing(look: Look, current: Offer | None, offers: Mapping[str, Offer], now: datetime) -> ForecastOut:
    at_step = int(look.history.step[-1]) if len(look.history) else 0
    return ForecastOut(
        job=look.job.name,
        made_at=None,
        at_step=at_step,
        steps=[],
        seconds=[],
        quantiles={},
        finish=finish_of(look, now),
        method="",
        reason="",
        declared=[],
        unknown=[],
        drift=DriftOut.of(look.drift),
        plan=[MoveOut.of(move) for move in look.plan],
        capacity=capacity_ahead(current, look.plan, at_step, now, offers),
        missing=look.reason or f"nothing can be foretold of '{look.job.name}' yet - it must be heard of first",
    )
