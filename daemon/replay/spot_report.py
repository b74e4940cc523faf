"""Pure decisions: replay spot availability under several rules, set each against the oracle, and sum up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never, get_args

import numpy as np

from daemon.replay.spot_oracle import least_usd
from daemon.replay.spot_rules import Greedy, OnDemand, Planned, UniformProgress
from daemon.replay.spot_trace import Terms, Zone, starts
from daemon.replay.spot_world import Outcome, Rule, play
from policies.availability import PRIOR

SpotName = Literal["on-demand", "greedy", "uniform-progress", "scaleahead", "oracle"]
SPOT_NAMES: tuple[SpotName, ...] = get_args(SpotName)
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class SpotPlan:
    """What to replay: the job's terms, the rules by name, how many starts a zone and their seed."""

    terms: Terms
    names: tuple[SpotName, ...]
    count: int
    seed: int


@dataclass(frozen=True, slots=True)
class SpotRow:
    """One rule in one zone, or choice of zones, over all starts.

    ``usd`` is the mean over starts; ``regret`` that mean over the oracle's mean, ``regret_start`` the mean of the
    regrets of single starts. ``missed`` is the share of starts whose work was not done at the deadline.
    """

    zone: str
    policy: SpotName
    usd: float
    usd_vs_on_demand: float
    missed: float
    changeovers: float | None
    hours: float | None
    regret: float
    regret_start: float
    regret_worst: float


def spot_rows(group: Sequence[Zone], plan: SpotPlan) -> list[SpotRow]:
    """Replay one choice of zones. Raises ``ValueError`` where the record is shorter than the deadline.

    Raises ``AssertionError`` if a rule beats the oracle: then one of the two is wrong.
    """
    terms = plan.terms
    name = "+".join(zone.zone for zone in group)
    label = f"{group[0].trace}/{name}/{group[0].instance}"
    cuts = [
        np.stack([zone.up[at : at + terms.ticks] for zone in group])
        for at in starts(group, terms.ticks, plan.count, plan.seed)
    ]
    least = np.array([least_usd(terms, up) for up in cuts])
    rows: list[SpotRow] = []
    for rule in plan.names:
        if rule == "oracle":
            rows.append(_row(label, rule, least, least, terms, None))
            continue
        outcomes = [play(terms, up, _rule(rule)) for up in cuts]
        usd = np.array([outcome.usd for outcome in outcomes])
        worst = int(np.argmin(usd / least))
        done = np.array([not outcome.missed for outcome in outcomes])
        assert (usd >= least * (1 - ROUNDING))[done].all(), f"{label}: {rule} beat the oracle, {usd[worst]}"
        rows.append(_row(label, rule, usd, least, terms, outcomes))
    return rows


def _row(
    label: str, name: SpotName, usd: np.ndarray, least: np.ndarray, terms: Terms, outcomes: list[Outcome] | None
) -> SpotRow:
    mean = float(usd.mean())
    return SpotRow(
        zone=label, policy=name, usd=mean, usd_vs_on_demand=mean / terms.on_demand_usd,
        missed=float(np.mean([outcome.missed for outcome in outcomes])) if outcomes else 0.0,
        changeovers=float(np.mean([outcome.changeovers for outcome in outcomes])) if outcomes else None,
        hours=float(np.mean([outcome.hours for outcome in outcomes])) if outcomes else None,
        regret=mean / float(least.mean()), regret_start=float((usd / least).mean()),
        regret_worst=float((usd / least).max()),
    )  # fmt: skip


def _rule(name: SpotName) -> Rule:
    match name:
        case "on-demand":
            return OnDemand()
        case "greedy":
            return Greedy()
        case "uniform-progress":
            return UniformProgress()
        case "scaleahead":
            return Planned(PRIOR)
        case "oracle":
            raise AssertionError("the oracle is solved, not played")
        case _:
            assert_never(name)


def spot_summary(found: Sequence[SpotRow]) -> Mapping[str, Mapping[str, float]]:
    """Sum up each rule as means over zones: dollars, share of on-demand, misses, regret against the oracle."""
    made: dict[str, Mapping[str, float]] = {}
    for name in SPOT_NAMES:
        mine = [row for row in found if row.policy == name]
        if mine:
            made[name] = {
                "usd": _mean([row.usd for row in mine]),
                "usd_vs_on_demand": _mean([row.usd_vs_on_demand for row in mine]),
                "missed": _mean([row.missed for row in mine]),
                "regret": _mean([row.regret for row in mine]),
                "regret_start": _mean([row.regret_start for row in mine]),
                "regret_worst_zone": max(row.regret for row in mine),
            }
            moves = [row.changeovers for row in mine if row.changeovers is not None]
            if moves:
                made[name] = {**made[name], "changeovers": _mean(moves)}
    return made


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def spot_table(found: Sequence[SpotRow]) -> str:
    """Write the rows and the summary as text."""
    wide = max([len(row.zone) for row in found] + [len("mean of all")])
    head = f"{'zone':<{wide}}  {'policy':<16} {'usd':>8} {'of on-demand':>12} {'missed':>7} {'moves':>6} {'regret':>7}"
    lines = [
        f"{row.zone:<{wide}}  {row.policy:<16} {row.usd:>8.2f} {row.usd_vs_on_demand:>12.3f} {row.missed:>7.4f} "
        f"{'' if row.changeovers is None else format(row.changeovers, '.1f'):>6} {row.regret:>7.4f}"
        for row in found
    ]
    lines += [
        f"{'mean of all':<{wide}}  {name:<16} {one['usd']:>8.2f} {one['usd_vs_on_demand']:>12.3f} "
        f"{one['missed']:>7.4f} {format(one['changeovers'], '.1f') if 'changeovers' in one else '':>6} "
        f"{one['regret']:>7.4f}"
        for name, one in spot_summary(found).items()
    ]
    return "\n".join([head, *lines])
