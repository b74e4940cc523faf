"""Pure decisions: was the last forecast right? Scored against reality, and against "the present persists".

Every forecast is scored once, on the rows that came after it was made, even while it is not trusted (in the shadow):
that is how trust comes back. A forecast that is itself persistence's, the fallback's, is no evidence and not scored.
"""

from dataclasses import dataclass, replace

import numpy as np

from daemon.forecast.base import quantiles
from daemon.forecast.drivers import MEMORY
from daemon.forecast.persist import RECENT, Persist, present
from daemon.forecast.stretches import step_seconds
from daemon.types import Drift, Floats, Forecast, History

FADE = 0.97
"""What is left of a pair's weight after one more pair: about 33 pairs count."""

ENOUGH = 30
SLACK = 0.05
WORSE = 1.2
HOPELESS, HOPEFUL = 0.5, 0.25
"""Mean relative errors at which a forecast is no basis for anything, whatever persistence does, and is one again."""
LEAST_COVERAGE = 0.72
MOST_MARGIN = 3.0
_AT_ONCE = 16
_LARGEST_ERROR = 1.0
_TOLERANCE = 0.005
_LEAST_ERROR = 0.005
_LEAST_VALUE = 1e-9


@dataclass(frozen=True, slots=True)
class Score:
    """One forecast against n pairs: mean relative errors, and the share inside the 80 % band (``None``: no memory)."""

    pairs: int
    error: float
    error_persist: float
    coverage80: float | None


def check(drift: Drift, previous: Forecast, history: History) -> Drift:
    """Bring a job's drift up to date with the rows that came after ``previous`` was made.

    Prediction is switched off when its error is a fifth and five points above persistence's over 30 pairs, and on
    again when it is no longer above it by more than two and a half points: small errors on both sides never switch.
    It is off, too, from an error of a half until one of a quarter: what nothing foretells is no basis to act on.
    The margin grows by the lack of coverage of the 80 % band, of memory where it is told, to at most 3, and shrinks
    back by 3 % a pair.
    """
    score = scored(previous, history) if previous.method != Persist.name else None
    if score is None:
        return drift
    kept = min(FADE**score.pairs, drift.pairs / (drift.pairs + score.pairs))
    error = _mixed(drift.error, score.error, kept)
    persist = _mixed(drift.error_persist, score.error_persist, kept)
    pairs = drift.pairs + score.pairs
    coverage = drift.coverage80
    if score.coverage80 is not None:
        coverage = _mixed(drift.coverage80, score.coverage80, kept)
    trusted = _trusted(drift.trusted, pairs, error, persist)
    return replace(
        drift, pairs=pairs, margin=_margin(drift.margin, pairs, score.pairs, coverage),
        gain=1.0 - error / max(persist, _LEAST_ERROR) if pairs >= ENOUGH else None, coverage80=coverage,
        trusted=trusted, error=error, error_persist=persist,
        reason="" if trusted else _reason(error, persist),
    )  # fmt: skip


def scored(previous: Forecast, history: History) -> Score | None:
    """Score a forecast on what has been observed since; ``None`` if nothing can be compared."""
    parts = [
        part for name in ("step_seconds", *MEMORY) if (part := _compared(name, previous, history)) is not None
    ]  # fmt: skip
    if not parts:
        return None
    errors, persists = (np.concatenate([part[row] for part in parts]) for row in (0, 1))
    inside = np.concatenate([part[2] for part in parts if part[3]] or [part[2] for part in parts])
    return Score(min(len(errors), _AT_ONCE), float(errors.mean()), float(persists.mean()), float(inside.mean()))


def _compared(name: str, previous: Forecast, history: History) -> tuple[Floats, Floats, Floats, bool] | None:
    """Give (relative errors, persistence's, inside the band, whether it is memory) over the new rows of one column.

    A grid point stands for the steps up to it, as in the engine. Step time counts on the machine it was foretold for.
    """
    if name not in previous.paths or not len(history):
        return None
    values = step_seconds(history) if name == "step_seconds" else history.columns.get(name)
    if values is None:
        return None
    old = history.step <= previous.at_step
    before = values[old][np.isfinite(values[old])][-RECENT:]
    new = ~old & (history.step <= previous.steps[-1]) & np.isfinite(values) & (values > _LEAST_VALUE)
    if name == "step_seconds" and history.offers and old.any():
        there = history.offers[int(np.flatnonzero(old)[-1])]
        new &= np.array([offer == there for offer in history.offers])
    if not len(before) or not new.any():
        return None
    low, middle, high = quantiles(previous, name, (0.1, 0.5, 0.9))[
        :, np.searchsorted(previous.steps, history.step[new], side="left")
    ]
    actual = values[new]
    errors = np.minimum(np.abs(middle - actual) / actual, _LARGEST_ERROR)
    persists = np.minimum(np.abs(present(name, before) - actual) / actual, _LARGEST_ERROR)
    slack = _TOLERANCE * actual
    inside = ((low - slack <= actual) & (actual <= high + slack)).astype(float)
    return errors, persists, inside, name != "step_seconds"


def _mixed(old: float | None, new: float, kept: float) -> float:
    return new if old is None else kept * old + (1.0 - kept) * new


def _trusted(before: bool, pairs: int, error: float, persist: float) -> bool:
    if pairs < ENOUGH:
        return before
    if error > (HOPELESS if before else HOPEFUL):
        return False
    return error <= (WORSE * persist + SLACK if before else persist + SLACK / 2)


def _reason(error: float, persist: float) -> str:
    if error > persist:
        return f"forecast error {error:.0%} is above that of persistence, {persist:.0%}"
    return f"forecast error {error:.0%}, and that of persistence, {persist:.0%}, are beyond use"


def _margin(before: float, pairs: int, fresh: int, coverage: float | None) -> float:
    if coverage is not None and pairs >= ENOUGH // 3 and coverage < LEAST_COVERAGE:
        return min(before * (1.0 + 0.5 * (LEAST_COVERAGE - coverage)), MOST_MARGIN)
    return 1.0 + (before - 1.0) * FADE**fresh
