"""Pure decisions: play a trace with the daemon's own engine, guards and policies, under a virtual clock."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol

import numpy as np

from daemon import engine
from daemon.replay.churn import Launch
from daemon.replay.future import (
    BEGINNING,
    Future,
    Place,
    case,
    certain,
    first_misfit,
    lead,
    offers_of,
    seconds_to_misfit,
)
from daemon.replay.trace import Trace
from daemon.replay.world import Result, World
from policies import guards
from policies.base import Policy
from policies.types import Option, Settings, Situation

Schedule = Literal["declared", "inferred"]

POLL_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 300.0
"""While polls show nothing new, everything is weighed again only after so long, or when a planned move is due."""
LEAST_WAIT_SECONDS = 0.01
MOST_KILLS = 200


class Eyes(Protocol):
    """What a policy sees of the future of a run."""

    def future(self, world: World) -> Future:
        """Look ahead from now. May look at the world's observations, never at what lies ahead of it."""


@dataclass(slots=True)
class Declared:
    """The segments are declared, and a profile knows every offer under their hyperparameters."""

    trace: Trace

    def future(self, world: World) -> Future:
        """Give the segments ahead."""
        return certain(self.trace.ends, self.trace.pace().T, foreseen=True)


@dataclass(slots=True)
class Persisting:
    """The present persists; a profile knows every offer under the present hyperparameters.

    After a kill the present is what the job was killed by, until that has been passed, and so is where it stands.
    """

    trace: Trace

    def future(self, world: World) -> Future:
        """Let the present go on to the finish."""
        pace = self.trace.pace()
        column = np.where(np.isfinite(pace[:, world.segment]), pace[:, world.present], np.inf)
        return certain(self.trace.ends[-1:], column[None, :], foreseen=False)


def play(trace: Trace, policy: Policy, eyes: Eyes, settings: Settings) -> Result:
    """Play one trace to its end."""
    return Run(trace, policy, eyes, settings).play()


class Run:
    """One run: a world, and the turns of a daemon that watches it."""

    def __init__(self, trace: Trace, policy: Policy, eyes: Eyes, settings: Settings) -> None:
        """Prepare. The first machine is chosen by what the eyes see before anything has run."""
        self._trace = trace
        self._policy = policy
        self._eyes = eyes
        self._settings = settings
        self._offers = offers_of(trace)
        self._ids = {offer.id: o for o, offer in enumerate(self._offers)}
        self._moves: list[float] = []
        self.launches: list[Launch] = []
        self._next_at = 0.0
        self._seen: tuple[object, ...] = ()
        self.first = self._first()
        self.world = World(trace, self.first)

    def play(self) -> Result:
        """Take turns until the work is done."""
        world = self.world
        while not world.done:
            if world.out_of_memory > MOST_KILLS:
                raise ValueError(f"{self._trace.job}: killed more than {MOST_KILLS} times - the policy cannot run it")
            wait = POLL_SECONDS
            if world.stranded or (world.running and world.coming is None):
                wait = self._look()
            world.advance(world.now + wait)
        return world.result()

    def _look(self) -> float:
        """Poll; decide if something is new or it is time. Give the seconds until the next poll."""
        world = self.world
        seen = (world.offer, world.present, world.stranded, world.moves)
        if seen != self._seen or world.now >= self._next_at - LEAST_WAIT_SECONDS / 2:
            self._seen = seen
            self._next_at = world.now + self._turn()
        return max(min(POLL_SECONDS, self._next_at - world.now), LEAST_WAIT_SECONDS)

    def _turn(self) -> float:
        """Decide once; give the seconds until it must be decided again."""
        world = self.world
        place = Place(world.progress, world.offer, not world.stranded)
        future = self._eyes.future(world)
        options = self._weighed(future, place, world.now)
        situation = self._situation(options)
        choice = guards.decide(self._policy, situation)
        if choice.option.stays and not world.stranded:
            return self._until(options, future, place)
        taken = choice.option if not choice.option.stays else self._anything(options)
        self._moves.append(world.now)
        hold_at = first_misfit(future, place) if place.running else None
        self.launches.append(self._launch(taken, hold_at, guards.must_leave(situation)))
        world.launch(self._ids[taken.offer.id], hold_at)
        return POLL_SECONDS

    def _situation(self, options: tuple[Option, ...]) -> Situation:
        moves = tuple(BEGINNING + timedelta(seconds=at) for at in self._moves)
        return Situation(
            self._trace.job, BEGINNING + timedelta(seconds=self.world.now), self._settings, options, moves=moves,
            killed=self.world.stranded,
        )  # fmt: skip

    def _launch(self, taken: Option, hold_at: float | None, needed: bool) -> Launch:
        settings, world = self._settings, self.world
        cost = taken.move_usd + settings.value_of_time_usd_per_hour * taken.pause_seconds / 3600
        sure = taken.saving.quantile(settings.moves.payback_quantile)
        offer = self._ids[taken.offer.id]
        return Launch(
            world.now / 3600,
            world.progress,
            offer,
            hold_at,
            bool(world.stranded),
            bool(needed),
            taken.saving.mean,
            sure,
            cost,
        )

    def _until(self, options: tuple[Option, ...], future: Future, place: Place) -> float:
        due = [option.due_seconds for option in options[1:] if option.due_seconds]
        need = seconds_to_misfit(future, place) - self._trace.boot_seconds
        if need > 0:
            due.append(need)
        # Only a foretold moment is worth looking at between two polls: a guessed one moves on as the job does.
        return max(min([LOOK_AGAIN_SECONDS, *due]), LEAST_WAIT_SECONDS if future.foreseen else POLL_SECONDS)

    def _anything(self, options: tuple[Option, ...]) -> Option:
        """A killed job must move: to what least likely does not fit."""
        return min(options[1:], key=lambda option: (option.misfit, option.objective.mean))

    def _weighed(self, future: Future, place: Place, now: float) -> tuple[Option, ...]:
        """Weigh the options of a turn."""
        return self._weigh(future, place, now)

    def _weigh(self, future: Future, place: Place, now: float) -> tuple[Option, ...]:
        grid, ahead = lead(self._trace, future, place)
        moment = BEGINNING + timedelta(seconds=now)
        return engine.weigh(case(self._trace, self._offers, grid, ahead, place, self._settings, moment)).options

    def _first(self) -> int:
        """Take the offer from which the plan costs least. It is there at once, so nothing is billed for it ahead."""
        probe = World(self._trace, int(np.argmin(self._trace.pace()[:, 0])))
        return self._best(self._beginnings(self._eyes.future(probe)))

    def _beginnings(self, future: Future) -> tuple[Option, ...]:
        """Weigh beginning on each offer, in their order."""
        cases = (
            case(self._trace, self._offers, future.cut(0.0), engine.Ahead(), Place(0.0, o), self._settings, BEGINNING)
            for o in range(len(self._offers))
        )
        return tuple(engine.weigh(made).options[0] for made in cases)

    def _best(self, beginnings: tuple[Option, ...]) -> int:
        return min(range(len(beginnings)), key=lambda o: (beginnings[o].misfit, beginnings[o].objective.mean, o))
