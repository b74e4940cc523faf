"""Pure decisions: score the recurrent forecasts on runs held out, beside the closed forms and the last value."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from daemon.forecast import curve, curve_lessons, spread, usage
from daemon.forecast.lessons import cut_rows, schedule_lessons
from daemon.forecast.prior import Plan, Series
from daemon.forecast.schedule import Schedules
from daemon.forecast.seen import Encoded
from daemon.forecast.weights_file import Weights
from daemon.types import Floats

_SAMPLE = 1200
Model = TypeVar("Model")


def crps(quantiles: Floats, came: Floats) -> Floats:
    """Approximate the CRPS from nine quantiles: twice the pinball loss integrated over the levels. float64[...]."""
    levels = np.array(spread.LEVELS)
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    miss = came[..., None] - quantiles
    loss: Floats = 2 * (np.maximum(levels * miss, (levels - 1) * miss) * np.diff(edges)).sum(axis=-1)
    return loss


def score_schedules(plans: Sequence[Plan], weights: Weights) -> list[str]:
    """Score the head by the mean log-loss of "changes again, and when" on plans held out."""
    if not plans:
        return []
    lessons = schedule_lessons(plans, np.random.default_rng(7))
    lines = []
    for name, model in (("recurrent", Schedules(weights)), ("closed form", Schedules(None))):
        dwell = model.outlook(lessons.regimes).dwell
        hit, alive = (dwell * lessons.dwell).sum(axis=1), (dwell * lessons.alive).sum(axis=1)
        lines.append(f"schedule, {len(hit)} moments, {name}: {-np.log((hit + 1e-9) / (alive + 1e-9)).mean():.3f} nats")
    return lines


def score_curves(series: Sequence[Series], weights: Weights) -> list[str]:
    """Score the final value by CRPS (scaled by group) and coverage at 20, 40, 60 and 80 % seen."""
    models = {"recurrent": curve.Curves(weights), "closed form": curve.Curves(None)}
    lines = []
    for group in sorted({one.group for one in series}):
        runs = _subset([one for one in series if one.group == group])
        low = float(np.percentile([one.values[-1] for one in runs], 1))
        scale = max(float(np.median([one.values[0] for one in runs])) - low, 1e-9)
        for share in (0.2, 0.4, 0.6, 0.8):
            cuts = [max(int(len(one.steps) * share), 3) for one in runs]
            cuts = [min(cut, len(one.steps) - 1) for one, cut in zip(runs, cuts, strict=True)]
            seen = curve_lessons.told(runs, cuts, np.array([max(one.total, one.steps[-1]) for one in runs]))
            came = np.array([one.values[-1] for one in runs])
            final = np.array([one.steps[-1:] for one in runs])

            def quantiles(model: curve.Curves, seen: Encoded = seen, final: Floats = final) -> Floats:
                return seen.values(model.quantiles(seen, final)[:, 0])

            last = seen.values(np.zeros(len(runs)))
            lines.append(_line(f"curve {group} {share:.0%}", models, quantiles, came, last, scale))
    return lines


def score_usages(series: Sequence[Series], weights: Weights) -> list[str]:
    """Score 30 rows ahead of 96 by CRPS over the group's units, and coverage, beside the periodic naive."""
    models = {"recurrent": usage.Usages(weights), "closed form": usage.Usages(None)}
    lines = []
    for group in sorted({one.group for one in series}):
        runs = [one for one in _subset([one for one in series if one.group == group]) if len(one.steps) >= 130]
        if not runs:
            continue
        random = np.random.default_rng(7)
        cuts = [int(random.integers(97, len(one.steps) - 30)) for one in runs]
        now = np.array([one.steps[cut - 1] for one, cut in zip(runs, cuts, strict=True)])
        seen = usage.observe(cut_rows(runs, cuts), now, np.zeros(len(runs)))
        ahead = now[:, None] + np.arange(1.0, 31.0)
        came = np.array([one.values[cut : cut + 30] for one, cut in zip(runs, cuts, strict=True)])

        def quantiles(model: usage.Usages, seen: usage.Context = seen, ahead: Floats = ahead) -> Floats:
            found: Floats = seen.mean[:, None, None] + seen.scale[:, None, None] * model.quantiles(seen, ahead)
            return found

        back = usage.BINS - seen.period[:, None] + np.arange(30) % seen.period[:, None]
        naive = seen.mean[:, None] + seen.scale[:, None] * np.take_along_axis(seen.bins, back, axis=1)
        scale = float(np.abs(came).mean()) + 1e-9
        lines.append(_line(f"usage {group}", models, quantiles, came, naive, scale))
    return lines


def _line(
    title: str,
    models: Mapping[str, Model],
    quantiles: Callable[[Model], Floats],
    came: Floats,
    naive: Floats,
    scale: float,
) -> str:
    parts = []
    for name, model in models.items():
        found = quantiles(model)
        miss = np.minimum(crps(found, came) / scale, 5).mean()
        inner = ((came >= found[..., 1]) & (came <= found[..., 7])).mean()
        outer = ((came >= found[..., 0]) & (came <= found[..., 8])).mean()
        parts.append(f"{name} {miss:.4f} (80 %: {inner:.2f}, 95 %: {outer:.2f})")
    parts.append(f"naive {np.minimum(np.abs(naive - came) / scale, 5).mean():.4f}")
    return f"{title}: " + ", ".join(parts)


def _subset(series: Sequence[Series]) -> list[Series]:
    random = np.random.default_rng(11)
    order = random.permutation(len(series))[:_SAMPLE]
    return [series[place] for place in sorted(order)]
