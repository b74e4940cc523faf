"""Pure decisions: what each move of a run came to, against the same run without that move."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from daemon.replay.trace import Trace
from daemon.replay.world import Result, World

_TINY = 1e-9
_LEAST_SECONDS = 1e-3


@dataclass(frozen=True, slots=True)
class Launch:
    """A move as it was made: at which progress, whereto, with a pause at ``hold_at``, and what was promised of it.

    ``killed``: the job had been killed. ``needed``: it had, or staying did not fit; then nothing was promised.
    ``saving_usd`` is the mean saving, ``sure_usd`` that at the quantile which the policy asks to pay back; both are net
    of ``cost_usd``, the move's own dollars and the value of its standing still.
    """

    hours: float
    progress: float
    offer: int
    hold_at: float | None
    killed: bool
    needed: bool
    saving_usd: float
    sure_usd: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Move:
    """One move, promised and realised. ``realised_usd`` is net of what it cost, time valued."""

    trace: str
    policy: str
    hours: float
    before: str
    after: str
    needed: bool
    promised_usd: float
    sure_usd: float
    cost_usd: float
    realised_usd: float


def moves(
    name: str, policy: str, trace: Trace, first: int, launches: Sequence[Launch], value_of_time: float
) -> list[Move]:
    """Measure each move of a run by playing it again without that move, all others at the progress they were made."""
    if not launches:
        return []
    whole = played(trace, first, launches).objective(value_of_time)
    found: list[Move] = []
    at = first
    for i, one in enumerate(launches):
        without = played(trace, first, launches, i).objective(value_of_time)
        found.append(Move(name, policy, one.hours, trace.names[at], trace.names[one.offer], one.needed,
                          one.saving_usd, one.sure_usd, one.cost_usd, float(without - whole)))  # fmt: skip
        at = one.offer
    return found


def played(trace: Trace, first: int, launches: Sequence[Launch], skipped: int | None = None) -> Result:
    """Play a run again by its launches, perhaps without one. A job killed for the lack of it moves there then."""
    world = World(trace, first)
    for i, one in enumerate(launches):
        if i == skipped:
            continue
        lacking = launches[skipped] if skipped is not None and skipped < i else None
        _reach(world, math.inf if one.killed else one.progress, None if one.killed else lacking)
        if not world.done and world.offer != one.offer:
            world.launch(one.offer, one.hold_at)
    _reach(world, math.inf, None if skipped is None else launches[skipped])
    return world.result()


def _reach(world: World, progress: float, lacking: Launch | None) -> None:
    """Let the run come to a progress, settled, or to a kill; with ``lacking`` a killed run moves there and goes on."""
    near = progress - _TINY * world.trace.total_progress
    while not world.done:
        if world.stranded:
            if lacking is None:
                return
            world.launch(lacking.offer)
        settled = world.running and world.coming is None
        if settled and world.progress >= near:
            return
        seconds = 60.0
        if settled:
            goal = min(progress, float(world.trace.ends[world.segment]))
            seconds = (goal - world.progress) * float(world.trace.pace()[world.offer, world.segment])
        world.advance(world.now + max(seconds, _LEAST_SECONDS))
