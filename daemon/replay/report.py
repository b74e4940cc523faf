"""Pure decisions: play traces under several policies, set each against the oracle, and sum up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, assert_never, get_args

import numpy as np

from daemon.replay import baselines, oracle
from daemon.replay.learned import Learning, Told
from daemon.replay.run import Cautious, Declared, Eyes, Persisting, Schedule, play
from daemon.replay.trace import Trace, read
from daemon.replay.world import Result
from policies.base import Policy
from policies.reactive import Reactive
from policies.types import Settings

Name = Literal["static-peak", "static-best", "threshold", "reactive", "scaleahead", "oracle"]
NAMES: tuple[Name, ...] = get_args(Name)
ROUNDING = 1e-9
Speeds = Literal["known", "learned"]


@dataclass(frozen=True, slots=True)
class Row:
    """One policy on one trace. ``regret`` is its objective over the oracle's."""

    trace: str
    policy: Name
    usd: float
    hours: float
    objective: float
    regret: float
    out_of_memory: int
    moves: int
    lost_progress: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What to replay: policies by name, what they may know, and the settings of those that take any."""

    names: tuple[Name, ...]
    schedule: Schedule
    settings: Settings
    policy: Policy
    boot_seconds: float | None = None
    speeds: Speeds = "known"


def rows(path: Path, plan: Plan) -> list[Row]:
    """Replay one trace file. Raises ``TraceError``, and ``ValueError`` where a policy cannot run it.

    Raises ``AssertionError`` if a policy beats the oracle: then one of the two is wrong.
    """
    trace = read(path, plan.boot_seconds)
    value = plan.settings.value_of_time_usd_per_hour
    best = oracle.solve(trace, value)
    least = best.objective(value)
    found: list[Row] = []
    for name in plan.names:
        result = Result(best.usd, best.hours, 0, best.moves, 0.0) if name == "oracle" else _played(name, trace, plan)
        cost = result.objective(value)
        assert cost >= least * (1 - ROUNDING), f"{path.name}: {name} beat the oracle, {cost} < {least}"
        found.append(Row(path.stem, name, float(result.usd), float(result.hours), float(cost), float(cost / least),
                         result.out_of_memory, result.moves, float(result.lost_progress)))  # fmt: skip
    return found


def _played(name: Name, trace: Trace, plan: Plan) -> Result:
    value = plan.settings.value_of_time_usd_per_hour
    match name:
        case "static-peak":
            return baselines.static(trace, value, "peak")
        case "static-best":
            return baselines.static(trace, value, "best")
        case "threshold":
            return baselines.threshold(trace)
        case "reactive":
            eyes = _eyes(Persisting(trace), trace, plan)
            return play(trace, Reactive(), eyes, replace(plan.settings, kind="reactive"))
        case "scaleahead":
            sight = _sight(trace, plan)
            return play(trace, plan.policy, _eyes(sight, trace, plan), plan.settings)
        case "oracle":
            raise AssertionError("the oracle is solved, not played")
        case _:
            assert_never(name)


def _sight(trace: Trace, plan: Plan) -> Declared | Cautious | Persisting:
    if not plan.policy.foresees:
        return Persisting(trace)
    return Declared(trace) if plan.schedule == "declared" else Cautious(trace)


def _eyes(eyes: Told, trace: Trace, plan: Plan) -> Eyes:
    """Take the profile away from the eyes where speeds are to be learned."""
    if plan.speeds == "known":
        return eyes
    settings = plan.settings
    margin, value = settings.safety.memory_margin, settings.value_of_time_usd_per_hour
    return Learning(eyes, trace, margin, value, np.random.default_rng(0))


def summary(found: Sequence[Row]) -> Mapping[str, Mapping[str, float]]:
    """Sum up each policy: geometric mean of regret, total objective over the oracle's total, kills, moves."""
    made: dict[str, Mapping[str, float]] = {}
    for name in NAMES:
        mine = [row for row in found if row.policy == name]
        if mine:
            made[name] = {
                "regret_geomean": math.exp(sum(math.log(row.regret) for row in mine) / len(mine)),
                "regret_weighted": sum(row.objective for row in mine) / sum(row.objective / row.regret for row in mine),
                "regret_worst": max(row.regret for row in mine),
                "out_of_memory": sum(row.out_of_memory for row in mine),
                "moves": sum(row.moves for row in mine),
            }
    return made


def table(found: Sequence[Row]) -> str:
    """Write the summary as text."""
    head = f"{'policy':<12} {'regret':>8} {'weighted':>9} {'worst':>8} {'kills':>6} {'moves':>6}"
    lines = [
        f"{name:<12} {s['regret_geomean']:>8.4f} {s['regret_weighted']:>9.4f} {s['regret_worst']:>8.4f} "
        f"{s['out_of_memory']:>6.0f} {s['moves']:>6.0f}"
        for name, s in summary(found).items()
    ]
    return "\n".join([head, *lines])
