"""Pure decisions: what may come of a trace when nothing is declared: the present, and what was profiled but not seen.

The profile is a table of speeds for settings of hyperparameters that somebody measured, so it says *which* settings
may come; nothing says when. Taken to be exchangeable, the present setting and the ``u`` unseen ones share what is left
as a Dirichlet distribution of ones does: the present keeps a share ``Beta(1, u)``, the others the rest in equal parts,
nearest first. Whether it is steps or progress that is shared so is not known: each is held as likely. Once the
forecaster's schedule head has seen enough changes to foretell the next, its word goes for how long the present lasts.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from daemon.forecast.ensemble import Sampler
from daemon.replay.future import Future, certain
from daemon.replay.trace import Segment, Trace
from daemon.replay.world import World
from daemon.reward import Weights, tilted
from daemon.types import Floats, History

STRATA = 5
TOLD_TRAJECTORIES = 20
TOLD_POINTS = 100
"""Points over the steps left at which the schedule head is asked what will be."""
LEAST_SHARE = 1e-6
EXPERTS = ("head", "steps", "progress", "present")
"""Who says how long the present lasts: the schedule head, ignorance by steps or by progress, or that it always does."""

Setting = tuple[tuple[str, float], ...]


@dataclass(slots=True)
class _Watched:
    """What a daemon would have in its store: steps, and the hyperparameters at each."""

    steps: list[int] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)
    _progress: float = 0.0
    _step: float = 0.0

    def look(self, progress: float, here: Segment) -> None:
        self._step += max(progress - self._progress, 0.0) / here.progress_per_step
        self._progress = progress
        step = round(self._step)
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
            self.rows.append(dict(here.hyperparameters))

    def present_lasts(self, schedules: Sampler, job: str, steps_left: float) -> Floats | None:
        """Give the share of the steps left, at the present rate, until the next change, a row a trajectory.

        ``None`` where the schedule head says that no change can be foretold.
        """
        changed = [name for name in self.rows[0] if len({row.get(name) for row in self.rows}) > 2]
        if not changed or steps_left < TOLD_POINTS:
            return None
        step = np.array(self.steps)
        columns = {f"hp.{name}": np.array([row.get(name, math.nan) for row in self.rows]) for name in self.rows[0]}
        total = int(step[-1] + steps_left)
        history = History(job, step, step.astype(np.float64), columns, total_steps=total)
        ahead = np.unique(np.linspace(step[-1] + 1, total, TOLD_POINTS).astype(np.int64))
        (sample,) = schedules.sample([history], [ahead], TOLD_TRAJECTORIES)
        known = [f"hp.{name}" for name in changed if f"hp.{name}" not in sample.unknown]
        if not known:
            return None
        moved = np.any([sample.paths[name] != columns[name][-1] for name in known], axis=0)
        place = np.where(moved.any(axis=1), moved.argmax(axis=1), len(ahead) - 1)
        return np.asarray((ahead[place] - step[-1]) / steps_left)


@dataclass(slots=True)
class Cautious:
    """Nothing of the schedule is known; a profile lists settings of hyperparameters, and any not yet seen may come.

    Under ``crash`` an offer counts as fitting only if every profiled setting fits: a jump gives no warning, and what
    was seen may return. So a job is never killed, whatever comes of what was profiled. The intervals of its futures
    are stages, not stretches of progress: whoever watches moves when a change is seen.

    With ``weights`` all ``EXPERTS`` are heard, weighed so; ``owner`` names the expert of each trajectory that was given
    last.
    """

    trace: Trace
    schedules: Sampler | None = None
    weights: Weights | None = None
    owner: tuple[str, ...] = ()
    _seen: set[Setting] = field(default_factory=set)
    _watched: _Watched = field(default_factory=_Watched)

    def future(self, world: World) -> Future:
        """Let the present last for an unknown share of what is left, then what has not come yet, nearest first."""
        settings = [_setting(segment) for segment in self.trace.segments]
        here = self.trace.segments[world.present]
        now = settings[world.present]
        self._seen.add(now)
        self._watched.look(world.progress, here)
        first = {setting: s for s, setting in reversed(list(enumerate(settings)))}
        unseen = sorted((one for one in first if one not in self._seen), key=lambda one: _distance(now, one))
        stages = [world.present, *(first[one] for one in unseen)]
        paces = self.trace.pace()
        columns = np.array([paces[:, s] * self._scaled(here, s) for s in stages])
        each = certain(np.arange(1.0, len(stages) + 1), columns, foreseen=False)
        misfit: Floats = each.misfit
        if self.trace.on_misfit == "crash":
            misfit = np.asarray(~np.isfinite(paces).all(axis=1), dtype=np.float64)
        left = self.trace.total_progress - world.progress
        parts, self.owner = self._parts(here, np.array([self._batch(here, s) for s in stages]), left)
        probability = np.full(len(parts), 1 / len(parts))
        if self.weights is not None:
            probability = tilted(probability, self.owner, self.weights)
        mean = probability @ parts
        ends = world.progress + left * np.cumsum(mean)
        ends[-1] = self.trace.total_progress
        pace = each.pace * (parts / mean)[:, :, None]
        return Future(ends, pace, np.broadcast_to(misfit, pace.shape), probability)

    def _parts(self, here: Segment, batches: Floats, left: float) -> tuple[Floats, tuple[str, ...]]:
        """Give the share of what is left that each stage has in each trajectory, float[M, K], and whose they are."""
        if len(batches) == 1:
            return np.ones((1, 1)), ("present",)
        told = None
        if self.schedules is not None:
            told = self._watched.present_lasts(self.schedules, self.trace.job, left / here.progress_per_step)
        each = {} if told is None else {"head": _told(told, batches)}
        if told is None or self.weights is not None:
            even = _ignorant(batches)
            each |= {"steps": even[:STRATA], "progress": even[STRATA:]}
        if self.weights is not None:
            each["present"] = _told(np.ones(1), batches)
        return np.concatenate(list(each.values())), tuple(name for name, rows in each.items() for _ in rows)

    def _scaled(self, here: Segment, s: int) -> float:
        """Correct a profiled pace to the progress a step makes now: it grows at most as the batch does."""
        return self.trace.segments[s].progress_per_step / (here.progress_per_step * self._batch(here, s))

    def _batch(self, here: Segment, s: int) -> float:
        now, then = (one.hyperparameters.get("batch_size", 1.0) for one in (here, self.trace.segments[s]))
        return then / now if then > 0 and now > 0 else 1.0


def _ignorant(progress_a_step: Floats) -> Floats:
    """Share steps, or progress, as a Dirichlet distribution of ones does in the mean; strata of the present's share."""
    others = len(progress_a_step) - 1
    level = (np.arange(STRATA) + 0.5) / STRATA
    present = 1 - (1 - level) ** (1 / others)
    even = np.concatenate([present[:, None], np.repeat((1 - present[:, None]) / others, others, axis=1)], axis=1)
    parts = np.concatenate([even, even * progress_a_step])
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))


def _told(present: Floats, progress_a_step: Floats) -> Floats:
    """Take the present's share as told, and the rest as even, half in steps and half in progress."""
    others = progress_a_step[1:]
    rest = (others / others.sum() + 1 / len(others)) / 2
    present = np.clip(present, LEAST_SHARE, 1 - LEAST_SHARE)[:, None]
    return np.concatenate([present, (1 - present) * rest], axis=1)


def _setting(segment: Segment) -> Setting:
    return tuple(sorted(segment.hyperparameters.items()))


def _need(setting: Setting) -> float:
    return sum(math.log(value) for _, value in setting if value > 0)


def _distance(now: Setting, other: Setting) -> tuple[bool, float]:
    """Order settings: the larger ones before the smaller ones, each by how far they are."""
    change = _need(other) - _need(now)
    return change < 0, abs(change)
