"""Pure decisions: rules that share an hourly budget among jobs, on simulated fleets with the catalog's real prices.

``python -m tests.benchmarks.fleet [--fleets N] [--first SEED]`` prints a table; ``measure`` times 200 jobs x 50 offers.

A fleet is a stream of jobs on one region's GPU machines at list price. Work, the share of it that runs in parallel and
the GPU memory needed are drawn; how fast a machine is follows the daemon's own prior for GPUs. At every arrival and
every end the rule chooses a machine for each job; a change stands still for three minutes, the new machine paid. A job
that arrives gets the cheapest machine that it fits on, whatever is left: the budget bounds what is chosen above that.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from daemon.speed import Speeds
from policies.fleet_budget import DELAY, FleetBudget, allocate, costs, marginal
from policies.types import Option, Situation, Spread
from providers import catalog
from providers.types import Offer
from tests.policies import situations

Floats = NDArray[np.float64]
Rule = Callable[["State"], list[int]]

PAUSE_HOURS = 0.05
JOBS, CHOICES = 60, 50
SOLVER_SECONDS = 2.0
SIA_POWER = -0.5
"""The power of Sia's objective: its paper's default."""


@dataclass(slots=True)
class Task:
    """One job: hours of work left on each machine (infinite where it does not fit), and where it is."""

    hours: Floats
    arrived: float
    at: int
    age: float = 0.0
    pause: float = 0.0

    @property
    def fits(self) -> NDArray[np.bool_]:
        return np.isfinite(self.hours)


@dataclass(frozen=True, slots=True)
class State:
    """What a rule sees: hours to the finish for each job and machine, moves included, prices, budget."""

    tasks: Sequence[Task]
    hours: list[Floats]
    rate: Floats
    budget: float
    money: float


def state(tasks: Sequence[Task], rate: Floats, budget: float, money: float) -> State:
    """Add the pause of a move to every machine but the present."""
    hours = [task.hours + PAUSE_HOURS * (np.arange(len(rate)) != task.at) for task in tasks]
    return State(tasks, hours, rate, budget, money)


def _fit(
    cost: list[Floats], hours: list[Floats], rate: Floats
) -> tuple[list[NDArray[np.int64]], list[Floats], list[Floats]]:
    places = [np.flatnonzero(np.isfinite(h)) for h in hours]
    return places, [c[p] for c, p in zip(cost, places, strict=True)], [rate[p] for p in places]


def _allocated(seen: State, cost: list[Floats], solver: Callable[..., list[int]], *more: float) -> list[int]:
    places, costs, rates = _fit(cost, seen.hours, seen.rate)
    taken = solver(costs, rates, seen.budget, *more)
    return [int(place[o]) for place, o in zip(places, taken, strict=True)]


def ours(delay: float, solver: str = "programme") -> Rule:
    """The rule of ``policies.fleet_budget``, with its integer programme or with its fallback."""

    def rule(seen: State) -> list[int]:
        finite = [np.where(np.isfinite(h), h, 1e6) for h in seen.hours]
        cost = [costs(h, h * seen.rate, len(seen.tasks), seen.budget, delay) for h in finite]
        if solver == "programme":
            return _allocated(seen, cost, allocate, SOLVER_SECONDS)
        return _allocated(seen, cost, marginal)

    return rule


def sia(seen: State) -> list[int]:
    """Sia as understood: goodput over the job's least, times its restart factor, to the power -0.5, summed, least."""
    cost = []
    for task, hours in zip(seen.tasks, seen.hours, strict=True):
        speed = 1 / task.hours
        goodput = speed / speed[np.isfinite(task.hours)].min()
        restart = task.age / (task.age + PAUSE_HOURS) if task.age > 0 else 1.0
        goodput = np.where(np.arange(len(hours)) == task.at, goodput, goodput * max(restart, 1e-3))
        cost.append(np.where(np.isfinite(hours), goodput, 1.0) ** SIA_POWER)
    return _allocated(seen, cost, allocate, SOLVER_SECONDS)


def boa(seen: State) -> list[int]:
    """BOA as understood: one price of money for all jobs and all time; each job takes its own best width under it.

    The budget here is a cap, not an average, so where the widths together exceed it the price is raised until they do
    not: the least change that makes the rule comparable.
    """
    low, high = seen.money, 1e3

    def widths(price: float) -> list[int]:
        return [int(np.argmin(np.where(np.isfinite(h), h * (1 + price * seen.rate), np.inf))) for h in seen.hours]

    taken = widths(low)
    if seen.rate[taken].sum() <= seen.budget:
        return taken
    for _ in range(40):
        middle = math.sqrt(low * high) if low > 0 else high / 2
        low, high = (low, middle) if seen.rate[widths(middle)].sum() <= seen.budget else (middle, high)
    return widths(high)


