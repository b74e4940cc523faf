"""Edge: read history files as whole runs to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daemon.forecast.prior import Plan, Series
from daemon.forecast.regimes import drives, family
from daemon.types import Floats

LEAST = 12
"""Usage columns of fewer known rows teach nothing."""
FEWEST = 3
"""Metrics of fewer known rows teach nothing."""
LARGEST = 1e12
"""Values beyond this are left out."""


class RunsError(Exception):
    """A history file cannot be read. ``str()`` is one line."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """Whole runs by what they teach; ``plan_groups`` names each plan's group."""

    plans: tuple[Plan, ...]
    plan_groups: tuple[str, ...]
    curves: tuple[Series, ...]
    usages: tuple[Series, ...]


def read(path: Path) -> Recorded:
    """Read one history file (CSV or Parquet). Raises ``RunsError``. Needs pandas (the ``dev`` extra).

    Plans are told apart within an owner, so that replicates count once; runs are grouped by ``group`` (plans by
    ``owner``), else by file.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise RunsError("training reads files with pandas - install the dev extra") from error
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise RunsError(f"{path} cannot be read as CSV or Parquet - check the file") from error
    if "job" not in table.columns:
        raise RunsError(f"{path} has no column job - see the history file's format")
    plans: dict[tuple[object, ...], tuple[Plan, str]] = {}
    curves: list[Series] = []
    usages: list[Series] = []
    for _, run in table.groupby("job", sort=False):
        group = str(run["group"].iloc[0]) if "group" in run else path.stem
        owner = str(run["owner"].iloc[0]) if "owner" in run else group
        steps = run["step"].to_numpy(np.float64) if "step" in run else np.arange(len(run), dtype=np.float64)
        total = float(run["total_steps"].iloc[0]) if "total_steps" in run else float("nan")
        for name in run.columns:
            if name.startswith("hp.") and drives(name):
                _add_plan(plans, owner, _plan(name, steps, run[name].to_numpy(), total))
            elif name.startswith("metric."):
                curves += _series(f"{path.stem}/{group}", steps, run, name, total, FEWEST)
            elif name.startswith("usage.") and "memory" not in name:
                rows = np.arange(len(run), dtype=np.float64)
                usages += _series(f"{path.stem}/{group}", rows, run, name, np.nan, LEAST)
    found = tuple(plans.values())
    return Recorded(tuple(p for p, _ in found), tuple(g for _, g in found), tuple(curves), tuple(usages))


def _plan(name: str, steps: Floats, column: Any, total: float) -> Plan | None:
    values = np.asarray(column, dtype=np.float64)
    known = np.isfinite(values) & np.isfinite(steps)
    values, steps = values[known], steps[known]
    if len(values) < 2 or not ((values == np.round(values)) & (values >= 1)).all():
        return None
    fresh = np.concatenate([[True], values[1:] != values[:-1]])
    if fresh.sum() > 40:
        return None
    end = total if np.isfinite(total) and total >= steps[-1] else float(steps[-1])
    starts = steps[fresh] - steps[0]
    return Plan(values[fresh], starts, max(end, 2.0), family(name))


def _add_plan(plans: dict[tuple[object, ...], tuple[Plan, str]], owner: str, made: Plan | None) -> None:
    if made is not None:
        key = (owner, made.family, tuple(made.levels), tuple(np.round(made.starts / made.total, 2)))
        plans.setdefault(key, (made, owner))


def _series(group: str, steps: Floats, run: Any, name: str, total: float, least: int) -> list[Series]:
    values = run[name].to_numpy(np.float64)
    known = np.isfinite(values) & np.isfinite(steps) & (np.abs(values) < LARGEST)
    if known.sum() < least or np.ptp(values[known]) <= 0:
        return []
    training = [other for other in run.columns if other.startswith("metric.") and "train" in other]
    partner = run[training[0]].to_numpy(np.float64)[known] if training and "train" not in name else None
    return [Series(group, steps[known], values[known], total, name, partner)]


def join(parts: Sequence[Recorded]) -> Recorded:
    """Put the runs of several files together."""
    return Recorded(
        tuple(one for part in parts for one in part.plans),
        tuple(one for part in parts for one in part.plan_groups),
        tuple(one for part in parts for one in part.curves),
        tuple(one for part in parts for one in part.usages),
    )


def split(whole: Recorded, held: set[str]) -> tuple[Recorded, Recorded]:
    """Part the runs whose group (or plan's owner) is held out from those to learn from: (taught, kept)."""

    def out(group: str) -> bool:
        return group in held or group.rsplit("/", 1)[-1] in held

    halves = []
    for wanted in (False, True):
        pairs = [(p, g) for p, g in zip(whole.plans, whole.plan_groups, strict=True) if out(g) == wanted]
        halves.append(
            Recorded(
                tuple(p for p, _ in pairs),
                tuple(g for _, g in pairs),
                tuple(one for one in whole.curves if out(one.group) == wanted),
                tuple(one for one in whole.usages if out(one.group) == wanted),
            )
        )
    return halves[0], halves[1]
