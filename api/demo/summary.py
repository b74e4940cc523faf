"""Pure decisions: what a demonstration came to, from what was recorded. Every figure is counted, none is scripted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from statistics import fmean

from daemon.store.base import Span
from daemon.types import Decision, History
from providers.simulated.state import Line
from providers.types import Notice

ERROR_SHARE = 0.15
"""A forecast is judged on what it said of the next 15 % of the run: about what a move must see ahead."""


@dataclass(frozen=True, slots=True)
class Foretold:
    """One forecast as it was shown: made at a step with this much memory in use, its median path over later steps."""

    at_step: int
    memory_gib: float
    steps: tuple[int, ...]
    path_gib: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was recorded of one job. ``notices`` are its machine's; ``ended_at`` is its end, or ours if it runs on."""

    name: str
    foresees: bool
    began_at: datetime
    ended_at: datetime
    finished: bool
    bill: Sequence[Line]
    notices: Sequence[Notice]
    decisions: Sequence[Decision]
    spans: Sequence[Span]
    history: History
    foretold: Sequence[Foretold] = field(default_factory=tuple)


def result(seen: Evidence) -> dict[str, object]:
    """Count what one job came to, in the terms of the contract."""
    kills = [notice for notice in seen.notices if notice.kind == "out_of_memory"]
    moves = [decision for decision in seen.decisions if decision.status == "done"]
    return {
        "job": seen.name,
        "usd": round(_usd(seen), 6),
        "hours": round((seen.ended_at - seen.began_at).total_seconds() / 3600, 4),
        "finished": seen.finished,
        "out_of_memory": len(kills),
        "moves": len(moves),
        "moved_before_need": sum(_before_need(move, seen.history, kills) for move in moves),
        "lost_steps": _lost_steps(seen.spans),
        "forecast_error": forecast_error(seen),
    }


def _usd(seen: Evidence) -> float:
    """The machine's bill up to the end of the job; what stands idle after it is nobody's choice here."""
    total = 0.0
    for line in seen.bill:
        seconds = min(line.seconds, max(0.0, (seen.ended_at - line.start).total_seconds()))
        total += line.usd * seconds / line.seconds if line.seconds > 0 else 0.0
    return total


def _before_need(move: Decision, history: History, kills: Sequence[Notice]) -> bool:
    """Whether the move came before the need: memory later outgrew the old machine, and no kill had told of it."""
    old = move.current.resources.memory_gib
    new = move.choice.option.offer.resources.memory_gib
    if new <= old or any(kill.at <= move.at for kill in kills):
        return False
    memory = history.columns.get("usage.memory_gib")
    if memory is None:
        return False
    later = history.at_s > move.at.timestamp()
    return bool((memory[later] > old).any())


def _lost_steps(spans: Sequence[Span]) -> int:
    """Steps that were done and had to be done again: each run begins after the last step that was kept."""
    return sum(max(0, before.last_step - after.first_step + 1) for before, after in pairwise(spans))


def forecast_error(seen: Evidence) -> float | None:
    """Mean absolute error of the memory foretold over the next part of the run, relative to what came.

    For a twin that does not foresee, what it believed is that its memory stays as it is.
    """
    memory = seen.history.columns.get("usage.memory_gib")
    if memory is None or seen.history.total_steps is None:
        return None
    came = {
        int(step): float(value) for step, value in zip(seen.history.step, memory, strict=True) if math.isfinite(value)
    }
    ahead = seen.history.total_steps * ERROR_SHARE
    errors: list[float] = []
    for one in seen.foretold:
        for step, actual in came.items():
            if one.at_step < step <= one.at_step + ahead:
                said = _at(one, step) if seen.foresees else one.memory_gib
                errors.append(abs(said - actual) / actual)
    return round(fmean(errors), 4) if errors else None


def _at(one: Foretold, step: int) -> float:
    """Read the median path at a step: the value of the first grid point not before it."""
    for grid, value in zip(one.steps, one.path_gib, strict=True):
        if grid >= step:
            return value
    return one.path_gib[-1] if one.path_gib else one.memory_gib


def assembled(
    results: Sequence[Mapping[str, object]], twins: Mapping[str, str], facts: Mapping[str, object]
) -> dict[str, object]:
    """Put the results of all jobs beside those of their twins, with where the figures come from."""
    by_name = {str(one["job"]): dict(one) for one in results}
    return {
        "jobs": {name: {**by_name[name], "twin": by_name.get(twin)} for twin, name in twins.items() if name in by_name},
        "facts": dict(facts),
        "sources": {
            "usd": "the simulated cloud's bill by the second, at the price list's prices",
            "hours": "the daemon's scaled clock, from the start of the demonstration to the job's end",
            "out_of_memory": "processes killed by the machine's memory watcher",
            "moves": "actions that were verified and closed as done",
            "moved_before_need": "moves after which memory outgrew the old machine, with no kill before them",
            "lost_steps": "steps that one run had done and the next did again",
            "forecast_error": f"memory foretold over the next {ERROR_SHARE:.0%} of the run against what came",
        },
    }
