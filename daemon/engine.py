"""Pure decisions: the allocation engine. A forecast against every offer: hours, dollars, chances, and the best plan.

For an offer ``o`` and the interval ``k`` of the forecast's grid, averaged over the trajectories ``m``::

    hours[k, o] = sum_m p[m] x steps[k] x step_seconds[m, k] x factor[o] / 3600
    cost[k, o]  = hours[k, o] x (usd_per_hour[o] + value_of_time) + chance it does not fit x what a kill costs

The plan minimises the sum of costs and moves by dynamic programming over (interval, offer). A move's cost separates
into a part of the offer left and a part of the offer entered, so one step of the programme is O(offers), not squared.
Only the first move of the plan is ever taken, and then everything is computed again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from daemon.look import PlannedMove
from daemon.speed import Speeds
from daemon.types import Floats, Forecast, Ints
from policies.types import DECILES, ActionKind, Option, RouteName, Settings, Spread
from providers.types import Offer

MoveRoute = Literal["in_place", "replace", "grow", "shrink"]

DOES_NOT_FIT_USD = 1e7
"""Stands in the programme for "must not be": finite, so that among bad offers the least bad still comes first."""


DRAWS = 16
"""The least number of draws of what is not known of speeds."""
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class MoveCost:
    """What one move takes, in seconds: the job's own measured figures where it has shown any.

    ``lead_factor`` stretches the lead time as a margin against slow clouds; ``poll_seconds`` is how often we look.
    """

    stop_seconds: float = 30.0
    boot_seconds: float = 120.0
    checkpoint_seconds: float = 30.0
    restore_seconds: float = 30.0
    rework_seconds: float = 300.0
    notice_seconds: float = 60.0
    poll_seconds: float = 30.0
    lead_factor: float = 1.5

    def pause(self, route: RouteName) -> float:
        """Seconds that the job stands still during a move."""
        still = self.checkpoint_seconds + self.restore_seconds
        return still if route == "replace" else still + self.stop_seconds + self.boot_seconds

    def lead(self) -> float:
        """Seconds from deciding to running on the new machine, margin included."""
        total = self.stop_seconds + self.boot_seconds + self.checkpoint_seconds + self.restore_seconds
        return total * self.lead_factor + 2 * self.poll_seconds


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer and the way to it."""

    offer: Offer
    route: MoveRoute = "in_place"


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of offers along the forecast, by offer id, both float[M, K]; it goes before ``Speeds`` and memory.

    ``factor`` multiplies the forecast's step time, also the present offer's; ``misfit`` is the chance of not fitting.
    """

    factor: Mapping[str, Floats]
    misfit: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Ahead:
    """A machine launched now is used from grid interval ``intervals`` on: until then the job runs on where it is.

    It stands still for ``wait_seconds`` before that, where it cannot run on for as long as the machine boots.
    """

    intervals: int = 0
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """Everything the engine needs of one job.

    With ``ahead`` a move begins at the end of its lead, and the lead is ``boot_seconds``, no margin added: the caller
    looks again just when a move is due. Without it a move begins now, and is due one ``MoveCost.lead()`` early.
    ``interrupted`` is how often an hour the capacity of a spot offer is taken back, by offer id.
    """

    forecast: Forecast
    current: Offer
    candidates: Sequence[Candidate]
    settings: Settings
    now: datetime
    speeds: Speeds = field(default_factory=Speeds)
    move: MoveCost = MoveCost()
    margin_factor: float = 1.0
    memory_floor_gib: float = 0.0
    gpu_memory_floor_gib: float = 0.0
    spent_usd: float = 0.0
    deadline: datetime | None = None
    budget_usd: float | None = None
    profile: Profile | None = None
    ahead: Ahead | None = None
    interrupted: Mapping[str, float] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """The grid interval from which on a move that begins now counts."""
        return 0 if self.ahead is None else min(self.ahead.intervals, len(self.forecast.steps) - 1)


@dataclass(frozen=True, slots=True)
class Weighed:
    """The options, staying first and then by objective, and the plan's moves from staying on."""

    options: tuple[Option, ...]
    plan: tuple[PlannedMove, ...]


