"""Pure decisions: what is learned of a job as it runs, beyond what its window still shows.

Cost and memory are fitted afresh from the window at every forecast, so all that must be kept is small: the stretches
that have left the window, and the factors that conformal calibration has come to. Bounded: ``MOST_KEPT`` stretches a
job, and the jobs seen last.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from daemon.forecast.calibrate import adapt
from daemon.forecast.cost import Costs, costs
from daemon.forecast.drivers import MEMORY, Drivers, drivers, points
from daemon.forecast.memory import TAIL, Memories, memories
from daemon.forecast.stretches import Stretches, cut, joined, packed, step_seconds
from daemon.types import Floats, History

MOST_KEPT = 16
MOST_JOBS = 20_000
_EARLIER = 2
_TAIL_LEVEL = 0.98
_FEW = 3
_FIRM_ROWS = 3
"""Rows from which on a stretch is remembered: a setting that stood in one report or two may be an error of it."""
_FEATURES = 4
_MOST_SCORED = 16


@dataclass(frozen=True, slots=True)
class Kept:
    """A stretch that is remembered: the figures of ``Stretches`` from ``work`` on, on a named offer."""

    offer: str
    figures: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """What is learned of one job up to ``step``: remembered stretches, oldest first, and factors on deviations."""

    step: int = -1
    kept: tuple[Kept, ...] = ()
    factors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Laws:
    """The laws of a batch of jobs: their drivers, their step times and each kind of memory."""

    driver: Sequence[Drivers]
    cost: Costs
    memory: Mapping[str, Memories]


def laws(histories: Sequence[History], learned: Sequence[Learned]) -> Laws:
    """Fit the laws of many jobs at once, from the window, what is remembered, and the owner's newest earlier runs."""
    driver = [drivers(history) for history in histories]
    flat = cut(histories, driver)
    extra = _recalled(histories, learned, flat)
    earlier = _earlier(histories, flat)
    if extra or earlier:
        flat = joined([*earlier, *extra, flat])
    seen = packed(flat, len(histories))
    tokens = np.array([not {"tokens", "length"}.isdisjoint(each.roles.values()) for each in driver], dtype=bool)
    return Laws(driver, costs(seen, tokens), {name: memories(name, histories, seen) for name in MEMORY})


def learn(histories: Sequence[History], learned: Sequence[Learned]) -> list[Learned]:
    """Score the laws of before on the rows that are new since, adapt the factors, and remember the stretches.

    Under the true hyperparameters of the new rows: the deviations stand for what the hyperparameters do not explain.
    """
    found = list(learned)
    full = [row for row, history in enumerate(histories) if len(history)]
    places = {row: int(np.searchsorted(histories[row].step, learned[row].step, side="right")) for row in full}
    scored = [row for row in full if 8 <= places[row] < len(histories[row])]
    if scored:
        before = [_until(histories[row], places[row]) for row in scored]
        factors = _scored([histories[row] for row in scored], before, [learned[row] for row in scored])
        for row, factor in zip(scored, factors, strict=True):
            found[row] = replace(found[row], factors=factor)
    kept = _remembered([histories[row] for row in full], [learned[row].kept for row in full])
    for row, each in zip(full, kept, strict=True):
        found[row] = replace(found[row], kept=each, step=int(histories[row].step[-1]))
    return found


