"""Pure decisions: play traces under several policies, set each against the oracle, and sum up."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, assert_never, get_args

import numpy as np

from daemon.forecast import ensemble
from daemon.replay import baselines, churn, oracle
from daemon.replay.cautious import Cautious
from daemon.replay.churn import Launch, Move
from daemon.replay.learned import Learning, Told
from daemon.replay.noisy import Noisy
from daemon.replay.run import Declared, Eyes, Persisting, Run, Schedule
from daemon.replay.trace import Trace, read, redrawn
from daemon.replay.world import Point, Result, World
from policies.base import Policy
from policies.reactive import Reactive
from policies.types import Settings

Name = Literal["static-peak", "static-best", "threshold", "reactive", "scaleahead", "oracle", "unwarned"]
KNOWN: tuple[Name, ...] = get_args(Name)
NAMES = KNOWN[:-1]
"""What is compared unless told otherwise. ``unwarned`` is the best plan that takes no chance on a jump."""
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
    noise: float = 0.0
    seed: int = 0
    redraw: bool = False
    speeds: Speeds = "known"


@dataclass(frozen=True, slots=True)
class Replayed:
    """One trace under every policy asked for: rows, the moves of those that the engine played, and how each went."""

    trace: Trace
    rows: tuple[Row, ...]
    moves: tuple[Move, ...]
    tracks: Mapping[Name, tuple[Point, ...]]


def replayed(path: Path, plan: Plan) -> Replayed:
    """Replay one trace file. Raises ``TraceError``, and ``ValueError`` where a policy cannot run it.

    Raises ``AssertionError`` if a policy beats the oracle: then one of the two is wrong.
    """
    trace = read(path, plan.boot_seconds)
    if plan.redraw:
        trace = redrawn(trace, _random(trace, plan))
    value = plan.settings.value_of_time_usd_per_hour
    least = oracle.solve(trace, value).objective(value)
    rows: list[Row] = []
    moves: list[Move] = []
    tracks: dict[Name, tuple[Point, ...]] = {}
    for name in plan.names:
        ran = _ran(name, trace, plan)
        one = ran.result
        cost = one.objective(value)
        assert cost >= least * (1 - ROUNDING), f"{path.name}: {name} beat the oracle, {cost} < {least}"
        rows.append(Row(path.stem, name, float(one.usd), float(one.hours), float(cost), float(cost / least),
                        one.out_of_memory, one.moves, float(one.lost_progress)))  # fmt: skip
        moves += churn.moves(path.stem, name, trace, ran.first, ran.launches, value)
        tracks[name] = ran.track
    return Replayed(trace, tuple(rows), tuple(moves), tracks)


def rows(path: Path, plan: Plan) -> list[Row]:
    """Replay one trace file, for its rows only."""
    return list(replayed(path, plan).rows)


@dataclass(frozen=True, slots=True)
class _Ran:
    result: Result
    track: tuple[Point, ...]
    first: int = 0
    launches: tuple[Launch, ...] = ()


def _ran(name: Name, trace: Trace, plan: Plan) -> _Ran:
    value = plan.settings.value_of_time_usd_per_hour
    match name:
        case "static-peak":
            return _watched(baselines.static(trace, value, "peak"))
        case "static-best":
            return _watched(baselines.static(trace, value, "best"))
        case "threshold":
            return _watched(baselines.threshold(trace))
        case "reactive":
            return _played(trace, Reactive(), Persisting(trace), replace(plan.settings, kind="reactive"), plan)
        case "scaleahead":
            return _played(trace, plan.policy, _sight(trace, plan), plan.settings, plan)
        case "oracle" | "unwarned":
            best = oracle.solve(trace, value, unwarned=name == "unwarned")
            return _Ran(Result(best.usd, best.hours, 0, best.moves, 0.0), oracle.track(trace, best))
        case _:
            assert_never(name)


def _watched(world: World) -> _Ran:
    return _Ran(world.result(), world.track)


def _played(trace: Trace, policy: Policy, sight: Told, settings: Settings, plan: Plan) -> _Ran:
    eyes = _eyes(sight, trace, plan)
    if plan.noise > 0:
        eyes = Noisy(eyes, plan.noise, _random(trace, plan))
    run = Run(trace, policy, eyes, settings)
    result = run.play()
    return _Ran(result, run.world.track, run.first, tuple(run.launches))


def _random(trace: Trace, plan: Plan) -> np.random.Generator:
    """Make a stream of its own for each trace, so that it is the same whatever is replayed beside it."""
    return np.random.default_rng((plan.seed, zlib.crc32(trace.job.encode())))


def _sight(trace: Trace, plan: Plan) -> Told:
    if not plan.policy.foresees:
        return Persisting(trace)
    match plan.schedule:
        case "declared":
            return Declared(trace)
        case "inferred":
            return Cautious(trace, ensemble.shipped().schedules)
        case _:
            assert_never(plan.schedule)


def _eyes(eyes: Told, trace: Trace, plan: Plan) -> Eyes:
    """Take the profile away from the eyes where speeds are to be learned."""
    if plan.speeds == "known":
        return eyes
    settings = plan.settings
    margin, value = settings.safety.memory_margin, settings.value_of_time_usd_per_hour
    return Learning(eyes, trace, margin, value, np.random.default_rng(0))


def summary(found: Sequence[Row], moves: Sequence[Move] = ()) -> Mapping[str, Mapping[str, float]]:
    """Sum up each policy: geometric mean of regret, total objective over the oracle's total, kills, moves.

    ``moves_lost`` counts the moves that nothing forced and that came to less than they cost; ``reactive_worst`` is the
    greatest ratio of its objective to that of ``reactive`` on one trace, where that was played.
    """
    reactive = {row.trace: row.objective for row in found if row.policy == "reactive"}
    made: dict[str, Mapping[str, float]] = {}
    for name in KNOWN:
        mine = [row for row in found if row.policy == name]
        if not mine:
            continue
        made[name] = {
            "regret_geomean": math.exp(sum(math.log(row.regret) for row in mine) / len(mine)),
            "regret_weighted": sum(row.objective for row in mine) / sum(row.objective / row.regret for row in mine),
            "regret_worst": max(row.regret for row in mine),
            "out_of_memory": sum(row.out_of_memory for row in mine),
            "moves": sum(row.moves for row in mine),
            "moves_lost": sum(not move.needed and move.realised_usd < 0 for move in moves if move.policy == name),
        } | ({"reactive_worst": max(row.objective / reactive[row.trace] for row in mine)} if reactive else {})
    return made


def table(found: Sequence[Row], moves: Sequence[Move] = ()) -> str:
    """Write the summary as text."""
    head = f"{'policy':<12} {'regret':>8} {'weighted':>9} {'worst':>8} {'kills':>6} {'moves':>6} {'lost':>5}"
    lines = [
        f"{name:<12} {s['regret_geomean']:>8.4f} {s['regret_weighted']:>9.4f} {s['regret_worst']:>8.4f} "
        f"{s['out_of_memory']:>6.0f} {s['moves']:>6.0f} {s['moves_lost']:>5.0f}"
        for name, s in summary(found, moves).items()
    ]
    return "\n".join([head, *lines])