@dataclass(frozen=True, slots=True)
class _Machines:
    """What a case says of its offers, whatever is foretold. Offers are indexed with the current one first."""

    offers: tuple[Offer, ...]
    ids: tuple[str, ...]
    routes: tuple[RouteName, ...]
    factor: Floats  # [O]
    doubt: Floats  # [O] standard deviation of the factor's logarithm
    stretch: Floats  # [O] hours that interruptions make of one; in ``factor`` too
    usd_per_hour: Floats  # [O]
    sizes: Sequence[tuple[float, float, bool]]  # U: memory, one GPU's memory, and whether there are GPUs enough
    size: Ints  # [O] -> U
    leave_usd: Floats  # [O] dollars billed for leaving an offer
    enter_usd: Floats  # [O] dollars billed for entering one
    pause: Floats  # [O] seconds of standing still when entering
    enter: Floats  # [O] enter_usd and the value of the time of the pause


@dataclass(frozen=True, slots=True)
class _Table(_Machines):
    """The arrays of one case under one forecast."""

    seconds: Floats  # [M, K] on the current machine
    along: Floats | None  # [M, K, O] factors along the forecast, where a profile knows them
    misfit: Floats  # [M, K, U] chance of not fitting, for each distinct size
    resource: NDArray[np.bool_]  # [U] whether the GPU's memory is the likelier to burst
    begins: Floats  # [M, K] seconds until each interval begins, if the job stays


_Step = tuple[int, int, float]
"""A move of a plan: its interval, its offer, and the early decile of the seconds until the interval begins."""


def weigh(case: Case) -> Weighed:
    """Weigh staying and every candidate against the whole distribution of futures.

    Without a forecast of step time there is nothing to weigh: only staying is returned, with zeros.
    """
    return weigh_each(case, (case.forecast,))[0]


def weigh_each(case: Case, forecasts: Sequence[Forecast]) -> list[Weighed]:
    """Weigh a case under each of some forecasts in turn; what does not hang on them is computed once."""
    machines = _machines(case)
    return [_weighed(replace(case, forecast=forecast), machines) for forecast in forecasts]


def _weighed(case: Case, machines: _Machines) -> Weighed:
    if "step_seconds" not in case.forecast.paths or not len(case.forecast.steps):
        return Weighed((_bare_stay(case),), ())
    table = _tabulate(case, machines)
    value, follow = _programme(case, table)
    walk = _walk(case, table, follow)
    return Weighed(_options(case, table, value, follow, walk), _plan(case, table, walk))


def _machines(case: Case) -> _Machines:
    found: dict[str, Candidate] = {}
    for candidate in case.candidates:
        if candidate.offer.price is not None:
            found.setdefault(candidate.offer.id, candidate)
    found.pop(here := case.current.id, None)
    offers = (case.current, *(c.offer for c in found.values()))
    routes: tuple[RouteName, ...] = ("stay", *(c.route for c in found.values()))
    factor, doubt = case.speeds.factors(case.current, offers)
    stretch = _stretch(case, offers)
    factor = factor * stretch
    price = np.array([offer.price.usd_per_hour if offer.price else math.nan for offer in offers])
    price = np.where(np.isfinite(price), price, 0.0)
    sizes, size = _sizes(case, offers)
    vot = case.settings.value_of_time_usd_per_hour
    half_restart = (case.move.checkpoint_seconds + case.move.restore_seconds) / 2
    pause = np.array([case.move.pause(route) for route in routes])
    bill_new = case.move.boot_seconds + case.move.checkpoint_seconds + case.move.restore_seconds
    return _Machines(
        offers=offers, ids=(here, *found), routes=routes, factor=factor, doubt=doubt, stretch=stretch,
        usd_per_hour=price, sizes=sizes, size=size, leave_usd=price * half_restart / 3600,
        enter_usd=price * bill_new / 3600, pause=pause, enter=price * bill_new / 3600 + vot * pause / 3600,
    )  # fmt: skip