class Memo:
    """What is learned of every job, the least recently seen forgotten beyond ``MOST_JOBS``."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._jobs: OrderedDict[str, Learned] = OrderedDict()

    def of(self, history: History) -> Learned:
        """Give what is learned of a job; nothing if its steps went back to before what was learned."""
        known = self._jobs.get(history.job)
        if known is None or (len(history) and known.step > int(history.step[-1])):
            return Learned()
        return known

    def learn(self, histories: Sequence[History]) -> None:
        """Learn from the rows that are new."""
        for history, learned in zip(histories, learn(histories, [self.of(h) for h in histories]), strict=True):
            self._jobs[history.job] = learned
            self._jobs.move_to_end(history.job)
        while len(self._jobs) > MOST_JOBS:
            self._jobs.popitem(last=False)


def to_dict(learned: Learned) -> dict[str, object]:
    """Give it as plain values, fit for JSON but for NaN."""
    kept = [{"offer": each.offer, "figures": list(each.figures)} for each in learned.kept]
    return {"step": learned.step, "kept": kept, "factors": dict(learned.factors)}


def from_dict(state: Mapping[str, Any]) -> Learned:
    """Read what ``to_dict`` gave. Raises ``KeyError`` or ``TypeError`` for anything else."""
    kept = tuple(Kept(each["offer"], tuple(each["figures"])) for each in state["kept"])
    return Learned(int(state["step"]), kept, dict(state["factors"]))


def _figures(flat: Stretches) -> Floats:
    """Give [S, figures] from ``work`` on, without the group."""
    names = [each.name for each in fields(flat) if each.name not in ("job", "group")]
    return np.stack([getattr(flat, name) for name in names], axis=1)


def _from_figures(job: float, groups: Sequence[float], kept: Sequence[Kept]) -> Stretches:
    rows = list(np.array([each.figures for each in kept]).T)
    rows.insert(_FEATURES, np.array(groups))
    return Stretches(np.full(len(kept), job), *rows)


def _recalled(histories: Sequence[History], learned: Sequence[Learned], flat: Stretches) -> list[Stretches]:
    """Give the remembered stretches that the window no longer shows."""
    found = []
    for job, (history, each) in enumerate(zip(histories, learned, strict=True)):
        if not each.kept or not len(history):
            continue
        own = flat.take(flat.job == job)
        window = {tuple(row) for row in _figures(own)[:, :_FEATURES].tolist()}
        gone = [kept for kept in each.kept if kept.figures[:_FEATURES] not in window]
        if gone:
            here = _offer(history)
            past = float(own.group.max(initial=0.0)) + 1.0
            found.append(_from_figures(job, [0.0 if kept.offer == here else past for kept in gone], gone))
    return found


def _earlier(histories: Sequence[History], flat: Stretches) -> list[Stretches]:
    """Give the stretches of the owner's newest earlier runs, for jobs that have not seen many of their own."""
    runs = [(job, run) for job, history in enumerate(histories) for run in history.earlier[:_EARLIER] if len(run)]
    if not runs:
        return []
    told = cut([run for _, run in runs], [drivers(run) for _, run in runs])
    place = told.job.astype(np.int64)
    job = np.array([job for job, _ in runs], dtype=float)[place]
    new = np.ones(len(flat), dtype=bool)
    new[1:] = (flat.job[1:] != flat.job[:-1]) | (flat.work[1:] != flat.work[:-1]) | (flat.reach[1:] != flat.reach[:-1])
    known = np.bincount(flat.job[new].astype(np.int64), minlength=len(histories)) > _FEW
    group = 1000.0 * (place + 1) + told.group
    return [replace(told, job=job, group=group).take(~known[job.astype(np.int64)])]


def _remembered(histories: Sequence[History], kept: Sequence[Sequence[Kept]]) -> list[tuple[Kept, ...]]:
    """Take the windows' stretches on the present machine into memory; the newest figures of each win."""
    flat = cut(histories, [drivers(history) for history in histories])
    found = [{(each.offer, each.figures[:_FEATURES]): each for each in mine} for mine in kept]
    for job, group, figures in zip(flat.job.astype(int).tolist(), flat.group, _figures(flat).tolist(), strict=True):
        if group == 0 and figures[_FEATURES] >= _FIRM_ROWS:
            offer = _offer(histories[job])
            found[job].pop((offer, tuple(figures[:_FEATURES])), None)
            found[job][offer, tuple(figures[:_FEATURES])] = Kept(offer, tuple(figures))
    return [tuple(mine.values())[-MOST_KEPT:] for mine in found]


def _offer(history: History) -> str:
    return history.offers[-1] if history.offers else ""


def _until(history: History, place: int) -> History:
    return replace(
        history, step=history.step[:place], at_s=history.at_s[:place], offers=history.offers[:place],
        columns={name: values[:place] for name, values in history.columns.items()},
    )  # fmt: skip


def _scored(
    histories: Sequence[History], before: Sequence[History], learned: Sequence[Learned]
) -> list[dict[str, float]]:
    """Follow the misses on the new rows. Only rows on the machine that the laws are of count."""
    law = laws(before, learned)
    sizes = [len(history) - len(old) for history, old in zip(histories, before, strict=True)]
    columns = [
        {name: history.columns[name][len(old) :] for name in driver.roles}
        for history, old, driver in zip(histories, before, law.driver, strict=True)
    ]
    at = points(law.driver, columns, sizes)
    ends = np.cumsum(sizes)
    mean, deviation = (at.spread(each) for each in law.cost.predict(at))
    memory = {name: [at.spread(each) for each in law.memory[name].predict(at)] for name in MEMORY}
    found = []
    for job, (history, old) in enumerate(zip(histories, before, strict=True)):
        factors = dict(learned[job].factors)
        part = slice(int(ends[job]) - sizes[job], int(ends[job]))
        if len(set(history.offers[len(old) - 1 :])) <= 1:
            if law.cost.known[job]:
                errors = np.abs(step_seconds(history)[len(old) :] - mean[part]) / deviation[part]
                factors["step_seconds"] = adapt(factors.get("step_seconds", 1.0), errors[-_MOST_SCORED:])
            for name, (middle, upper) in memory.items():
                if law.memory[name].known[job] and name in history.columns:
                    low = np.maximum(middle[part], law.memory[name].holds_gib[job])
                    wide = np.maximum(upper[part] - low, 0.02 * low) / TAIL
                    errors = np.maximum(history.columns[name][len(old) :] - low, 0.0) / wide
                    factors[name] = max(adapt(factors.get(name, 1.0), errors[-_MOST_SCORED:], _TAIL_LEVEL), 1.0)
        found.append(factors)
    return found
