"""Pure decisions: weights over experts of trajectories, refined by the regret of the decisions they led to.

Each expert says how the future may go; the engine, given its trajectories alone, would take some offer. Once it is
known how the job went, the same engine weighs those offers against what came: how much dearer an expert's offer is than
the best one is its regret. Weights fall exponentially in it (Hedge, Freund and Schapire 1997), an expert that had
nothing to say keeps its weight (sleeping experts, Freund et al. 1997), and none is forgotten for good (fixed share,
Herbster and Warmuth 1998).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from daemon.forecast.rows import Flags
from daemon.types import Floats, Forecast, Ints
from policies.types import Option

RATE = 10.0
"""How fast weights fall: an expert a tenth dearer than the best keeps a weight of 1/e beside it."""
SHARE = 0.02
"""The part of all weight that is dealt out evenly at each refinement."""
MOST = 1.0
"""A regret counts as at most this: a kill is one large loss, not a hundred."""
UNFIT = 0.5

Weights = Mapping[str, float]


def refined(
    weights: Weights, regret: Mapping[str, float], rate: float = RATE, share: float = SHARE
) -> dict[str, float]:
    """Refine the weights of the experts that ``regret`` names; together they keep what they had. Weights sum to 1.

    A regret that is not a number counts as the most. Experts that have no weight are not taken up.
    """
    awake = [name for name in weights if name in regret]
    mass = math.fsum(weights[name] for name in awake)
    if not awake or mass <= 0:
        return dict(weights)
    loss = {name: min(max(regret[name], 0.0), MOST) if math.isfinite(regret[name]) else MOST for name in awake}
    least = min(loss.values())
    left = {name: weights[name] * math.exp(-rate * (loss[name] - least)) for name in awake}
    total = math.fsum(left.values())
    even = share / len(awake)
    told = {name: mass * ((1 - share) * (left[name] / total if total > 0 else 1 / len(awake)) + even) for name in awake}
    return {name: told.get(name, weight) for name, weight in weights.items()}


def regrets(hindsight: Sequence[Option], chosen: Mapping[str, str]) -> dict[str, float]:
    """Give each expert's regret: how much dearer than the best its offer, by id, is by options weighed in hindsight.

    As a part of the best objective, at most ``MOST``; ``MOST`` for an offer that did not fit. Experts are left out
    whose offer hindsight does not know; nothing is told where nothing fits.
    """
    cost = {option.offer.id: option.objective.mean if option.misfit <= UNFIT else math.inf for option in hindsight}
    best = min(cost.values(), default=math.inf)
    if not math.isfinite(best) or best <= 0:
        return {}
    return {
        name: min((cost[offer] - best) / best, MOST) if math.isfinite(cost[offer]) else MOST
        for name, offer in chosen.items()
        if offer in cost
    }


def tilted(probability: Floats, owner: Sequence[str], weights: Weights) -> Floats:
    """Give trajectories float64[M] their expert's weight: what it has is shared out as it was among its own.

    Experts without a trajectory leave theirs to the others. Without any weight the probabilities stay as they are.
    """
    names = np.array(owner)
    found = np.zeros(len(probability))
    for name in set(owner):
        mine = names == name
        own = float(probability[mine].sum())
        if own > 0:
            found[mine] = weights.get(name, 0.0) * probability[mine] / own
    total = float(found.sum())
    return found / total if total > 0 else probability


def mixed(foretold: Forecast, present: Forecast, weight: float) -> Forecast:
    """Mix what is foretold with "the present persists", the first by ``weight``, for the engine.

    Columns that only one of the two has are left out, so that one which is lost stays unknown. Forecasts on different
    grids are not mixed: the first is given back.
    """
    shared = [name for name in foretold.paths if name in present.paths]
    if not np.array_equal(foretold.steps, present.steps) or not shared or foretold.method == present.method:
        return foretold
    return replace(
        foretold,
        probability=np.concatenate([weight * foretold.probability, (1.0 - weight) * present.probability]),
        paths={name: np.concatenate([foretold.paths[name], present.paths[name]]) for name in shared},
        deviations={
            name: np.concatenate([_deviation(foretold, name), _deviation(present, name)])
            for name in shared
            if name in foretold.deviations or name in present.deviations
        },
    )  # fmt: skip


def _deviation(forecast: Forecast, name: str) -> Floats:
    return forecast.deviations.get(name, np.zeros_like(forecast.paths[name]))


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """How a job went: ``step`` int[N] ascending, ``seconds`` a step and each ``memory`` float[N], NaN unknown."""

    step: Ints
    seconds: Floats
    memory: Mapping[str, Floats]


def came(made: Forecast, course: Course) -> Forecast | None:
    """Give what came in place of what was foretold: one sure trajectory on the same grid, as far as the job went.

    An interval has the mean step time and the highest memory of its rows, one without rows what lies around it.
    ``None`` where the course tells nothing about the grid.
    """
    inside = (course.step > made.at_step) & np.isfinite(course.seconds)
    if not inside.any():
        return None
    last = int(course.step[inside][-1])
    steps = np.append(made.steps[made.steps < last], last)
    place = np.searchsorted(steps, course.step[inside], side="left")
    count = np.bincount(place, minlength=len(steps))
    mean = np.bincount(place, course.seconds[inside], minlength=len(steps)) / np.maximum(count, 1)
    paths = {"step_seconds": _filled(mean, count > 0)}
    for name, values in course.memory.items():
        told = values[inside]
        known = np.isfinite(told)
        most = np.full(len(steps), -np.inf)
        np.maximum.at(most, place[known], told[known])
        if known.any():
            paths[name] = _filled(most, np.isfinite(most))
    return Forecast(
        made.job, made.made_at, made.at_step, steps, np.ones(1), {name: path[None] for name, path in paths.items()},
        finish_step=last, method="hindsight",
    )  # fmt: skip


def _filled(values: Floats, known: Flags) -> Floats:
    everywhere = np.arange(len(values))
    return np.asarray(np.interp(everywhere, everywhere[known], values[known]))
