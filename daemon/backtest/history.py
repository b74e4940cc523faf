"""Edge: read history files (version 1; CSV or Parquet) as whole runs, in the order of the file."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon.types import Floats

TEXTS = ("job", "group", "owner", "started_at")
FIGURES = ("step", "elapsed_s", "total_steps", "throughput")
KINDS = ("hp.", "metric.", "usage.")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
LARGEST = 1e15
"""Steps and times beyond this are errors of the writer."""


class HistoryError(Exception):
    """A history file cannot be used. ``str()`` is one line with the file and, where it applies, column and line."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One whole run, rows ascending by step, a repeated step only once (its last row).

    ``step`` float64[n] is whole; where a file has none it is the elapsed second, else the row's number. ``elapsed_s``
    and ``total_steps`` float64[n] are NaN where unknown. ``columns`` holds ``hp.*``, ``metric.*``, ``usage.*`` and
    ``throughput``, and ``step_seconds``: what a step took since the row before, from the elapsed time.
    ``diverged_row`` is the first row in which a metric was infinite, -1 if none.
    """

    job: str
    group: str
    owner: str
    started_at: str
    step: Floats
    elapsed_s: Floats
    total_steps: Floats
    columns: Mapping[str, Floats]
    diverged_row: int = -1

    def __len__(self) -> int:
        return len(self.step)

    def column(self, name: str) -> Floats:
        """Give a column of the file, unknown throughout where the run lacks it."""
        if name == "elapsed_s":
            return self.elapsed_s
        found = self.columns.get(name)
        return np.full(len(self), np.nan) if found is None else found


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    file: str
    texts: Mapping[str, Sequence[str]]
    figures: Mapping[str, Floats]


def read(paths: Sequence[Path]) -> list[Run]:
    """Read history files into runs, in the order of the files. Raises ``HistoryError``.

    Cells that are empty or not a number's usual ways of saying "missing" are unknown; infinite ones too, and an
    infinite metric says that the run has diverged. Columns of no known kind are left alone.
    """
    return [run for path in paths for run in _runs(_table(path), path.stem)]


def _table(path: Path) -> _Table:
    if not path.is_file():
        raise HistoryError(f"{path} is not a file - name a history file (CSV or Parquet)")
    try:
        with path.open("rb") as opened:
            parquet = opened.read(4) == b"PAR1"
        return _parquet(path) if parquet or path.suffix == ".parquet" else _csv(path)
    except OSError as error:
        raise HistoryError(f"{path} cannot be read ({error.strerror or type(error).__name__}) - check it") from None


def _wanted(name: str) -> bool:
    return name in FIGURES or name.startswith(KINDS)


def _check(path: Path, names: Sequence[str]) -> None:
    if "job" not in names:
        raise HistoryError(f"{path} has no column job - write one row an observation, with the job's name in it")
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise HistoryError(f"{path} has the column {twice} twice - leave one of them out")


def _csv(path: Path) -> _Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            rows = csv.reader(opened)
            names = [name.strip() for name in next(rows, [])]
            _check(path, names)
            columns: list[list[str]] = [[] for _ in names]
            lines: list[int] = []
            for row in rows:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(names):
                    raise HistoryError(
                        f"{path}:{rows.line_num} has {len(row)} cells where the head has {len(names)} - mend the line"
                    )
                lines.append(rows.line_num)
                for column, cell in zip(columns, row, strict=True):
                    column.append(cell.strip())
    except UnicodeDecodeError:
        raise HistoryError(f"{path} is neither Parquet nor CSV in UTF-8 - convert it") from None
    except csv.Error as error:
        raise HistoryError(f"{path} is not CSV ({error}) - mend it") from None
    named = dict(zip(names, columns, strict=True))
    for line, job in zip(lines, named["job"], strict=True):
        if not job:
            raise HistoryError(f"{path}:{line}: column job is empty - every row needs its job's name")
    texts = {name: named[name] for name in TEXTS if name in named}
    figures = {name: _numbers(path, name, cells, lines) for name, cells in named.items() if _wanted(name)}
    return _Table(str(path), texts, figures)


def _numbers(path: Path, name: str, cells: Sequence[str], lines: Sequence[int]) -> Floats:
    found = np.full(len(cells), np.nan)
    for place, cell in enumerate(cells):
        if cell.lower() in MISSING:
            continue
        try:
            found[place] = float(cell)
        except ValueError:
            raise HistoryError(
                f"{path}:{lines[place]}: column {name} holds {cell[:40]!r}, not a number - mend it or leave it empty"
            ) from None
    return found


def _parquet(path: Path) -> _Table:
    try:
        import pyarrow as pa  # delays pyarrow: CSV needs none of it
        import pyarrow.parquet as parquet
    except ImportError:
        raise HistoryError(f"{path} is Parquet, which needs pyarrow - install it, or convert the file to CSV") from None
    try:
        names = parquet.read_schema(path).names
        _check(path, names)
        table = parquet.read_table(path, columns=[name for name in names if name in TEXTS or _wanted(name)])
    except pa.ArrowException as error:
        raise HistoryError(f"{path} is not Parquet ({str(error).splitlines()[0][:120]}) - write it again") from None
    texts = {
        name: ["" if cell is None else str(cell) for cell in table.column(name).to_pylist()]
        for name in TEXTS
        if name in table.column_names
    }
    empty = next((place for place, job in enumerate(texts["job"]) if not job), None)
    if empty is not None:
        raise HistoryError(f"{path}: column job is empty in row {empty + 1} - every row needs its job's name")
    figures = {}
    for name in table.column_names:
        if _wanted(name):
            try:
                figures[name] = np.asarray(table.column(name).cast(pa.float64()).to_numpy(), dtype=np.float64)
            except (pa.ArrowException, ValueError):
                raise HistoryError(
                    f"{path}: column {name} is of type {table.schema.field(name).type}, not numbers - convert it"
                ) from None
    return _Table(str(path), texts, figures)


def _runs(table: _Table, stem: str) -> list[Run]:
    jobs = table.texts["job"]
    places: dict[str, list[int]] = {}
    for place, job in enumerate(jobs):
        places.setdefault(job, []).append(place)
    return [_run(table, stem, job, np.array(rows)) for job, rows in places.items()]


def _run(table: _Table, stem: str, job: str, rows: NDArray[np.int64]) -> Run:
    def text(name: str) -> str:
        return table.texts[name][rows[0]] if name in table.texts else ""

    def figures(name: str) -> Floats:
        return table.figures[name][rows] if name in table.figures else np.full(len(rows), np.nan)

    elapsed, total = _bounded(figures("elapsed_s")), _bounded(figures("total_steps"))
    step, kept = _steps(_bounded(figures("step")), elapsed)
    elapsed, total = elapsed[kept], total[kept]
    columns, diverged = {}, -1
    for name in table.figures:
        if name.startswith(KINDS) or name == "throughput":
            values = figures(name)[kept]
            endless = np.flatnonzero(np.isinf(values))
            if name.startswith("metric.") and len(endless):
                diverged = int(endless[0]) if diverged < 0 else min(diverged, int(endless[0]))
            columns[name] = np.where(np.isfinite(values), values, np.nan)
    if np.isfinite(elapsed).sum() >= 2:
        columns["step_seconds"] = step_seconds(step, elapsed)
    return Run(
        job, text("group") or text("owner") or stem, text("owner"), text("started_at"),
        step, elapsed, total, columns, diverged,
    )  # fmt: skip


def _bounded(values: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.where((values >= 0) & (values <= LARGEST), values, np.nan)


def _steps(step: Floats, elapsed: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Give whole ascending steps and the rows they are of; a repeated step keeps its last row.

    Rows without a step are left out, unless none has one.
    """
    if not np.isfinite(step).any():
        step = elapsed if np.isfinite(elapsed).any() else np.arange(len(step), dtype=np.float64)
    step = np.floor(step + 0.5)
    rows = np.flatnonzero(np.isfinite(step))
    order = rows[np.argsort(step[rows], kind="stable")]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = step[order][1:] != step[order][:-1]
    kept = order[last]
    return step[kept], kept


def step_seconds(step: Floats, elapsed: Floats) -> Floats:
    """Give the time of a step since the known row before: unknown in the first row and where the clock went back."""
    found = np.full(len(step), np.nan)
    known = np.flatnonzero(np.isfinite(elapsed))
    rate = np.diff(elapsed[known]) / np.maximum(np.diff(step[known]), 1.0)
    found[known[1:]] = np.where(rate > 0, rate, np.nan)
    return found
