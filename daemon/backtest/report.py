"""Edge: a backtest's result as plain values, and its raw predictions as a Parquet file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from daemon.backtest import score
from daemon.backtest.history import HistoryError
from daemon.backtest.run import OURS, Asked, Result, Table, table
from daemon.forecast.rows import Flags
from daemon.types import Floats

QUANTILES = ("q025", "q10", "q25", "q50", "q75", "q90", "q975")


def plain(result: Result) -> dict[str, Any]:
    """Give the result as JSON's values: rows by share seen and method, paired differences, ours by group."""
    tables = {method: table(result, method) for method in result.answers}
    own = tables[OURS]
    shares = sorted(set(own.seen.tolist()))
    rows = [
        {"seen": seen, "method": method, **_summary(one, one.seen == seen)}
        for seen in shares
        for method, one in tables.items()
    ]
    asked = result.asked
    return {
        "target": asked.target,
        "horizon": "final" if asked.horizon_s is None else asked.horizon_s,
        "declared": list(asked.declared),
        "learn": asked.learn,
        "after_change": asked.after_change,
        "seed": asked.seed,
        "jobs": result.jobs,
        "left_out": result.left_out,
        "scaled": bool(result.scales),
        "rows": rows,
        "paired": _paired(tables, shares, asked),
        "groups": by_group(result, OURS),
        "seconds_per_1000": result.seconds_per_1000,
    }


def by_group(result: Result, method: str) -> list[dict[str, Any]]:
    """Give one method's figures by share seen and group."""
    one = table(result, method)
    return [
        {"seen": seen, "group": group, "method": method, **_summary(one, part)}
        for seen in sorted(set(one.seen.tolist()))
        for group in sorted(set(one.clusters))
        if (part := (one.seen == seen) & (np.array(one.clusters) == group)).any()
    ]


def _summary(one: Table, part: Any) -> dict[str, float | int | None]:
    return score.summary(
        one.quantiles[part], one.scaled[part], one.raw_quantiles[part], one.raw[part], one.raw_ninety[part]
    )


def _paired(tables: Mapping[str, Table], shares: list[float], asked: Asked) -> list[dict[str, Any]]:
    """Compare our losses with every baseline's on the same points: CRPS, and the median's relative error (``mape``).

    Owners are drawn where their runs were bounded, else groups, or jobs where there is one group.
    """
    own = tables[OURS]
    by = "owner" if asked.per_owner is not None else "group" if len(set(own.clusters)) > 1 else "job"
    clusters = np.array({"owner": own.owners, "group": own.clusters, "job": own.jobs}[by])
    loss = {method: score.crps(one.quantiles, one.scaled) for method, one in tables.items()}
    share = {method: score.relative(one.raw_quantiles, one.raw) for method, one in tables.items()}

    def apart(losses: Mapping[str, Floats], method: str, part: Flags) -> Mapping[str, float | int]:
        return score.paired(losses[OURS][part], losses[method][part], clusters[part].tolist(), asked.seed)

    return [
        {
            "seen": seen, "method": method, "by": by, **apart(loss, method, own.seen == seen),
            "mape": apart(share, method, part) if part.any() else None,
        }
        for seen in shares
        for method in tables
        if method != OURS
        for part in [(own.seen == seen) & np.isfinite(share[OURS])]
    ]  # fmt: skip


def write_predictions(result: Result, path: Path) -> int:
    """Write every answer of every method, one row a point, and give their number. Raises ``HistoryError``."""
    try:
        import pyarrow as pa  # delays pyarrow: nothing else here needs it
        import pyarrow.parquet as parquet
    except ImportError:
        raise HistoryError("predictions are written as Parquet, which needs pyarrow - install it") from None
    columns: dict[str, list[Any]] = {
        name: [] for name in ("job", "seen", "method", "at_step", "at_s", "actual", "mean", *QUANTILES)
    }
    for method, answers in result.answers.items():
        for question, made in zip(result.questions, answers, strict=True):
            size = len(question.steps)
            columns["job"] += [question.run.job] * size
            columns["seen"] += [question.seen] * size
            columns["method"] += [method] * size
            columns["at_step"] += question.steps.astype(np.int64).tolist()
            columns["at_s"] += [None if np.isnan(second) else second for second in question.at_s.tolist()]
            columns["actual"] += question.actual.tolist()
            columns["mean"] += made.mean.tolist()
            for place, name in enumerate(QUANTILES):
                columns[name] += made.quantiles[:, place].tolist()
    try:
        parquet.write_table(pa.table(columns), path)
    except OSError as error:
        raise HistoryError(f"{path} cannot be written ({error.strerror or error}) - name another file") from None
    return len(columns["job"])