def cheapest(seen: State) -> list[int]:
    """Every job on the least dollars an hour that it fits on."""
    return [int(np.argmin(np.where(np.isfinite(h), seen.rate, np.inf))) for h in seen.hours]


def machines() -> list[Offer]:
    """The on-demand GPU machines of one region with a price, those dominated in price by an equal one left out."""
    found = [
        o for o in catalog.load().offers()
        if o.price is not None and o.region == "us-east-1" and o.buying == "on_demand" and o.resources.gpus
    ]  # fmt: skip
    best: dict[tuple[str | None, int], Offer] = {}
    for offer in sorted(found, key=lambda o: (o.price.usd_per_hour if o.price else math.inf, o.id)):
        best.setdefault((offer.resources.gpu_model, offer.resources.gpus), offer)
    return list(best.values())


def fleet(seed: int, offers: Sequence[Offer], jobs: int = JOBS) -> tuple[list[Task], Floats]:
    """Draw a fleet: arrivals over two days."""
    chance = np.random.default_rng(seed)
    base = next(o for o in offers if o.resources.gpu_model == "T4" and o.resources.gpus == 1)
    factor, _ = Speeds().factors(base, offers)
    rate = np.array([o.price.usd_per_hour if o.price else math.inf for o in offers])
    memory = np.array([o.resources.gpu_memory_gib for o in offers])
    tasks = []
    for arrived in np.sort(chance.uniform(0, 48, jobs)):
        work = float(chance.lognormal(math.log(20), 1.0))
        parallel, need = chance.uniform(0.5, 1.0), chance.choice([8.0, 14.0, 20.0, 38.0])
        hours = np.where(memory >= need, work * factor**parallel, np.inf)
        tasks.append(Task(hours, float(arrived), int(np.argmin(np.where(np.isfinite(hours), rate, np.inf)))))
    return tasks, rate


def play(rule: Rule, tasks: Sequence[Task], rate: Floats, budget: float, money: float) -> dict[str, float]:
    """Play a fleet to its end: mean hours from arrival to finish, dollars, moves, and the greatest hourly rate."""
    waiting = [Task(t.hours.copy(), t.arrived, t.at) for t in tasks]
    here: list[Task] = []
    now, spent, moves, most, done = 0.0, 0.0, 0, 0.0, []
    while waiting or here:
        while waiting and waiting[0].arrived <= now + 1e-9:
            here.append(waiting.pop(0))
        taken = rule(state(here, rate, budget, money)) if here else []
        for task, to in zip(here, taken, strict=True):
            if to != task.at:
                task.at, task.pause, moves = to, PAUSE_HOURS, moves + (task.age > 0)
        paid = float(sum(rate[t.at] for t in here))
        most = max(most, paid)
        ends = [t.pause + t.hours[t.at] for t in here]
        step = min([*ends, *([waiting[0].arrived - now] if waiting else [])])
        for task in here:
            ran = max(0.0, step - task.pause)
            task.pause = max(0.0, task.pause - step)
            task.age += step
            left = max(0.0, 1 - ran / task.hours[task.at])
            task.hours = np.where(np.isfinite(task.hours), task.hours, 0.0) * left + np.where(task.fits, 0.0, np.inf)
        now, spent = now + step, spent + paid * step
        done += [now - t.arrived for t in here if t.hours[t.at] <= 1e-9]
        here = [t for t in here if t.hours[t.at] > 1e-9]
    return {"hours": float(np.mean(done)), "usd": spent, "moves": float(moves), "most": most, "end": now}


def floor(tasks: Sequence[Task], rate: Floats) -> float:
    """The dollars an hour that the jobs cost on average, were each on its cheapest machine from arrival to end."""
    money = sum(float(t.hours[t.at] * rate[t.at]) for t in tasks)
    return money / 48


RULES: dict[str, Rule] = {
    "fleet_budget": ours(DELAY), "its fallback": ours(DELAY, "marginal"), "sia": sia, "boa": boa, "cheapest": cheapest,
}  # fmt: skip