def _tabulate(case: Case, machines: _Machines) -> _Table:
    forecast, size = case.forecast, machines.size
    steps = forecast.steps.astype(np.float64)
    steps[1:] -= steps[:-1].copy()
    steps[0] -= forecast.at_step
    seconds = np.maximum(forecast.paths["step_seconds"], 0.0) * steps
    misfit, resource = _misfits(case, machines.sizes)
    along = None
    if case.profile is not None:
        along, misfit = _profiled(case.profile, machines.offers, machines.factor, misfit[:, :, size])
        size, resource = np.arange(len(machines.offers)), resource[size] | (misfit.max(axis=(0, 1)) > 0)
    there = seconds if along is None else seconds * along[:, :, 0]
    m = machines
    return _Table(
        m.offers, m.ids, m.routes, m.factor, m.doubt, m.stretch, m.usd_per_hour, m.sizes, size, m.leave_usd,
        m.enter_usd, m.pause, m.enter, seconds, along, misfit, resource, np.cumsum(there, axis=1) - there,
    )  # fmt: skip


def _stretch(case: Case, offers: Sequence[Offer]) -> Floats:
    """Give what interruptions make of one hour on each offer, float[O]: each takes a start and the work since a save.

    The nodes of a group are taken back one by one, and each stops the job.
    """
    move = case.move
    lost = (move.notice_seconds + move.boot_seconds + move.restore_seconds + move.rework_seconds) / 3600
    often = [case.interrupted.get(offer.id, 0.0) * offer.nodes if offer.buying == "spot" else 0.0 for offer in offers]
    return np.asarray(1.0 + lost * np.array(often))


def _profiled(profile: Profile, offers: Sequence[Offer], factor: Floats, misfit: Floats) -> tuple[Floats, Floats]:
    """Put what a profile knows in the place of what was guessed: factors and chances, both [M, K, O]."""
    factors, misfit = np.broadcast_to(factor, misfit.shape).copy(), misfit.copy()
    for o, offer in enumerate(offers):
        if offer.id in profile.factor:
            factors[:, :, o] = profile.factor[offer.id]
        if offer.id in profile.misfit:
            misfit[:, :, o] = profile.misfit[offer.id]
    return factors, misfit


def _sizes(case: Case, offers: Sequence[Offer]) -> tuple[Sequence[tuple[float, float, bool]], Ints]:
    """The distinct sizes U of these machines, and which size each offer has.

    A job that uses GPUs does not fit where there are none, unless it has shown there that it runs without.
    """
    sizes: dict[tuple[float, float, bool], int] = {}
    index: list[int] = []
    needed = case.current.resources.gpus * case.current.nodes
    for offer in offers:
        r = offer.resources
        enough_gpus = r.gpus * offer.nodes >= needed or r.gpus > 0
        without = not enough_gpus and offer.id in case.speeds.observed
        gpu_memory_gib = math.inf if without else r.gpu_memory_gib
        index.append(sizes.setdefault((r.memory_gib, gpu_memory_gib, enough_gpus or without), len(sizes)))
    return tuple(sizes), np.array(index, dtype=np.int64)


def _misfits(case: Case, sizes: Sequence[tuple[float, float, bool]]) -> tuple[Floats, NDArray[np.bool_]]:
    """Chance of not fitting [M, K, U] for each size, and whether GPU memory is what it lacks likeliest."""
    here = case.current.resources
    memory = np.array([size[0] for size in sizes])
    gpu_memory = np.array([size[1] for size in sizes])
    lacking = np.array([not size[2] for size in sizes])
    by_memory = _chance_above(case, "usage.memory_gib", memory, case.memory_floor_gib, here.memory_gib)
    chance = by_memory
    resource = np.zeros(len(sizes), dtype=np.bool_)
    if here.gpus:
        by_gpu = _chance_above(case, "usage.gpu_memory_gib", gpu_memory, case.gpu_memory_floor_gib, here.gpu_memory_gib)
        chance = np.maximum(by_memory, by_gpu)
        resource = by_gpu.max(axis=(0, 1)) > by_memory.max(axis=(0, 1))
    return (np.where(lacking, 1.0, chance) if lacking.any() else chance), resource


