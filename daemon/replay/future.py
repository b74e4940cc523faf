"""Pure decisions: what a policy may know of a trace's future, and the engine's case made of it.

Declared: the segments ahead. Persisting: the present column goes on. The paces come from a profile of (offer,
hyperparameters), or from what was learned. Nothing here looks at a segment that its kind of sight does not allow.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from daemon import engine
from daemon.replay.trace import Trace
from daemon.types import Floats, Forecast
from policies.types import Settings
from providers.types import Offer, Price, Resources

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
GRID_STEPS = 10**9
"""The engine counts whole steps; a trace's progress is a real number, so its total is cut into as many."""
AT_ONCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Future:
    """M weighted futures on a grid: ``ends`` float[K] in progress, ``pace`` float[M, K, O] in seconds for a unit.

    ``misfit`` float[M, K, O] is the chance of not fitting; ``pace`` is finite everywhere. ``foreseen`` says that the
    ends of what fits are known to the job itself, so that it can pause before them.
    """

    ends: Floats
    pace: Floats
    misfit: Floats
    probability: Floats
    foreseen: bool = False

    def cut(self, at: float) -> "Future":
        """Begin the grid at a progress, and drop what is behind."""
        ahead = self.ends > at
        return Future(self.ends[ahead], self.pace[:, ahead], self.misfit[:, ahead], self.probability, self.foreseen)


def certain(ends: Floats, columns: Floats, foreseen: bool) -> Future:
    """Make the one future of known columns float[K, O], infinite where the job does not fit."""
    fits = np.isfinite(columns)
    slowest = np.max(np.where(fits, columns, 0.0), axis=1, keepdims=True)
    pace = np.where(fits, columns, np.where(slowest > 0, slowest, 1.0))
    return Future(ends, pace[None], (~fits).astype(np.float64)[None], np.ones(1), foreseen)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the job stands: its progress, its offer, and whether it runs there still."""

    progress: float
    offer: int
    running: bool = True


def offers_of(trace: Trace) -> tuple[Offer, ...]:
    """Make the engine's offers of a trace's; their order is the trace's. Memory of the host is not in a trace."""
    return tuple(_offer(one.offer, one.gpus, one.gpu, one.gpu_memory_gib, one.nodes, one.usd_per_hour)
                 for one in trace.offers)  # fmt: skip


def _offer(name: str, gpus: int, gpu: str | None, memory: float, nodes: int, usd: float) -> Offer:
    parts = name.split("/", 2)
    provider, region, kind = parts if len(parts) == 3 else ("trace", "all", name.replace("/", "-"))
    kind = kind.removeprefix(f"{nodes}x ")
    resources = Resources(1.0, 1.0, gpus // nodes, gpu, memory)
    return Offer(provider, region, kind, resources, Price(usd, "trace", BEGINNING), nodes=nodes)


def lead(trace: Trace, future: Future, place: Place) -> tuple[Future, engine.Ahead]:
    """Cut the grid where a machine launched now would be up, and say how long the job would have to wait for it."""
    future = future.cut(place.progress)
    if not place.running:
        return future, engine.Ahead(0, trace.boot_seconds)
    left, at = trace.boot_seconds, place.progress
    pace = np.einsum("m,mk->k", future.probability, future.pace[:, :, place.offer])
    misfit = np.einsum("m,mk->k", future.probability, future.misfit[:, :, place.offer])
    for k, end in enumerate(future.ends):
        if left <= AT_ONCE_SECONDS:
            return future, engine.Ahead(k, 0.0)
        if misfit[k] > 0.5:
            return future, engine.Ahead(k, left)
        seconds = (end - at) * pace[k]
        if seconds > left:
            return _split(future, k, at + left / pace[k]), engine.Ahead(k + 1, 0.0)
        left, at = left - seconds, float(end)
    return future, engine.Ahead(len(future.ends) - 1, max(left, 0.0))


def _split(future: Future, k: int, at: float) -> Future:
    return Future(
        np.insert(future.ends, k, at), np.insert(future.pace, k, future.pace[:, k], axis=1),
        np.insert(future.misfit, k, future.misfit[:, k], axis=1), future.probability, future.foreseen,
    )  # fmt: skip


def case(
    trace: Trace, offers: tuple[Offer, ...], future: Future, ahead: engine.Ahead, place: Place, settings: Settings,
    now: datetime, spent_usd: float = 0.0,
) -> engine.Case:  # fmt: skip
    """Make the engine's case; the grid of ``future`` begins at the place."""
    unit = trace.total_progress / GRID_STEPS
    steps = _whole(np.concatenate(([place.progress], future.ends)) / unit)
    here = future.pace[:, :, place.offer] * unit
    forecast = Forecast(
        trace.job, now, int(steps[0]), steps[1:], future.probability, {"step_seconds": here},
        finish_step=int(steps[-1]), method="replay",
    )  # fmt: skip
    ratio = future.pace / future.pace[:, :, place.offer : place.offer + 1]
    profile = engine.Profile(
        {offer.id: ratio[:, :, o] for o, offer in enumerate(offers)},
        {offer.id: future.misfit[:, :, o] for o, offer in enumerate(offers)},
    )
    half = trace.restart_seconds / 2
    move = engine.MoveCost(
        stop_seconds=0.0, boot_seconds=trace.boot_seconds, checkpoint_seconds=half, restore_seconds=half,
        rework_seconds=trace.checkpoint_every_seconds / 2, poll_seconds=0.0, lead_factor=1.0,
    )  # fmt: skip
    others = [engine.Candidate(offer, "replace") for o, offer in enumerate(offers) if o != place.offer]
    return engine.Case(
        forecast, offers[place.offer], others, settings, now, move=move, profile=profile, ahead=ahead,
        spent_usd=spent_usd,
    )  # fmt: skip


def _whole(values: Floats) -> NDArray[np.int64]:
    """Round to whole steps that ascend."""
    steps = np.round(values).astype(np.int64)
    return np.asarray(np.maximum.accumulate(steps - np.arange(len(steps))) + np.arange(len(steps)))


def first_misfit(future: Future, place: Place) -> float | None:
    """Say at which progress the job first does not fit where it is, if that is foreseen."""
    if not future.foreseen:
        return None
    future = future.cut(place.progress)
    chance = np.einsum("m,mk->k", future.probability, future.misfit[:, :, place.offer])
    bad = np.flatnonzero(chance > 0.5)
    if not len(bad):
        return None
    return place.progress if bad[0] == 0 else float(future.ends[bad[0] - 1])


def seconds_to_misfit(future: Future, place: Place) -> float:
    """Say how long the job can run where it is before it does not fit, infinite where none of that is foreseen."""
    end = first_misfit(future, place)
    if end is None:
        return np.inf
    future = future.cut(place.progress)
    made = np.diff(np.minimum(future.ends, end), prepend=place.progress)
    return float(made @ future.pace[0, :, place.offer])
