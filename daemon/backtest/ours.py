"""Pure decisions: let the shipped forecaster answer the questions that the baselines answer."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import ndtri

from daemon.backtest.baselines import Answer, answer, last_value
from daemon.backtest.question import ELAPSED, Question, history
from daemon.backtest.score import LEVELS, NINETY
from daemon.forecast.base import Forecaster, Horizon, quantiles
from daemon.forecast.pace import pace
from daemon.types import Floats, Forecast, History

BATCH = 64
TRAJECTORIES = 64
BLOCKS = 4

Progress = Callable[[int], None]


def forecasts(
    forecaster: Forecaster, questions: Sequence[Question], declared: Sequence[str], learn: bool, progress: Progress
) -> tuple[list[Answer], float]:
    """Answer all questions, and give the seconds that the forecasts took. With ``learn`` a job's rows are observed
    first, in ``BLOCKS`` parts, as a daemon would have. Questions of one job must ascend by what was seen.
    """
    from time import perf_counter

    answers: list[Answer] = []
    seconds = 0.0
    for place in range(0, len(questions), BATCH):
        batch = questions[place : place + BATCH]
        histories = [history(question, declared) for question in batch]
        if learn:
            _observe(forecaster, histories)
        began = perf_counter()
        made = forecaster.predict(histories, _horizon(batch))
        seconds += perf_counter() - began
        answers += [read(question, forecast) for question, forecast in zip(batch, made, strict=True)]
        progress(len(batch))
    return answers, seconds


def _horizon(batch: Sequence[Question]) -> Horizon:
    ahead = int(max(float(question.steps.max()) - question.now for question in batch))
    points = 48 if all(len(question.steps) == 1 for question in batch) else min(max(ahead, 48), 192)
    return Horizon(max(ahead, 1), points, TRAJECTORIES)


def _observe(forecaster: Forecaster, histories: Sequence[History]) -> None:
    for block in range(1, BLOCKS + 1):
        forecaster.observe([_until(one, max(len(one) * block // BLOCKS, 1)) for one in histories])


def _until(whole: History, size: int) -> History:
    return replace(
        whole, step=whole.step[:size], at_s=whole.at_s[:size], offers=whole.offers[:size],
        columns={name: values[:size] for name, values in whole.columns.items()},
    )  # fmt: skip


def read(question: Question, forecast: Forecast) -> Answer:
    """Read the answer to a question off a forecast; where it is silent, the last value with twice its interval."""
    name = question.target
    if name == ELAPSED:
        forecast = with_totals(question, forecast)
    path = forecast.paths.get(name)
    if path is None:
        return silent(question)
    levels = quantiles(forecast, name, (*LEVELS, *NINETY))
    steps = forecast.steps.astype(np.float64)
    found = np.array([np.interp(question.steps, steps, row) for row in levels]).T
    mean = np.interp(question.steps, steps, forecast.probability @ path)
    if not (np.isfinite(found).all() and np.isfinite(mean).all()):
        return silent(question)
    size = len(LEVELS)
    return Answer(np.asarray(mean), np.maximum.accumulate(found[:, :size], axis=1), found[:, size:])


def silent(question: Question) -> Answer:
    """Answer where nothing is foretold: the present may persist, and the interval says that it is not known."""
    found = answer(last_value, question)
    if found is None:
        return _from_the_start(question)
    middle = found.quantiles[:, 3:4]
    return Answer(found.mean, middle + 2.0 * (found.quantiles - middle), middle + 2.0 * (found.told() - middle))


def _from_the_start(question: Question) -> Answer:
    """Answer for the total time of a job whose step time is not known yet: its pace from the first step on, if any.

    The interval says that this is a guess: a factor of 2.7 to either side covers two thirds.
    """
    known = np.flatnonzero(np.isfinite(question.column(ELAPSED)))[-1]
    now, step = float(question.run.elapsed_s[known]), max(float(question.run.step[known]), 1.0)
    left = np.maximum(question.steps - step, 0.0) * max(now, 1e-9) / step
    edges = now + left[:, None] * np.exp(ndtri(np.array((*LEVELS, *NINETY))))
    return Answer(now + left, edges[:, : len(LEVELS)], edges[:, len(LEVELS) :])


def with_totals(question: Question, forecast: Forecast) -> Forecast:
    """Add the elapsed time along each trajectory: the present one, and step times summed over the steps ahead.

    What the law of step times leaves open adds up step by step; the scatter of single steps (the least relative
    deviation on any path) evens out, but for what the run's own pace has shown to last.
    """
    seconds = forecast.paths.get("step_seconds")
    known = question.column(ELAPSED)
    if seconds is None:
        return forecast
    width = np.diff(forecast.steps, prepend=question.now)
    between = seconds.copy()
    between[:, 1:] = (seconds[:, 1:] + seconds[:, :-1]) / 2
    own = pace(history(question))
    totals = known[np.isfinite(known)][-1] + own.factor * np.cumsum(between * width, axis=1)
    deviation = forecast.deviations.get("step_seconds", np.zeros_like(seconds))
    share: Floats = deviation / np.maximum(seconds, 1e-12)
    grain = float(share.min()) if share.size else 0.0
    open_ = np.sqrt(np.maximum(share**2 - grain**2, 0.0)) * seconds
    spread = np.hypot(
        np.cumsum(open_ * width, axis=1), own.deviation(np.cumsum(width)) * np.cumsum(seconds * width, axis=1)
    )
    return replace(
        forecast, paths={**forecast.paths, ELAPSED: totals}, deviations={**forecast.deviations, ELAPSED: spread}
    )