def _chance_above(case: Case, name: str, capacity: Floats, floor: float, have: float) -> Floats:
    """Chance [M, K, U] that the need, with the policy's margin, exceeds each capacity.

    Memory that is not reported counts as all that the present machine has: unknown never shrinks a machine.
    """
    shape = (*case.forecast.paths["step_seconds"].shape, len(capacity))
    path = case.forecast.paths.get(name)
    if path is None:
        need = np.maximum(have, floor)
        return np.broadcast_to((capacity < need - 1e-9).astype(np.float64), shape)
    margin = 1.0 + case.settings.safety.memory_margin * case.margin_factor
    deviation = case.forecast.deviations.get(name)
    spread = np.maximum(0.0 if deviation is None else deviation * case.margin_factor, 1e-6 + 1e-4 * path)
    # Paths are constant for long stretches: each distinct pair of need and spread is weighed once.
    pairs, place = np.unique(path + 1j * spread, return_inverse=True)
    chance = ndtr((pairs.real[:, None] * margin - capacity) / (pairs.imag[:, None] * margin))
    chance[:, capacity < floor - 1e-9] = 1.0
    return np.asarray(chance[place.reshape(path.shape)])


def _programme(case: Case, table: _Table) -> tuple[Floats, Ints]:
    """Solve the plan backwards: value [K + 1, O] and, for each interval, the offer to be on [K, O]."""
    probability = case.forecast.probability
    vot = case.settings.value_of_time_usd_per_hour
    gamma = 1.0 - case.settings.safety.memory_quantile
    if table.along is None:
        hours = (probability @ table.seconds)[:, None] * table.factor[None, :] / 3600
    else:
        hours = np.einsum("m,mk,mko->ko", probability, table.seconds, table.along) / 3600
    rate = table.usd_per_hour + vot
    mean_misfit = np.einsum("m,mku->ku", probability, table.misfit)[:, table.size]
    kill = case.move.notice_seconds + case.move.boot_seconds + case.move.restore_seconds + case.move.rework_seconds
    cost = hours * rate + mean_misfit * kill / 3600 * rate
    cost = np.where(mean_misfit > gamma, cost + DOES_NOT_FIT_USD * mean_misfit, cost)
    cost = np.where(np.isfinite(cost), cost, 2 * DOES_NOT_FIT_USD)
    count, width = cost.shape
    value = np.zeros((count + 1, width))
    stays = np.empty((count, width))
    moves = np.empty((count, width))
    entered, least = np.empty(width), np.minimum.reduce
    for k in range(count - 1, -1, -1):
        stay = np.add(cost[k], value[k + 1], out=stays[k])
        move = np.add(table.leave_usd, least(np.add(table.enter, stay, out=entered)), out=moves[k])
        np.minimum(stay, move, out=value[k])
    bests = (table.enter + stays).argmin(axis=1)
    follow = np.where(moves < stays - 1e-12, bests[:, None], np.arange(width))
    return value, follow


def _sequences(follow: Ints, first: int) -> Ints:
    """For each first offer, the offers of its plan [K, O]: it for one interval, then as the programme says.

    Before interval ``first`` every plan is where the job is now.
    """
    count, width = follow.shape
    path = np.zeros((count, width), dtype=np.int64)
    path[first] = np.arange(width)
    for k in range(first + 1, count):
        follow[k].take(path[k - 1], out=path[k])
    return path


def _unmoved(case: Case, table: _Table, follow: Ints) -> Ints:
    """The offers [K] of a job that is not moved for money: where it is while it fits, then as the programme says.

    A move that pays against this is not put off. Against staying for one interval and moving then, which is what the
    plan would do next, none pays where the interval is short: each would be put off again at every turn.
    """
    unfit = case.forecast.probability @ table.misfit[:, :, table.size[0]] > 1.0 - case.settings.safety.memory_quantile
    path = np.zeros(len(follow), dtype=np.int64)
    until = int(unfit.argmax()) if unfit.any() else len(follow)
    for k in range(max(until, case.first + 1), len(follow)):
        path[k] = follow[k, path[k - 1]]
    return path


