"""Edge: how good forecasts of metrics are on groups that their weights have never seen, by teaching them anew.

``python -m daemon.backtest.folds FILE... [--target metric.val_loss] [--folds 3] [--seeds 3] [--steps 1500]
[--per-group 100] [--sets-out] [--json OUT] [--keep DIR]``: groups are dealt out to folds; for each fold and seed the
curve nets are taught on the other folds' groups, and answer the backtest's questions about the runs of this one.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from daemon.backtest import baselines, history, ours, score
from daemon.backtest.baselines import Answer
from daemon.backtest.history import HistoryError, Run
from daemon.backtest.question import Question, ask, earlier_runs
from daemon.backtest.question import history as past
from daemon.forecast import curve_train, weights_file
from daemon.forecast.base import Horizon
from daemon.forecast.curve import Curves
from daemon.forecast.ensemble import Parts, Recurrent
from daemon.forecast.prior import Series
from daemon.forecast.runs import FEWEST, LARGEST
from daemon.forecast.schedule import Schedules
from daemon.forecast.usage import Usages
from daemon.forecast.weights_file import Weights
from daemon.types import Declared, Floats

OURS = "scaleahead"
UNCALIBRATED = "without calibration"
LEARNED = "with earlier runs"
CLOSED = "without recurrent part"
AT = (0.2, 0.4, 0.6, 0.8)
POINTS = 48


def main(arguments: Sequence[str] | None = None) -> int:
    """Teach and ask fold by fold, and print the table."""
    chosen = _options(arguments)
    try:
        runs = [(path.stem, run) for path in chosen.files for run in history.read([path])]
    except HistoryError as error:
        print(f"folds: {error}", file=sys.stderr)  # noqa: T201  a command prints
        return 2
    fold, part = dealt(runs, chosen.folds, chosen.sets_out)
    asked = questions(runs, chosen.target, chosen.per_group, part, fold)
    scales = _scales([run for _, run in runs], chosen.target)
    losses = {name: [_scored(asked, answers, scales)] for name, answers in _baselines(asked).items()}
    losses[CLOSED] = [_scored(asked, _answers(Curves(None), asked), scales)]
    for seed in range(chosen.seeds):
        teach = _teacher(chosen.steps, seed, chosen.keep)
        for name, answers in _taught(runs, asked, fold, part, teach).items():
            losses.setdefault(name, []).append(_scored(asked, answers, scales))
    found = {
        file: summary([q for f, q in asked if f == file], _of(losses, [f == file for f, _ in asked]))
        for file in dict.fromkeys(file for file, _ in asked)
    }
    print("\n\n".join(f"{file}\n{drawn(each)}" for file, each in found.items()))  # noqa: T201  a command prints
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m daemon.backtest.folds", description="skill on groups never seen")
    parser.add_argument("files", nargs="+", type=Path, help="history files (CSV or Parquet)")
    parser.add_argument("--target", default="metric.val_loss")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500, help="steps for each net")
    parser.add_argument("--per-group", type=int, default=100, help="runs asked in each group")
    parser.add_argument("--sets-out", action="store_true", help="leave out a fold's hyperparameter sets as well")
    parser.add_argument(
        "--keep", type=Path, help="folder for each fold's weights; those found there are not taught anew"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser.parse_args(arguments)


def dealt(runs: Sequence[tuple[str, Run]], folds: int, sets_out: bool) -> tuple[dict[str, int], list[int]]:
    """Deal the groups of each file, by name, out to folds, and the runs to parts by their hyperparameters' set.

    Without ``sets_out`` all runs are in part -1, which no fold leaves out.
    """
    fold: dict[str, int] = {}
    for file in dict.fromkeys(file for file, _ in runs):
        names = sorted({run.group for other, run in runs if other == file})
        fold |= {name: place % folds for place, name in enumerate(names)}
    if not sets_out:
        return fold, [-1] * len(runs)
    sets = [_set(run) for _, run in runs]
    order = {one: place for place, one in enumerate(sorted(set(sets)))}
    return fold, [order[one] % folds for one in sets]


def _set(run: Run) -> tuple[float, ...]:
    values = [run.columns[name][0] for name in sorted(run.columns) if name.startswith("hp.")]
    return tuple(np.nan_to_num(np.array(values), nan=-1.0).tolist())


def questions(
    runs: Sequence[tuple[str, Run]], target: str, per_group: int, part: Sequence[int], fold: Mapping[str, int]
) -> list[tuple[str, Question]]:
    """Ask the final value of up to ``per_group`` runs of each group at ``AT``; none of another fold's sets."""
    random = np.random.default_rng(0)
    groups: dict[str, list[int]] = {}
    for place, (_, run) in enumerate(runs):
        if part[place] in (-1, fold[run.group]):
            groups.setdefault(run.group, []).append(place)
    before = earlier_runs([run for _, run in runs])
    found = []
    for _, places in sorted(groups.items()):
        for place in sorted(random.choice(places, min(per_group, len(places)), replace=False).tolist()):
            made = [ask(runs[place][1], target, seen, None, before[place]) for seen in AT]
            found += [(runs[place][0], question) for question in made if question is not None]
    return found


