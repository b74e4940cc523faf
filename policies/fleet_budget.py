"""Pure decisions: several jobs under one hourly budget, by an integer programme.

Each job takes one of its options; of all ways that cost no more an hour than the fleet may, the one with the least::

    sum over jobs of  (hours + DELAY x jobs / budget x dollars) / least hours          all to the finish

The first term is the job's own time. The second is what its dollars cost the others: a dollar spent now keeps the
fleet from spending it on somebody else for ``1 / budget`` hours, and most jobs wait for it. Both are counted in the
time that the job needs at least, so that short jobs are sped up first: what they cost is soon free again (Smith's
rule). The choice is a multiple-choice knapsack; HiGHS solves it through ``scipy.optimize.milp``, and where it has found
nothing better within its time limit, the largest marginal gains for a dollar an hour are taken one after the other.

After Sia (SOSP'23: an integer programme over goodputs of a fixed cluster) and BOA Constrictor (arXiv 2602.01404: a
width for each job from one price of money). What each is worth here: ``docs/fleet-budget.md``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from policies.cost_per_progress import CostPerProgress
from policies.guards import LIMITS, PAYBACK_SHARE, TIMING, fits, must_leave, usd
from policies.guards import payback as default_payback
from policies.types import Choice, Option, Rejection, Settings, Situation

Floats = NDArray[np.float64]

DELAY = 0.75
"""The share of the jobs that one job's dollars keep waiting: the best of 0 to 1.5 on fleets kept for choosing it."""
GAP = 1e-4
UNFIT = 1e5
"""What a job that does not fit weighs: far above any time that is saved, so that need comes first in the fleet."""


class FleetOptions(BaseModel):
    """What a policy file may set for ``fleet_budget``. Without ``fleet_usd_per_hour`` every job is on its own."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)

    fleet_usd_per_hour: Annotated[float, Field(gt=0, le=1e9)] | None = None
    solver_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0


class FleetBudget(CostPerProgress):
    """Be as fast as a job's share of the hourly budget allows; without a share it is ``cost_per_progress``."""

    foresees = True
    options = FleetOptions

    def share(self, situations: Sequence[Situation], taken_usd_per_hour: float) -> Mapping[str, float]:
        """Share the budget out: to each job the dollars an hour of the option that it should take now."""
        if not situations:
            return {}
        rules = FleetOptions.model_validate(dict(situations[0].settings.extra))
        budget = rules.fleet_usd_per_hour
        if budget is None:
            return {}
        tables = [_possible(situation) for situation in situations]
        cost = [
            _costs(situation, options, len(situations), budget)
            for situation, options in zip(situations, tables, strict=True)
        ]
        rate = [np.array([o.usd_per_hour for o in options]) for options in tables]
        taken = allocate(cost, rate, budget - taken_usd_per_hour, rules.solver_seconds)
        return {s.job: float(r[o]) for s, r, o in zip(situations, rate, taken, strict=True)}

    def cap(self, settings: Settings) -> float | None:
        """Name the fleet's budget."""
        return FleetOptions.model_validate(dict(settings.extra)).fleet_usd_per_hour

    def choose(self, situation: Situation) -> Choice:
        """Take the fastest option within the share; of equally fast ones the cheapest."""
        part = situation.share_usd_per_hour
        if part is None or must_leave(situation):
            return super().choose(situation)
        within = [option for option in situation.options if option.usd_per_hour <= part * (1 + 1e-9)]
        stay, told = situation.stay, f"its share of the fleet's budget is {usd(part)} an hour"
        if not within:
            return Choice(stay, f"no change, because {told} and nothing allowed costs as little")
        best = min(within, key=lambda option: (option.hours.mean, option.usd.mean, not option.stays))
        if best.stays:
            return Choice(stay, f"no change, because {told} and nothing allowed is faster for that")
        hours = f"{best.hours.mean:.1f} h to the finish against {stay.hours.mean:.1f} h"
        return Choice(best, f"moving to {best.offer.id} ({usd(best.usd_per_hour)} an hour, {hours}), because {told}")

    def payback(self, situation: Situation, option: Option) -> Rejection | None:
        """Let a job down to its share; refuse other moves that do not save more time than a part of the pause."""
        part, stay = situation.share_usd_per_hour, situation.stay
        if must_leave(situation) or (part is not None and stay.usd_per_hour > part * (1 + 1e-9)):
            return None
        if part is None:
            return default_payback(situation, option)
        least = PAYBACK_SHARE * option.pause_seconds / 3600
        if stay.hours.mean - option.hours.mean > least or default_payback(situation, option) is None:
            return None
        detail = f"{option.hours.mean:.2f} h to the finish against {stay.hours.mean:.2f} h where it is"
        return Rejection(option.offer.id, "payback", f"{detail} is not worth the move")


