"""Pure decisions: ask whole runs what was still to come, let every method answer, and score them side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.backtest import arima, baselines, ours, score
from daemon.backtest.baselines import Answer
from daemon.backtest.history import HistoryError, Run
from daemon.backtest.question import ELAPSED, Question, after_change, ask, earlier_runs
from daemon.backtest.shockwave import shockwave
from daemon.forecast.base import Forecaster
from daemon.types import Floats

OURS = "scaleahead"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a backtest asks. ``horizon_s`` ``None``: the final value. ``groups`` keeps only these groups or owners.

    With ``after_change`` a run is cut so many steps after its first change of a driving hyperparameter, in the place of
    ``at``. ``online`` False leaves out what ``learn`` observes of a job before it is asked. ``per_owner`` bounds how
    many runs of each owner are asked, so that one with many replicates counts no more than another.
    """

    target: str
    at: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    horizon_s: float | None = None
    declared: tuple[str, ...] = ()
    learn: bool = False
    sample: int | None = None
    seed: int = 0
    groups: tuple[str, ...] = ()
    after_change: int | None = None
    online: bool = True
    per_owner: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """All questions and, by method, the answers in their order. ``left_out`` counts jobs that could not be asked."""

    asked: Asked
    questions: tuple[Question, ...]
    answers: Mapping[str, Sequence[Answer]]
    scales: Mapping[str, score.Scale]
    jobs: int
    left_out: int
    seconds_per_1000: float


def backtest(
    runs: Sequence[Run], asked: Asked, forecaster: Forecaster, progress: Callable[[int, int], None] = lambda _, __: None
) -> Result:
    """Run a backtest. Raises ``HistoryError`` where no run can be asked for the column."""
    chosen, jobs = _chosen(runs, asked)
    before = earlier_runs(runs) if asked.learn else [()] * len(runs)
    questions = _questions(runs, asked, chosen, before)
    if not questions:
        raise HistoryError(
            f"no run shows {asked.target} both before and after a cut - give longer runs, or another --at or --horizon"
        )
    whole, done = len(questions), 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, 2 * whole)

    own, seconds = ours.forecasts(forecaster, questions, asked.declared, asked.learn and asked.online, count)
    answers = {OURS: own, **_baselines(questions, asked.learn, count)}
    told = {id(question.run) for question in questions}
    return Result(
        asked, tuple(questions), answers, _scales(runs, asked.target), len(told), jobs - len(told),
        1000 * seconds / len(questions),
    )  # fmt: skip


def _questions(
    runs: Sequence[Run], asked: Asked, chosen: Sequence[int], before: Sequence[Sequence[Run]]
) -> list[Question]:
    """Cut the chosen runs at each share, or once after their first change; those are called by their mean share."""
    sizes: Mapping[int, int | None] = dict.fromkeys(chosen)
    at: Sequence[float] = sorted(asked.at)
    if asked.after_change is not None:
        cut = {place: after_change(runs[place], asked.after_change) for place in chosen}
        sizes = {place: size for place, size in cut.items() if size is not None and size < len(runs[place])}
        steps = [(runs[place].step, size) for place, size in sizes.items() if size is not None]
        at = [round(float(np.mean([step[size - 1] / step[-1] for step, size in steps])), 4)] if steps else []
    found = [
        ask(runs[place], asked.target, seen, asked.horizon_s, before[place], size)
        for seen in at
        for place, size in sizes.items()
    ]
    return [question for question in found if question is not None]