def price_for(tasks: Sequence[Task], rate: Floats, budget: float) -> float:
    """BOA's price of money: the one at which the jobs' dollars, over the time they arrive in, meet the budget."""
    low, high = 1e-4, 1e3
    for _ in range(50):
        price = math.sqrt(low * high)
        money = 0.0
        for task in tasks:
            best = int(np.argmin(np.where(np.isfinite(task.hours), task.hours * (1 + price * rate), np.inf)))
            money += float(task.hours[best] * rate[best])
        low, high = (low, price) if money / 48 <= budget else (price, high)
    return high


def compare(seeds: Sequence[int], rules: dict[str, Rule], tightness: Sequence[float]) -> list[dict[str, object]]:
    """Play every fleet under every rule; each figure is a geometric mean over fleets of the ratio to ``cheapest``."""
    offers, rows = machines(), []
    for tight in tightness:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in (*rules, "cheapest")}
        for seed in seeds:
            tasks, rate = fleet(seed, offers)
            budget = floor(tasks, rate) * tight
            money = price_for(tasks, rate, budget)
            for name in found:
                found[name].append(play(rules.get(name, cheapest), tasks, rate, budget, money) | {"budget": budget})
        for name, played in found.items():
            base = found["cheapest"]
            row: dict[str, object] = {"budget": tight, "rule": name}
            for what in ("hours", "usd"):
                row[what] = float(
                    np.exp(np.mean([np.log(a[what] / b[what]) for a, b in zip(played, base, strict=True)]))
                )
            row["moves"] = float(np.mean([one["moves"] for one in played])) / JOBS
            rows.append(row)
    return rows


def measure() -> dict[str, float]:
    """Time one sharing of a budget among 200 jobs with 50 offers each: the programme alone, and with the guards."""
    offers = machines()
    chance = np.random.default_rng(0)
    tasks, rate = fleet(0, offers, 200)
    wide = [np.concatenate([t.hours * chance.uniform(0.8, 1.2) for _ in range(9)])[:CHOICES] for t in tasks]
    rates = np.concatenate([rate * chance.uniform(0.8, 1.2) for _ in range(9)])[:CHOICES]
    wide = [np.where(np.isfinite(h), h, 1e6) for h in wide]
    found = {}
    for tight in (1.2, 2.0, 4.0):
        budget = float(rates.min()) * 200 * tight
        cost = [costs(h, h * rates, 200, budget) for h in wide]
        began, processor = time.perf_counter(), time.process_time()
        taken = allocate(cost, [rates] * 200, budget, 4.0)
        found[f"programme_s_at_{tight:g}"] = time.perf_counter() - began
        found[f"programme_processor_s_at_{tight:g}"] = time.process_time() - processor
        quick = marginal(cost, [rates] * 200, budget)
        total = [sum(float(c[o]) for c, o in zip(cost, one, strict=True)) for one in (taken, quick)]
        found[f"fallback_cost_ratio_at_{tight:g}"] = total[1] / total[0]
    fleet_now = [_situation(f"job-{j}", hours, rates, budget) for j, hours in enumerate(wide)]
    began, processor = time.perf_counter(), time.process_time()
    FleetBudget().share(fleet_now, 0.0)
    found["share_200_jobs_50_offers_s"] = time.perf_counter() - began
    found["share_200_jobs_50_offers_processor_s"] = time.process_time() - processor
    return found


def _situation(name: str, hours: Floats, rates: Floats, budget: float) -> Situation:
    def option(o: int) -> Option:
        made = situations.option(situations.offer(f"m{o}", float(rates[o])), 0.0, route="in_place" if o else "stay")
        return replace(made, hours=Spread.exactly(float(hours[o])), usd=Spread.exactly(float(hours[o] * rates[o])))

    rules = replace(situations.policy(), extra={"fleet_usd_per_hour": budget})
    return replace(situations.situation(*(option(o) for o in range(len(rates))), settings=rules), job=name)


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet", description=__doc__)
    parser.add_argument("--fleets", type=int, default=12)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--delays", help="compare these values of DELAY instead of the rules, with commas between")
    given = parser.parse_args()
    rules = {f"delay {d}": ours(float(d)) for d in given.delays.split(",")} if given.delays else RULES
    for row in compare(range(given.first, given.first + given.fleets), rules, (1.5, 2.0, 4.0)):
        print("  ".join(f"{v:8.3f}" if isinstance(v, float) else f"{v:>14}" for v in row.values()), flush=True)


if __name__ == "__main__":
    main()