def allocate(cost: Sequence[Floats], rate: Sequence[Floats], budget: float, seconds: float) -> list[int]:
    """Pick one option a job, by index, of least total cost whose rates sum to at most ``budget``.

    ``cost`` and ``rate`` hold one array float[options] a job. Where even the cheapest rates exceed the budget, each job
    gets its cheapest. ``seconds`` bounds the solver, not the fallback.
    """
    greedy = marginal(cost, rate, budget)
    if sum(float(r[o]) for r, o in zip(rate, greedy, strict=True)) > budget:
        return greedy
    solved = _solve(cost, rate, budget, seconds)
    if solved is None:
        return greedy
    return min((solved, greedy), key=lambda taken: sum(float(c[o]) for c, o in zip(cost, taken, strict=True)))


def marginal(cost: Sequence[Floats], rate: Sequence[Floats], budget: float) -> list[int]:
    """Begin with each job's cheapest rate and take the largest gain for a dollar an hour, again and again."""
    taken = [int(np.lexsort((c, r))[0]) for c, r in zip(cost, rate, strict=True)]
    left = budget - sum(float(r[o]) for r, o in zip(rate, taken, strict=True))
    steps = [_step(c, r, o, left) for c, r, o in zip(cost, rate, taken, strict=True)]
    while True:
        j = max(range(len(steps)), key=lambda job: steps[job][0], default=0)
        if not steps or steps[j][0] <= 0:
            return taken
        o = steps[j][1]
        left -= float(rate[j][o] - rate[j][taken[j]])
        taken[j] = o
        for k in range(len(steps)):
            to = steps[k][1]
            if k == j or (steps[k][0] > 0 and rate[k][to] - rate[k][taken[k]] > left):
                steps[k] = _step(cost[k], rate[k], taken[k], left)


def _step(cost: Floats, rate: Floats, at: int, left: float) -> tuple[float, int]:
    """Find the upgrade with the largest gain for a dollar an hour that fits into what is left; 0 if there is none."""
    gain, more = cost[at] - cost, rate - rate[at]
    worth = np.where((gain > 1e-12) & (more <= left), gain / np.maximum(more, 1e-9), 0.0)
    best = int(np.argmax(worth))
    return float(worth[best]), best


def _solve(cost: Sequence[Floats], rate: Sequence[Floats], budget: float, seconds: float) -> list[int] | None:
    sizes = [len(c) for c in cost]
    owner = np.repeat(np.arange(len(cost)), sizes)
    count = len(owner)
    one = coo_array((np.ones(count), (owner, np.arange(count))), shape=(len(cost), count)).tocsr()
    found = milp(
        np.concatenate(cost), integrality=np.ones(count), bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one, 1, 1), LinearConstraint(np.concatenate(rate)[None, :], -np.inf, budget)],
        options={"time_limit": seconds, "mip_rel_gap": GAP},
    )  # fmt: skip
    if found.x is None:
        return None
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    taken = [int(np.argmax(found.x[s : s + n])) for s, n in zip(starts, sizes, strict=True)]
    return taken if sum(float(r[o]) for r, o in zip(rate, taken, strict=True)) <= budget * (1 + 1e-6) else None


def costs(hours: Floats, usd: Floats, jobs: int, budget: float, delay: float = DELAY) -> Floats:
    """Weigh a job's options, both float[options] to the finish, as the sum above does."""
    least = float(np.min(hours, initial=np.inf, where=hours > 0))
    return np.asarray((hours + delay * jobs / budget * usd) / (least if np.isfinite(least) else 1.0))


def _costs(situation: Situation, options: Sequence[Option], jobs: int, budget: float) -> Floats:
    hours = np.nan_to_num([option.hours.mean for option in options], nan=1e6, posinf=1e6)
    dollars = np.nan_to_num([option.usd.mean for option in options], nan=1e6, posinf=1e6)
    unfit = np.array([_unfit(situation, option) for option in options])
    return costs(hours, dollars, jobs, budget) + UNFIT * unfit


def _unfit(situation: Situation, option: Option) -> float:
    if option.stays and situation.killed:
        return 1.0
    if fits(situation.settings, option):
        return 0.0
    return 1.0 if math.isnan(option.misfit) else option.misfit


def _possible(situation: Situation) -> list[Option]:
    """List what a job could take now: staying, and what no limit refuses, if it may move at all."""
    stay = situation.stay
    if any(guard(situation, stay) is not None for guard in TIMING):
        return [stay]
    allowed = [o for o in situation.options[1:] if all(guard(situation, o) is None for guard in LIMITS)]
    return [stay, *allowed]