def _options(case: Case, table: _Table, value: Floats, follow: Ints, walk: Sequence[_Step]) -> tuple[Option, ...]:
    path = np.column_stack((_sequences(follow, case.first), _unmoved(case, table, follow)))
    hours, usd, first_usd = _totals(case, table, path)
    probability, hours, usd = _doubted(case, table, path, hours, usd)
    vot = case.settings.value_of_time_usd_per_hour
    objective = usd + vot * hours
    width = len(table.offers)
    usd, hours, objective, unmoved = usd[:, :width], hours[:, :width], objective[:, :width], objective[:, width:]
    against = (objective[:, :1],) if not walk else (objective[:, :1], unmoved)
    columns = np.concatenate((usd, hours, objective, *(staying - objective for staying in against)), axis=1)
    spreads = _spreads(columns, probability)
    dollars, times, objectives, *savings = (spreads[i : i + width] for i in range(0, len(spreads), width))
    late = _chance_beyond(hours, probability, _hours_left(case)).tolist()
    over = _chance_beyond(usd, probability, None if case.budget_usd is None else case.budget_usd - case.spent_usd)
    misfit = _window_misfit(case, table).tolist()
    resources = ["gpu_memory_gib" if by_gpu else "memory_gib" for by_gpu in table.resource[table.size].tolist()]
    due = _due(case, walk)
    progress = float(case.forecast.steps[-1] - case.forecast.at_step)
    lead = _lead(case)
    surest = _surest(savings, case.settings.moves.payback_quantile)
    pure = [factor if table.along is None and math.isfinite(factor) else None for factor in table.factor.tolist()]
    rows = zip(
        table.offers, table.routes, dollars, times, objectives, surest, table.usd_per_hour.tolist(), misfit, resources,
        late, over.tolist(), first_usd[:width].tolist(), table.pause.tolist(), table.stretch.tolist(), pure,
        strict=True,
    )  # fmt: skip
    made = [
        Option(
            offer, route, _kind(case.current, offer) if o else None, spent, took, worth, saved, hourly,
            spent.mean / progress if progress > 0 else None, unfit, burst if unfit > 0 else None, tardy, dear, move,
            still if o else 0.0, lead if o else 0.0, due.get(o) if o else 0.0, _age_hours(offer, case.now), stretch,
            pace,
        )
        for o, (offer, route, spent, took, worth, saved, hourly, unfit, burst, tardy, dear, move, still, stretch, pace)
        in enumerate(rows)
    ]  # fmt: skip
    rank = (value[case.first] + table.enter).tolist()
    order = sorted(range(1, len(made)), key=lambda o: (rank[o], table.ids[o]))
    return (made[0], *(made[o] for o in order))


def _surest(savings: Sequence[Sequence[Spread]], level: float) -> Sequence[Spread]:
    """Of each option's savings, against the plan from staying on and against not moving for money, the surer one.

    Either is reason enough. The first knows what waiting for an interval costs; the second is what a move must pay
    against where that is next to nothing. Staying saves nothing.
    """
    if len(savings) == 1:
        return savings[0]
    best = [max(pair, key=lambda spread: spread.quantile(level)) for pair in zip(*savings, strict=True)]
    return [savings[0][0], *best[1:]]


def _lead(case: Case) -> float:
    return case.move.lead() if case.ahead is None else case.move.boot_seconds


