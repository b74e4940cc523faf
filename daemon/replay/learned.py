"""Pure decisions: a policy's eyes where no profile tells speeds: only what runs is observed, a law tells the rest.

Seconds of a step come from ``daemon.throughput``, fitted to the steps that this run has shown; its posterior is drawn
from, so that every draw is one future and an offer whose speed is uncertain has a wide saving. Work and memory of a
pass are taken to grow in proportion to each hyperparameter until shown otherwise.

What fits comes from the share of GPU memory that was seen in use. More memory than a GPU that was seen holds at least
in proportion more. Of less memory up to half may be taken by what does not shrink with the batch (weights, optimiser,
workspace). Before anything has run, whoever starts the job is taken to know where its first setting fits.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from daemon import throughput
from daemon.gpus import named
from daemon.replay.future import Future
from daemon.replay.trace import Trace
from daemon.replay.world import World
from daemon.throughput import Law, Learned, Point
from daemon.types import Floats

FIRST_GUESS_SECONDS = 3 * 3600.0
"""How long the whole job is taken to last before a step has been seen; it scales what a move costs, nothing else."""
FIXED_SHARE = 0.5
DRAWS = 16
ROUNDED = 1e-3
"""Shares of memory are told to three digits or so."""


class Told(Protocol):
    """Eyes that see by a trace's table of step seconds."""

    trace: Trace

    def future(self, world: World) -> Future:
        """Look ahead from now."""


@dataclass(slots=True)
class Room:
    """How large a pass fits on one GPU, by its memory in GiB. ``full`` are known sizes, ``ran`` the largest that ran.

    ``margin`` is kept free wherever a size has not run.
    """

    margin: float
    full: dict[float, float] = field(default_factory=dict)
    ran: dict[float, float] = field(default_factory=dict)

    def see(self, memory: float, size: float, share: float) -> None:
        """Learn from a pass that ran, with the share of memory it took (NaN: not told)."""
        self.ran[memory] = max(size, self.ran.get(memory, 0.0))
        if share > 0:
            self.full[memory] = size / share

    def holds(self, memory: float) -> float:
        """Give the largest pass that is taken to fit; infinite where nothing is known at all."""
        known = self.full or self.ran
        if not known:
            return math.inf
        if memory in known:
            return max(known[memory], self.ran.get(memory, 0.0))
        smaller = [size * memory / other for other, size in known.items() if other < memory]
        larger = [size * (1 - FIXED_SHARE) * memory / (other - FIXED_SHARE * memory)
                  for other, size in known.items() if other > memory]  # fmt: skip
        return max(smaller or larger)

    def fits(self, memory: float, size: float) -> bool:
        """Say whether a pass fits, the margin kept free unless as much has run."""
        if size <= self.ran.get(memory, 0.0) * (1 + ROUNDED):
            return True
        return size * (1 + self.margin) <= self.holds(memory) * (1 + ROUNDED)


