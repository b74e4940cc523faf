"""Edge: the command ``backtest``: forecast skill on recorded runs."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import Progress
from rich.text import Text

from api import backtest_plot, plot, show
from api.client_http import Failure
from api.text import plain
from daemon.backtest import ablation, history, report
from daemon.backtest.run import Asked, backtest
from daemon.forecast.ensemble import Recurrent


def shares(text: str) -> tuple[float, ...]:
    """Read shares of a run, such as ``0.2,0.4``. Raises ``Failure``."""
    try:
        found = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        found = ()
    if not found or not all(0.0 < one < 1.0 for one in found):
        raise Failure(f"--at {plain(text)!r} is no list of shares - give some between 0 and 1, such as 0.2,0.4", 2)
    return found


def seconds(text: str) -> float | None:
    """Read a horizon: ``final`` (``None``) or seconds. Raises ``Failure``."""
    if text == "final":
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0.0 < found < math.inf:
        raise Failure(f"--horizon {plain(text)!r} is neither final nor seconds - give final, or such as 300", 2)
    return found


def names(text: str | None) -> tuple[str, ...]:
    """Read a list of names."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def without(text: str | None) -> tuple[str, ...]:
    """Read a list of parts to leave out. Raises ``Failure``."""
    found = names(text)
    odd = next((name for name in found if name not in ablation.PARTS), None)
    if odd is not None:
        raise Failure(f"--without {plain(odd)} is no part - take of {', '.join(ablation.PARTS)}", 2)
    return found


def run(
    files: Sequence[Path],
    asked: Asked,
    predictions: Path | None,
    weights: Path | None,
    without: Sequence[str] = (),
    picture: Path | None = None,
) -> dict[str, Any]:
    """Run a backtest, with parts left out, as plain values; draw it, if asked to. Raises ``Failure``."""
    if picture is not None:
        plot.check(picture)
    try:
        runs = history.read(files)
        unknown = [name for name in asked.declared if not any(name in one.columns for one in runs)]
        if unknown:
            raise Failure(f"--declared {plain(unknown[0])} is a column of no file - name hp. columns that are there", 2)
        with _bar() as progress:
            result = backtest(runs, asked, Recurrent(ablation.parts(weights, without)), progress)
        if predictions is not None:
            report.write_predictions(result, predictions)
        if picture is not None:
            backtest_plot.draw(result, picture)
    except history.HistoryError as error:
        raise Failure(plain(error), 2) from None
    return {**report.plain(result), "without": list(without)}


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Draw a progress bar on standard error, if that is a terminal."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("forecasts", total=None)
        yield lambda done, whole: progress.update(task, completed=done, total=whole)


def drawn(found: Mapping[str, Any]) -> RenderableType:
    """Draw the result: a line a method, best first, and how sure its difference to ours is."""
    differences = {(one["seen"], one["method"]): one for one in found["paired"]}
    table = show.table("seen", "method", "n>", "mae>", "crps>", "80 %>", "95 %>", "mape>", "ours less theirs, crps>")
    for seen in sorted({row["seen"] for row in found["rows"]}):
        rows = [row for row in found["rows"] if row["seen"] == seen]
        for row in sorted(rows, key=lambda row: float(row["crps"])):
            apart = differences.get((seen, row["method"]))
            table.add_row(
                show.share(seen), row["method"], str(row["n"]), show.figure(row["mae"]), show.figure(row["crps"]),
                show.share(row["coverage80"]), show.share(row["coverage95"]), show.share(row["mape"]),
                "" if apart is None else f"{apart['difference']:+.4g} [{apart['low']:+.4g}, {apart['high']:+.4g}]",
            )  # fmt: skip
    head = f"{plain(found['target'])}: {found['jobs']} jobs, {found['left_out']} left out"
    scaled = "mae and crps are scaled by group" if found["scaled"] else "mae and crps are in the column's own units"
    return Group(Text(f"{head}; {scaled}; {found['seconds_per_1000']:.2f} s per 1,000 forecasts"), table)
