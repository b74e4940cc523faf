"""Pure decisions: AutoETS and AutoARIMA as baselines, where the optional statsforecast is installed."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from daemon.backtest.baselines import Answer, series
from daemon.backtest.question import ELAPSED, Question
from daemon.backtest.score import LEVELS

MOST = 256
_SIDES = {95: (0, 6), 80: (1, 5), 50: (2, 4)}


MODELS = {"auto_ets": "AutoETS", "auto_arima": "AutoARIMA"}


def answers(question: Question, names: Sequence[str] = tuple(MODELS)) -> list[tuple[str, Answer | None]]:
    """Answer with the models named, on the newest values laid evenly; nothing without statsforecast."""
    if question.target == ELAPSED or find_spec("statsforecast") is None:
        return []
    models = import_module("statsforecast.models")  # optional extra, slow to import
    return [(name, _answer(getattr(models, MODELS[name])(season_length=1), question)) for name in names]


def _answer(model: Any, question: Question) -> Answer | None:
    """Fit one model; ``None`` for what it refuses: too short or constant."""
    steps, values = series(question.run, question.target, question.size)
    if len(values) < 8 or not np.ptp(values) > 0:
        return None
    gap = max((steps[-1] - steps[0]) / (len(steps) - 1), 1e-9)
    count = min(len(values), MOST)
    bins = np.interp(steps[-1] - gap * np.arange(count - 1, -1, -1), steps, values)
    ahead = np.clip(np.ceil((question.steps - steps[-1]) / gap), 1, 4 * MOST).astype(np.int64)
    try:
        made = model.forecast(y=bins, h=int(ahead.max()), level=sorted({*_SIDES, 90}))
    except (ValueError, ZeroDivisionError, np.linalg.LinAlgError):
        return None
    mean = np.asarray(made["mean"], dtype=np.float64)[ahead - 1]
    quantiles = np.repeat(mean[:, None], len(LEVELS), axis=1)
    for level, (low, high) in _SIDES.items():
        quantiles[:, low] = np.asarray(made[f"lo-{level}"], dtype=np.float64)[ahead - 1]
        quantiles[:, high] = np.asarray(made[f"hi-{level}"], dtype=np.float64)[ahead - 1]
    ninety = np.stack([np.asarray(made[f"{side}-90"], dtype=np.float64)[ahead - 1] for side in ("lo", "hi")], axis=1)
    return Answer(mean, np.sort(quantiles, axis=1), ninety) if np.isfinite(quantiles).all() else None
