"""Edge: pictures of replayed traces: cost over time, and capacity against need."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from api import plot
from daemon.replay.report import Name, Replayed
from daemon.replay.trace import Trace
from daemon.replay.world import Point
from daemon.types import Floats

HUES: Mapping[Name, str] = {
    "scaleahead": plot.OURS, "oracle": plot.CAME, "reactive": plot.COLOURS[1], "static-best": plot.COLOURS[2],
    "static-peak": plot.COLOURS[3], "threshold": plot.COLOURS[4], "unwarned": plot.COLOURS[5],
}  # fmt: skip
ORDER: Sequence[Name] = ("oracle", "unwarned", "threshold", "static-peak", "static-best", "reactive", "scaleahead")
"""What is drawn later lies above: bounds are wide and pale, ours is never hidden."""


def pictures(out: Path, traces: Sequence[str]) -> list[Path]:
    """Name one picture a trace: ``out`` itself for one, ``OUT-<trace>`` with its ending for several."""
    if len(traces) == 1:
        return [out]
    return [out.with_name(f"{out.stem}-{trace}{out.suffix}") for trace in traces]


def draw(path: Path, found: Replayed, value_of_time: float) -> None:
    """Draw one trace: dollars (time valued) over hours at the left, GPU memory held and needed at the right.

    Raises ``Failure`` where it cannot be drawn or written.
    """
    title = f"{found.rows[0].trace}, {value_of_time:g} $ an hour of time"
    regrets = {row.policy: row.regret for row in found.rows}
    with plot.panels(path, 1, 2, title) as (left, right):
        for name in sorted(found.tracks, key=ORDER.index):
            track = found.tracks[name]
            bound = name in ("oracle", "unwarned")
            label, width, alpha = f"{name} {regrets[name]:.3f}", 4.0 if bound else 1.2, 0.3 if bound else 1.0
            hours = np.array([point.hours for point in track])
            usd = np.array([point.usd for point in track]) + value_of_time * hours
            for axes, line in ((left, (hours, usd)), (right, _held(found.trace, track))):
                axes.plot(*line, color=HUES[name], label=label, linewidth=width, alpha=alpha)
        ends, need = _needed(found.trace)
        right.fill_between(ends, need, step="post", color=plot.SEEN, alpha=0.3, linewidth=0, label="needed")
        left.set(xlabel="hours", ylabel="dollars, time valued", title="Cost over time (legend: regret)")
        right.set(xlabel="work done, %", ylabel="GPU memory, GiB", title="Capacity against need", yscale="log")
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_formatter("{x:g}")
        left.legend()


def _held(trace: Trace, track: Sequence[Point]) -> tuple[Floats, Floats]:
    """Give the memory of the GPUs of the machine held, as steps over per cent of the work."""
    sizes = _sizes(trace)
    done = np.array([point.progress for point in track]) / trace.total_progress * 100
    size = np.array([sizes[point.offer] for point in track])
    return np.repeat(done, 2)[1:], np.repeat(size, 2)[:-1]


def _needed(trace: Trace) -> tuple[Floats, Floats]:
    """Give the memory of the smallest offer on which each segment fits, as steps over per cent of the work."""
    sizes, fits = _sizes(trace), np.isfinite(trace.pace())
    need = np.array([sizes[fits[:, s]].min() for s in range(len(trace.segments))])
    return np.concatenate([[0.0], trace.ends]) / trace.total_progress * 100, np.append(need, need[-1])


def _sizes(trace: Trace) -> Floats:
    return np.array([max(offer.gpus, 1) * offer.gpu_memory_gib for offer in trace.offers])