@dataclass(slots=True)
class Learning:
    """Another's eyes, with learned speeds and fits in the place of the profile's table."""

    eyes: Told
    trace: Trace
    margin: float
    value_of_time: float
    random: np.random.Generator
    law: Law = field(default_factory=Law)
    _room: Room = field(init=False)
    _seen: dict[tuple[int, int], float] = field(default_factory=dict)
    _columns: list[Floats] = field(default_factory=list)
    _begun: bool = False

    def __post_init__(self) -> None:
        """Know where the first setting fits."""
        self._room = Room(self.margin)
        if self.trace.on_misfit == "crash":
            for offer, pace in zip(self.trace.offers, self.trace.pace()[:, 0], strict=True):
                if math.isfinite(pace):
                    self._room.see(offer.gpu_memory_gib, self._size(0) / offer.gpus, math.nan)

    def future(self, world: World) -> Future:
        """See what runs now, if anything has run, and look ahead once for every draw of what is not known."""
        if self._begun and world.running:
            self._observe(world)
        self._begun = True
        fits = np.array([[self._fits(o, s) for s in range(len(self.trace.segments))]
                         for o in range(len(self.trace.offers))])  # fmt: skip
        draws = self._left_again(np.stack(self._draws()), fits, world)
        futures = [self._told(np.where(fits, seconds, math.inf), world) for seconds in draws]
        first = futures[0]
        return Future(
            first.ends, np.concatenate([one.pace for one in futures]),
            np.concatenate([one.misfit for one in futures]),
            np.concatenate([one.probability for one in futures]) / len(futures), first.foreseen,
        )  # fmt: skip

    def _left_again(self, draws: Floats, fits: NDArray[np.bool_], world: World) -> Floats:
        """Bound how bad a machine can turn out, draws [D, O, S]: one that is dearer than thought is left again.

        It then costs what the best other is expected to cost, and a second move, spread over what is left.
        """
        rate = self.trace.prices + self.value_of_time
        progress = np.array([segment.progress_per_step for segment in self.trace.segments])
        cost = np.where(fits, draws, math.inf) * rate[None, :, None]
        expected = cost.mean(axis=0).min(axis=0)  # [S]
        left = np.diff(np.maximum(self.trace.ends, world.progress), prepend=world.progress) / progress
        total = float(left[np.isfinite(expected)] @ expected[np.isfinite(expected)])
        move = (self.trace.boot_seconds + self.trace.restart_seconds) * float(rate[world.offer])
        bound = np.where(np.isfinite(expected), expected * (1 + move / max(total, 1e-9)), math.inf)
        held = np.minimum(draws, bound[None, None, :] / rate[None, :, None])
        for o, s in self._seen:
            held[:, o, s] = draws[:, o, s]
        return np.asarray(held)

    def _told(self, seconds: Floats, world: World) -> Future:
        rows = [[value if math.isfinite(value) else None for value in row] for row in seconds.tolist()]
        self.eyes.trace = self.trace.model_copy(update={"step_seconds": dict(zip(self.trace.names, rows, strict=True))})
        return self.eyes.future(world)

    def _observe(self, world: World) -> None:
        offer, s = self.trace.offers[world.offer], world.segment
        seconds = self.trace.step_seconds[offer.offer][s]
        if seconds is None:
            return
        self._seen[world.offer, s] = seconds
        size, share = self._size(s) / offer.gpus, self.trace.filled(world.offer, s)
        if self.trace.on_misfit == "accumulate" and not share < 1:
            # Memory is full: the pass is some part of this, and how large a part is not told.
            return
        self._room.see(offer.gpu_memory_gib, size, share)

    def _draws(self) -> list[Floats]:
        """Give seconds [O, S] of a step on every offer in every segment, once for every draw."""
        steps = self._learned()
        segments = range(len(self.trace.segments))
        points = [self._point(o, s) for o in range(len(self.trace.offers)) for s in segments]
        steps = steps.asked([point.gpu for point in points])
        root = np.linalg.cholesky(steps.covariance + 1e-12 * np.eye(len(steps.at)))
        found: list[Floats] = []
        for normal in self._drawn(len(steps.at)):
            log, _ = throughput.at(steps, steps.at + root @ normal, points)
            seconds = np.exp(log).reshape(len(self.trace.offers), -1)
            for (o, s), value in self._seen.items():
                seconds[o, s] = value
            found.append(seconds)
        return found

    def _drawn(self, latents: int) -> Floats:
        """Give standard normals [D, L], the same at every look: even levels for each latent, shuffled."""
        levels = ndtri((np.arange(DRAWS) + 0.5) / DRAWS)
        while len(self._columns) < latents:
            self._columns.append(self.random.permutation(levels))
        return np.stack(self._columns[:latents], axis=1)

    def _learned(self) -> Learned:
        points = [self._point(o, s) for o, s in self._seen]
        if points:
            return throughput.learn(self.law, points, list(self._seen.values()), self._full(next(iter(self._seen))[0]))
        steps = self.trace.total_progress / self.trace.segments[0].progress_per_step
        return throughput.learn(self.law, [self._point(0, 0)], [FIRST_GUESS_SECONDS / steps], self._full(0))

    def _full(self, o: int) -> float:
        """Give the pass that fills a GPU; unknown, it is taken to be the middle share of all that there are to have."""
        room = self._room.holds(self.trace.offers[o].gpu_memory_gib)
        if math.isfinite(room):
            return room
        return self._size(0) / float(np.exp(np.mean(np.log([offer.gpus for offer in self.trace.offers]))))

    def _point(self, o: int, s: int) -> Point:
        offer = self.trace.offers[o]
        size = self._size(s) / offer.gpus
        room = self._room.holds(offer.gpu_memory_gib)
        passes = math.ceil(size / room * (1 - ROUNDED)) if self.trace.on_misfit == "accumulate" else 1
        passes = max(passes, 1)
        model = offer.gpu or ""
        return Point(named(model) or model, size / passes, offer.gpus, offer.nodes, passes - 1)

    def _fits(self, o: int, s: int) -> bool:
        offer = self.trace.offers[o]
        if self.trace.on_misfit == "accumulate":
            return True
        return self._room.fits(offer.gpu_memory_gib, self._size(s) / offer.gpus)

    def _size(self, s: int) -> float:
        """Give what a step works through: the batch, in proportion to every other hyperparameter."""
        return math.prod(value for value in self.trace.segments[s].hyperparameters.values() if value > 0)
