"""Edge: pictures of a backtest: forecasts with their bands against what came, and how right the bands are."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from api import plot
from api.text import plain
from daemon.backtest import score
from daemon.backtest.baselines import Answer
from daemon.backtest.question import ELAPSED, Question
from daemon.backtest.run import OURS, Result, table
from daemon.types import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS, ROWS, COLUMNS = 8, 3, 3
BEHIND = 2.0
"""What is shown of the time before a forecast, in times of its reach."""
WILD = 4.0
"""A median further off than this, in ranges of what came, leaves its panel."""
NAME = 46
BESIDE = "last_value"
_FAINT, _STRONG = 0.15, 0.3

Asked = tuple[Question, Answer]


def draw(result: Result, path: Path) -> None:
    """Draw up to ``PANELS`` runs, spread over the groups, and the calibration of all. Raises ``Failure``."""
    runs = chosen(result)
    rows = min(ROWS, -(-(len(runs) + 1) // COLUMNS))
    ahead = "at its end" if result.asked.horizon_s is None else f"{result.asked.horizon_s:g} s ahead"
    title = f"{result.asked.target} {ahead}: median, 80 % and 95 % of forecasts, in black what came"
    with plot.panels(path, rows, COLUMNS, title) as axes:
        for place, (axis, asked) in enumerate(zip(axes, runs, strict=False)):
            # Of forecasts that reach over a stretch one is shown, large; those of a last value share their panel.
            _run(axis, asked if result.asked.horizon_s is None else [asked[place % len(asked)]])
        _calibration(axes[len(runs)], result)


def chosen(result: Result) -> list[list[Asked]]:
    """Choose runs with all that was asked of each: one of every group in turn, each group's in their order."""
    asked: dict[str, dict[int, list[Asked]]] = {}
    for question, answer in zip(result.questions, result.answers[OURS], strict=True):
        asked.setdefault(question.run.group, {}).setdefault(id(question.run), []).append((question, answer))
    queues = [list(runs.values()) for runs in asked.values()]
    turns = max(len(queue) for queue in queues)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)][:PANELS]


def _run(axis: "Axes", asked: Sequence[Asked]) -> None:
    run, target = asked[0][0].run, asked[0][0].target
    values = run.column(target)
    known = np.isfinite(values)
    axis.plot(run.step[known], values[known], color=plot.CAME, linewidth=0.8)
    first = asked[0][0].now
    for place, (question, answer) in enumerate(asked):
        colour = plot.COLOURS[place % len(plot.COLOURS)]
        axis.axvline(question.now, color=colour, linewidth=0.6, linestyle=":")
        if len(question.steps) > 1:
            _bands(axis, question, answer, colour)
            ahead = float(question.steps[-1]) - question.now
            first = max(question.now - BEHIND * ahead, float(run.step[0]))
            axis.set_xlim(first, float(question.steps[-1]) + 0.05 * ahead)
        else:
            _bars(axis, question, answer, colour, place - (len(asked) - 1) / 2)
    middles = np.concatenate([answer.quantiles[:, score.MIDDLE] for _, answer in asked])
    _limit(axis, middles, values[known & (run.step >= first)])
    axis.locator_params(axis="x", nbins=4)
    name = plain(run.job)
    axis.set_title(name if len(name) <= NAME else "…" + name[-NAME:])
    axis.set_xlabel("step")
    if target == ELAPSED:
        axis.set_ylabel("s")


def _bands(axis: "Axes", question: Question, answer: Answer, colour: str) -> None:
    levels = answer.quantiles
    axis.fill_between(question.steps, levels[:, 0], levels[:, 6], color=colour, alpha=_FAINT, linewidth=0)
    axis.fill_between(question.steps, levels[:, 1], levels[:, 5], color=colour, alpha=_STRONG, linewidth=0)
    axis.plot(question.steps, levels[:, score.MIDDLE], color=colour)


def _bars(axis: "Axes", question: Question, answer: Answer, colour: str, beside: float) -> None:
    """Draw one asked point as bars at its step, those of the other cuts beside it, and a line to it from the cut."""
    levels = answer.quantiles[0]
    step = float(question.steps[0]) + beside * 0.02 * float(np.ptp(question.run.step))
    known = question.column(question.target)
    last = known[np.isfinite(known)][-1]
    axis.plot([question.now, step], [last, levels[score.MIDDLE]], color=colour, linewidth=0.8)
    axis.plot([step, step], levels[[0, 6]], color=colour, alpha=0.5, linewidth=1.5)
    axis.plot([step, step], levels[[1, 5]], color=colour, alpha=0.7, linewidth=4)
    axis.plot([step], levels[[score.MIDDLE]], color=colour, marker="_", markersize=8)


def _limit(axis: "Axes", middles: Floats, came: Floats) -> None:
    """Show what came and the medians; single wild values and very wide bands may leave the panel."""
    low, high = np.percentile(came, [1, 99])
    wide = max(float(high - low), 1e-3 * max(abs(float(high)), 1e-9))
    bottom = np.clip(middles.min(), low - WILD * wide, low - 0.5 * wide)
    top = np.clip(middles.max(), high + 0.5 * wide, high + WILD * wide)
    axis.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))


def _calibration(axis: "Axes", result: Result) -> None:
    """Draw the share of what came below each level against the level claimed: ours by cut, beside the last value."""
    axis.plot([0, 1], [0, 1], color=plot.SEEN, linewidth=0.8)
    own, other = table(result, OURS), table(result, BESIDE)
    for place, seen in enumerate(sorted(set(own.seen.tolist()))):
        colour = plot.COLOURS[place % len(plot.COLOURS)]
        part = own.seen == seen
        for one, style, width in ((other, ":", 0.8), (own, "-", 1.2)):
            below = (one.raw[part, None] <= one.raw_quantiles[part]).mean(axis=0)
            label = f"{seen:.0%} seen" if one is own else None
            axis.plot(score.LEVELS, below, color=colour, linestyle=style, linewidth=width, marker=".", label=label)
    axis.set_title("share of values below each level (dotted: last value)")
    axis.set_xlabel("claimed")
    axis.set_ylabel("came")
    axis.legend(loc="upper left")