def _scales(runs: Sequence[Run], target: str) -> dict[str, score.Scale]:
    ends: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        values = run.column(target)
        values = values[np.isfinite(values)]
        if len(values):
            ends.setdefault(run.group, []).append((float(values[0]), float(values[-1])))
    return {group: score.scale(*np.array(pairs).T) for group, pairs in ends.items()}


def _baselines(asked: Sequence[tuple[str, Question]]) -> dict[str, list[Answer]]:
    return {
        name: [baselines.answer(point, question) or ours.silent(question) for _, question in asked]
        for name, point in baselines.SIMPLE.items()
    }


def _teacher(steps: int, seed: int, keep: Path | None) -> Callable[[Sequence[Series], int], Weights]:
    """Give what teaches a fold's weights, or finds them where they were kept."""

    def teach(told: Sequence[Series], number: int) -> Weights:
        place = keep / f"seed{seed}-fold{number}" if keep else None
        if place and place.exists():
            return weights_file.load(place)
        tensors = curve_train.tensors(curve_train.teach(told, steps, seed))
        if place:
            weights_file.save(place, tensors, {"seed": str(seed), "steps": str(steps)})
        return Weights(tensors)

    return teach


def _taught(
    runs: Sequence[tuple[str, Run]],
    asked: Sequence[tuple[str, Question]],
    fold: Mapping[str, int],
    part: Sequence[int],
    teach: Callable[[Sequence[Series], int], Weights],
) -> dict[str, list[Answer]]:
    """Answer every question with weights taught without its fold."""
    found: dict[str, list[Answer | None]] = {name: [None] * len(asked) for name in (OURS, UNCALIBRATED, LEARNED)}
    for number in sorted(set(fold.values())):
        told = [
            one
            for place, (file, run) in enumerate(runs)
            if fold[run.group] != number and part[place] != number
            for one in series(file, run)
        ]
        weights = teach(told, number)
        mine = [place for place, (_, question) in enumerate(asked) if fold[question.run.group] == number]
        here = [asked[place] for place in mine]
        made = {
            OURS: _answers(Curves(weights), here),
            UNCALIBRATED: _answers(Curves(weights, calibrated=False), here),
            LEARNED: _answers(Curves(weights), here, learn=True),
        }
        for name, answers in made.items():
            for place, answer in zip(mine, answers, strict=True):
                found[name][place] = answer
    return {name: [one for one in answers if one is not None] for name, answers in found.items()}


def series(file: str, run: Run) -> list[Series]:
    """Give a run's metrics as lessons take them."""
    total = run.total_steps[np.isfinite(run.total_steps)]
    training = next((name for name in sorted(run.columns) if name.startswith("metric.") and "train" in name), None)
    found = []
    for name, values in run.columns.items():
        known = np.isfinite(values) & (np.abs(values) < LARGEST)
        if not name.startswith("metric.") or known.sum() < FEWEST or np.ptp(values[known]) <= 0:
            continue
        partner = run.columns[training][known] if training and "train" not in name else None
        end = float(total[0]) if len(total) else float("nan")
        found.append(Series(f"{file}/{run.group}", run.step[known], values[known], end, name, partner))
    return found


