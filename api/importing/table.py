"""Edge: read runs from a CSV file with a user's own columns, one row an observation."""

import csv
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from api.client_http import Failure
from api.importing.naming import TIMES, Named
from api.importing.series import Recorded, number
from api.text import plain
from daemon.backtest.history import MISSING, TEXTS

Rows = Sequence[tuple[int, Mapping[str, str]]]
"""The line in the file, and its cells by column."""


def read(file: Path) -> tuple[list[str], Rows]:
    """Read a file's head and rows; ``;`` and tabs are taken too. Raises ``Failure``."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            head = opened.readline()
            opened.seek(0)
            rows = csv.reader(opened, delimiter=max(",;\t", key=head.count))
            names = [name.strip() for name in next(rows, [])]
            return names, [(rows.line_num, _cells(file, rows.line_num, names, row)) for row in rows if any(row)]
    except OSError as error:
        raise Failure(f"{plain(file)} cannot be read ({error.strerror}) - name an existing file", 2) from None
    except UnicodeDecodeError:
        raise Failure(f"{plain(file)} is not CSV in UTF-8 - convert it", 2) from None
    except csv.Error as error:
        raise Failure(f"{plain(file)} is not CSV ({error}) - mend it", 2) from None


def _cells(file: Path, line: int, names: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    if len(row) != len(names):
        raise Failure(f"{plain(file)}:{line} has {len(row)} cells where the head has {len(names)} - mend the line")
    return dict(zip(names, (cell.strip() for cell in row), strict=True))


def wordy(rows: Rows, names: Sequence[str]) -> list[str]:
    """List the columns that hold no number at all."""

    def holds_none(name: str) -> bool:
        return all(math.isnan(number(cells[name])) for _, cells in rows)

    return [name for name in names if holds_none(name)]


def runs(file: Path, rows: Rows, named: Mapping[str, Named]) -> list[Recorded]:
    """Cut rows into runs by job; without such a column the file is one run. Raises ``Failure``.

    Each row's step is its own, or unknown where a time says which comes first, or else its number.
    """
    columns = {one.column: name for name, one in named.items()}
    figures = [name for name, one in named.items() if one.column not in (*TEXTS, *TIMES, "step")]
    step, clock = columns.get("step"), columns.get("timestamp")
    counted = step is None and clock is None and "elapsed_s" not in columns
    found: dict[str, Recorded] = {}
    for line, cells in rows:
        run = _run(file, line, cells, columns, found)
        at = _moment(file, line, clock, cells[clock]) if clock is not None else math.nan
        if clock is None and "elapsed_s" in columns:
            since = _figure(file, line, columns["elapsed_s"], cells[columns["elapsed_s"]])
            at = since * named[columns["elapsed_s"]].factor + (0.0 if math.isnan(run.started_at) else run.started_at)
        place = math.nan if step is None else _figure(file, line, step, cells[step]) * named[step].factor
        place = float(len(next(iter(run.points.values()), ()))) if counted else place
        for name in figures:
            run.points.setdefault(name, []).append((place, at, _figure(file, line, name, cells[name])))
    return list(found.values())


def _run(
    file: Path, line: int, cells: Mapping[str, str], columns: Mapping[str, str], found: dict[str, Recorded]
) -> Recorded:
    """Find the run that a row belongs to, or begin it."""

    def word(column: str) -> str:
        return cells[columns[column]] if column in columns else ""

    job = word("job") if "job" in columns else file.stem
    if not job:
        raise Failure(f"{plain(file)}:{line}: column {columns['job']} is empty - every row needs its job's name")
    if job not in found:
        started = (
            _moment(file, line, columns["started_at"], word("started_at")) if "started_at" in columns else math.nan
        )
        found[job] = Recorded(job, word("group"), word("owner"), started)
    return found[job]


def _figure(file: Path, line: int, name: str, cell: str) -> float:
    if cell.lower() in MISSING:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        value = number(cell)
    if math.isnan(value):
        raise Failure(
            f"{plain(file)}:{line}: column {plain(name)} holds {plain(cell[:40])!r}, not a number - "
            "mend it or leave it empty"
        )
    return value


def _moment(file: Path, line: int, name: str, cell: str) -> float:
    """Read seconds or milliseconds since the epoch, or an ISO time; a time without a zone is taken for UTC."""
    if cell.lower() in MISSING:
        return math.nan
    value = number(cell)
    if math.isfinite(value):
        return value / 1000 if value > 1e11 else value
    try:
        found = datetime.fromisoformat(cell)
    except ValueError:
        raise Failure(
            f"{plain(file)}:{line}: column {plain(name)} holds {plain(cell[:40])!r}, not a time - "
            "write seconds since 1970 or 2026-11-25T10:00:00Z"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