def _chosen(runs: Sequence[Run], asked: Asked) -> tuple[list[int], int]:
    """Choose the runs to ask, by group and at random, in their order."""
    if not any(np.isfinite(run.column(asked.target)).any() for run in runs):
        names = sorted({name for run in runs for name in run.columns if np.isfinite(run.columns[name]).any()})
        raise HistoryError(f"no file has a value in column {asked.target} - take one of: {', '.join(names)[:300]}")
    wanted = set(asked.groups)
    places = [place for place, run in enumerate(runs) if not wanted or run.group in wanted or run.owner in wanted]
    if not places:
        raise HistoryError(f"no run is of group or owner {', '.join(asked.groups)} - name others")
    if asked.per_owner is not None:
        owners: dict[str, list[int]] = {}
        for place in np.random.default_rng(asked.seed).permutation(places).tolist():
            owners.setdefault(runs[place].owner, []).append(place)
        places = sorted(place for each in owners.values() for place in each[: asked.per_owner])
    if asked.sample is not None and asked.sample < len(places):
        drawn = np.random.default_rng(asked.seed).choice(len(places), asked.sample, replace=False)
        places = [places[place] for place in sorted(drawn.tolist())]
    return places, len(places)


def _baselines(questions: Sequence[Question], learn: bool, count: Callable[[int], None]) -> dict[str, list[Answer]]:
    """Let every baseline answer. One that has nothing to go by answers as the last value, so that all stay paired."""
    found: dict[str, list[Answer | None]] = {}
    for question in questions:
        for name, made in _one(question, learn):
            found.setdefault(name, []).append(made)
        count(1)
    fallback = [made or ours.silent(question) for made, question in zip(found["last_value"], questions, strict=True)]
    return {
        name: [made or other for made, other in zip(answers, fallback, strict=True)]
        for name, answers in found.items()
        if any(made is not None for made in answers)
    }


def _one(question: Question, learn: bool) -> list[tuple[str, Answer | None]]:
    made = [(name, baselines.answer(point, question)) for name, point in baselines.SIMPLE.items()]
    if learn:
        made.append(("nearest_neighbours", baselines.nearest(question, question.earlier)))
    if question.target == ELAPSED:
        made += [("shockwave", shockwave(question, told=False)), ("shockwave_told", shockwave(question, told=True))]
    return made + arima.answers(question)


def _scales(runs: Sequence[Run], target: str) -> dict[str, score.Scale]:
    """Scale losses by group, over all runs of the files; other columns stay in their own units."""
    if not target.startswith("metric."):
        return {}
    ends: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        values = run.column(target)
        values = values[np.isfinite(values)]
        if len(values):
            ends.setdefault(run.group, []).append((float(values[0]), float(values[-1])))
    return {group: score.scale(*np.array(pairs).T) for group, pairs in ends.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One method's answers as arrays over all asked points: raw and scaled, with what they belong to."""

    seen: Floats
    clusters: tuple[str, ...]
    jobs: tuple[str, ...]
    owners: tuple[str, ...]
    raw: Floats
    raw_quantiles: Floats
    raw_ninety: Floats
    scaled: Floats
    quantiles: Floats


def table(result: Result, method: str) -> Table:
    """Lay one method's answers out."""
    rows = list(zip(result.questions, result.answers[method], strict=True))
    raw = np.concatenate([question.actual for question, _ in rows])
    raw_quantiles = np.concatenate([made.quantiles for _, made in rows])
    sizes = [len(question.actual) for question, _ in rows]
    clusters = [question.run.group for question, _ in rows]
    scaled, quantiles = raw.copy(), raw_quantiles.copy()
    start = 0
    for group, size in zip(clusters, sizes, strict=True):
        part = slice(start, start + size)
        if group in result.scales:
            scaled[part] = result.scales[group].of(raw[part])
            quantiles[part] = np.sort(result.scales[group].of(raw_quantiles[part]), axis=1)
        start += size
    return Table(
        np.repeat([question.seen for question, _ in rows], sizes),
        tuple(np.repeat(clusters, sizes).tolist()),
        tuple(np.repeat([question.run.job for question, _ in rows], sizes).tolist()),
        tuple(np.repeat([question.run.owner for question, _ in rows], sizes).tolist()),
        raw, raw_quantiles, np.concatenate([made.told() for _, made in rows]), scaled, quantiles,
    )  # fmt: skip