def _totals(case: Case, table: _Table, path: Ints) -> tuple[Floats, Floats, Floats]:
    """Hours and dollars to the end [M, P] of each plan ``path`` [K, P], and the dollars of its first move [P]."""
    factor = np.where(np.isfinite(table.factor), table.factor, 1e6)
    if table.along is None:
        # Not by BLAS: its threads wait on one another for longer than so small a product takes, and its order of
        # summing, so the last bit, differs between machines.
        hours = np.einsum("mk,ko->mo", table.seconds, factor[path] / 3600)
        usd = np.einsum("mk,ko->mo", table.seconds, (factor * table.usd_per_hour)[path] / 3600)
    else:
        along = np.where(np.isfinite(table.along), table.along, 1e6)
        taken = np.take_along_axis(along, path[None], axis=2)  # [M, K, O]
        hours = np.einsum("mk,mko->mo", table.seconds, taken) / 3600
        usd = np.einsum("mk,mko,ko->mo", table.seconds, taken, table.usd_per_hour[path]) / 3600
    moved = path[1:] != path[:-1]
    # What the first move costs stands below; it is the one at this interval.
    moved[: case.first] = False
    later_hours = np.where(moved, table.pause[path[1:]], 0.0).sum(axis=0) / 3600
    later_usd = np.where(moved, table.enter_usd[path[1:]] + table.leave_usd[path[:-1]], 0.0).sum(axis=0)
    goes = path[case.first]
    wait = 0.0 if case.ahead is None else case.ahead.wait_seconds
    first_usd = np.where(goes, table.enter_usd[goes] + (table.leave_usd[0] + table.usd_per_hour[0] * wait / 3600), 0.0)
    first_hours = np.where(goes, (table.pause[goes] + wait) / 3600, 0.0)
    return hours + later_hours + first_hours, usd + later_usd + first_usd, first_usd


def _doubted(case: Case, table: _Table, path: Ints, hours: Floats, usd: Floats) -> tuple[Floats, Floats, Floats]:
    """Spread each plan's hours and dollars [M, P] by what is not known of its first offer's speed; give weights too.

    Every trajectory draws one quantile of that, so that both kinds of doubt meet in one distribution; few
    trajectories stand for several draws each. Machines that a plan moves to later are taken at their likeliest speed,
    and so are all of them in the programme. A profile along the forecast holds its own doubt.
    """
    probability = case.forecast.probability
    if table.along is not None or not table.doubt.any():
        return probability, hours, usd
    times = math.ceil(DRAWS / len(probability))
    count = len(probability) * times
    # Multiples of the golden ratio fall evenly in any stretch of them, whatever the order of the trajectories.
    drawn = ndtri(np.modf((np.arange(count) + 0.5) * GOLDEN)[0])
    goes = path[case.first]
    factor = np.where(np.isfinite(table.factor), table.factor, 0.0)[goes]
    first = np.where(path == goes, factor / 3600, 0.0)
    first[: case.first] = 0.0
    more = np.repeat(np.einsum("mk,ko->mo", table.seconds, first), times, axis=0) * np.expm1(
        drawn[:, None] * table.doubt[goes]
    )
    hours, usd = np.repeat(hours, times, axis=0) + more, np.repeat(usd, times, axis=0) + more * table.usd_per_hour[goes]
    return np.repeat(probability / times, times), hours, usd


def _spreads(values: Floats, probability: Floats) -> list[Spread]:
    """Sum up every column of values [M, O] under trajectory weights [M]."""
    if len(values) == 1:
        return list(map(Spread.exactly, values[0].tolist()))
    columns = np.ascontiguousarray(values.T)
    count, last = len(columns), columns.shape[1] - 1
    if (probability == probability[0]).all():
        # Equal weights: the ranks of the deciles are the same in every column.
        ranked = np.sort(columns, axis=1)
        mass = np.cumsum(probability)
        rows = [min(int((mass < level - 1e-9).sum()), last) for level in DECILES]
        deciles = ranked[:, rows]
    else:
        order = np.argsort(columns, axis=1)
        ranked = np.take_along_axis(columns, order, axis=1)
        mass = np.cumsum(probability[order], axis=1)
        # One search for all columns: each is lifted above the one before, by more than any mass.
        lift = 2.0 * np.arange(count)[:, None]
        found = (mass + lift).ravel().searchsorted((np.array(DECILES) - 1e-9 + lift).ravel())
        below = found.reshape(count, len(DECILES)) - (last + 1) * np.arange(count)[:, None]
        deciles = np.take_along_axis(ranked, np.minimum(below, last), axis=1)
    return list(map(Spread, (probability @ values).tolist(), map(tuple, deciles.tolist())))