def _answers(curves: Curves, asked: Sequence[tuple[str, Question]], learn: bool = False) -> list[Answer]:
    """Let the curves answer, with the jobs' earlier runs or without.

    The step that is asked is made a point of the grid, by declaring that nothing changes there.
    """
    forecaster = Recurrent(Parts(Schedules(None), curves, Usages(None)))
    found = []
    for place in range(0, len(asked), ours.BATCH):
        batch = [question for _, question in asked[place : place + ours.BATCH]]
        known = [one if learn else replace(one, earlier=()) for one in batch]
        told = [replace(past(one), declared=(Declared(int(one.steps[0]), {}),)) for one in known]
        ahead = max(int(one.steps[0] - one.now) for one in batch)
        made = forecaster.predict(told, Horizon(max(ahead, 1), POINTS, ours.TRAJECTORIES))
        found += [ours.read(question, forecast) for question, forecast in zip(batch, made, strict=True)]
    return found


def _scored(
    asked: Sequence[tuple[str, Question]], answers: Sequence[Answer], scales: Mapping[str, score.Scale]
) -> Floats:
    """Give for each question its CRPS in the group's scale and whether what came is within 80 % and 95 %: [N, 3]."""
    found = np.empty((len(asked), 3))
    for row, ((_, question), made) in enumerate(zip(asked, answers, strict=True)):
        scale = scales[question.run.group]
        quantiles = np.sort(scale.of(made.quantiles), axis=1)
        inside = [score.inside(made.quantiles, question.actual, low, high) for low, high in ((1, 5), (0, 6))]
        found[row] = float(score.crps(quantiles, scale.of(question.actual))[0]), *inside
    return found


def _of(losses: Mapping[str, Sequence[Floats]], mine: Sequence[bool]) -> dict[str, Floats]:
    """Average over seeds, and keep one file's questions."""
    return {name: np.mean(each, axis=0)[np.array(mine)] for name, each in losses.items()}


def summary(asked: Sequence[Question], losses: Mapping[str, Floats]) -> dict[str, Any]:
    """Sum up one file: by share seen each method's figures and its difference to ours, and ours by group."""
    groups = [question.run.group for question in asked]
    seen = np.array([question.seen for question in asked])
    rows, by_group = [], []
    for share in AT:
        mine = seen == share
        clusters = [group for group, one in zip(groups, mine, strict=True) if one]
        for name, each in losses.items():
            row = {"seen": share, "method": name, "n": int(mine.sum()), **_figures(each[mine])}
            row |= {"paired": dict(score.paired(losses[OURS][mine, 0], each[mine, 0], clusters, 0))}
            rows.append(row)
        for group in sorted(set(clusters)):
            here = mine & (np.array(groups) == group)
            last = float(losses["last_value"][here, 0].mean())
            by_group.append({"seen": share, "group": group, "last_value": last, **_figures(losses[OURS][here])})
    return {"rows": rows, "groups": by_group}


def _figures(each: Floats) -> dict[str, float]:
    return dict(zip(("crps", "coverage80", "coverage95"), each.mean(axis=0).tolist(), strict=True))


def drawn(found: Mapping[str, Any]) -> str:
    """Draw one file's figures as text."""
    lines = [f"{'seen':>5} {'method':24} {'CRPS':>7} {'80 %':>5} {'95 %':>5}  ours less theirs"]
    for row in found["rows"]:
        paired = row["paired"]
        difference = f"{paired['difference']:+.4f} [{paired['low']:+.4f}, {paired['high']:+.4f}]"
        beside = "" if row["method"] == OURS else difference
        lines.append(
            f"{row['seen']:5.0%} {row['method']:24} {row['crps']:7.4f} "
            f"{row['coverage80']:5.2f} {row['coverage95']:5.2f}  {beside}"
        )
    lines.append(f"{'seen':>5} {'group':>60} {'ours':>7} {'80 %':>5} {'95 %':>5} {'last value':>10}")
    for row in found["groups"]:
        lines.append(
            f"{row['seen']:5.0%} {row['group'][-60:]:>60} {row['crps']:7.4f} {row['coverage80']:5.2f} "
            f"{row['coverage95']:5.2f} {row['last_value']:10.4f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