def _early(values: Floats, probability: Floats) -> float:
    """Give the first decile of values [M] under trajectory weights [M]."""
    order = np.argsort(values, kind="stable")
    row = np.cumsum(probability[order]).searchsorted(DECILES[0] - 1e-9)
    return float(values[order[min(int(row), len(order) - 1)]])


def _chance_beyond(values: Floats, probability: Floats, limit: float | None) -> Floats:
    if limit is None:
        return np.zeros(values.shape[1])
    return probability @ (values > limit)


def _hours_left(case: Case) -> float | None:
    return None if case.deadline is None else (case.deadline - case.now).total_seconds() / 3600


def _window_misfit(case: Case, table: _Table) -> Floats:
    """Chance [O] of not fitting before the next move away could be complete.

    A trajectory's residual persists, so over the window its greatest chance counts, not the sum. On another offer the
    window is twice as long: its own move there takes one lead time, leaving it again takes another.
    """
    begins = table.begins
    window, first = _lead(case), case.first
    stays, moves = begins <= window, begins <= 2 * window
    stays[:, : first + 1] = True
    moves[:, :first] = False  # by then the job is not there yet
    last = int(np.flatnonzero((stays | moves).any(axis=0))[-1]) + 1
    here = np.where(stays[:, :last], table.misfit[:, :last, table.size[0]], 0.0).max(axis=1)
    there = np.where(moves[:, :last, None], table.misfit[:, :last], 0.0).max(axis=1)
    probability = case.forecast.probability
    chance = (probability @ there)[table.size]
    chance[0] = probability @ here
    known = table.along is not None or np.isfinite(table.factor)
    return np.where(known, np.clip(chance, 0.0, 1.0), 1.0)


def _walk(case: Case, table: _Table, follow: Ints) -> list[_Step]:
    """The plan from staying on."""
    if not follow[case.first :, 0].any():
        return []
    begins = table.begins - table.begins[:, case.first : case.first + 1]
    steps: list[_Step] = []
    at = 0
    for k in range(case.first, len(follow)):
        to = int(follow[k, at])
        if to != at:
            early = _early(begins[:, k], case.forecast.probability)
            steps.append((k, to, early))
            at = to
    return steps


def _plan(case: Case, table: _Table, walk: Sequence[_Step]) -> tuple[PlannedMove, ...]:
    grid = np.concatenate(([case.forecast.at_step], case.forecast.steps))
    return tuple(PlannedMove(table.offers[to].id, int(grid[k]), _in_seconds(case, early)) for k, to, early in walk)


def _due(case: Case, walk: Sequence[_Step]) -> dict[int, float]:
    """When moves are due: only the plan's first can be; what follows is computed again after it."""
    return {to: _in_seconds(case, early) for _, to, early in walk[:1]}


def _in_seconds(case: Case, early: float) -> float:
    """When a move must begin; ``early`` is counted from the first interval that a move now could be there for."""
    return early if case.ahead is not None else max(0.0, early - case.move.lead())


def _kind(current: Offer, offer: Offer) -> ActionKind:
    if offer.nodes != current.nodes and offer.machine_type == current.machine_type:
        return "resize_group"
    gained = offer.resources.gpus > 0 and current.resources.gpus == 0
    return "attach_gpu" if gained or offer.attached_gpus != current.attached_gpus else "change_machine"


def _age_hours(offer: Offer, now: datetime) -> float:
    return math.inf if offer.price is None else (now - offer.price.at).total_seconds() / 3600


def _bare_stay(case: Case) -> Option:
    nothing = Spread.exactly(0.0)
    price = case.current.price
    return Option(
        offer=case.current, route="stay", kind=None, usd=nothing, hours=nothing, objective=nothing, saving=nothing,
        usd_per_hour=price.usd_per_hour if price else 0.0, usd_per_progress=None, misfit=0.0, misfit_resource=None,
        late=0.0, over_budget=0.0, move_usd=0.0, pause_seconds=0.0, lead_seconds=0.0, due_seconds=0.0,
        price_age_hours=_age_hours(case.current, case.now),
    )  # fmt: skip
