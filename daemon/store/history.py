"""Edge: reading observations back as columns, for many jobs at once.

One query finds the runs, one query a round reads the newest rows of one run of every job; nearly always the newest
run fills the window and one round does. The rows' values are doubles side by side and become arrays in one step.
"""

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Connection, column, func, or_, select, values
from sqlmodel import col

from daemon.store.codec import loads
from daemon.store.database import Found, Query
from daemon.store.tables import JobRow, ObservationRow, RunRow, StatusRow
from daemon.types import Declared, Floats, History, Job, JobStatus

EARLIER = 8
THINNED = 256
PART = 400
"""Names or runs in one query: below the least limit of bound values that a database has."""
CACHED = 512
NO_CUT = 2**62


def parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut a list into pieces that one query can name."""
    for start in range(0, len(items), PART):
        yield items[start : start + PART]


@dataclass(frozen=True, slots=True)
class Run:
    """A run and the step below which its rows still count: a newer run has done again what lies above."""

    number: int
    name: str
    rows: int
    first_step: int
    first_seq: int
    last_seq: int
    below: int
    names: tuple[str, ...]
    offers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one run, ascending by seq: values float[n, names]."""

    run: Run
    rows: Sequence[Found]


@dataclass(slots=True)
class _Reading:
    """How far the reading of one job has come: runs newest first, blocks as they were read."""

    runs: list[Run]
    missing: int
    blocks: list[Block] = field(default_factory=list)


class Reader:
    """Reads histories. Keeps the finished ones that it has read: they are asked for with every job of their owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._finished: OrderedDict[str, tuple[object, History]] = OrderedDict()

    def read(self, connection: Connection, jobs: Sequence[str], window: int) -> dict[str, History]:
        """Read the newest ``window`` rows of each job, and the finished jobs beside it."""
        heads = _heads(connection, jobs)
        readings = {job: _Reading(runs, window) for job, runs in _runs(connection, jobs).items()}
        _fill(connection, list(readings.values()), window)
        known = {job: _history(job, heads.get(job), readings[job].blocks, window) for job in jobs}
        finished = self._earlier(connection, [job for job, _ in heads.values()])
        return {
            job: replace(
                one, earlier=_beside(one, finished),
                missing=missing(readings[job].blocks, window, heads[job][1]) if job in heads else 0,
            )
            for job, one in known.items()
        }  # fmt: skip

    def _earlier(self, connection: Connection, jobs: Sequence[Job]) -> list[History]:
        """Read the finished jobs of these owners and groups, newest first."""
        names = _finished_names(connection, jobs)
        heads, runs = _heads(connection, names), _runs(connection, names)
        for name in names:
            self._keep(connection, name, heads[name], runs[name])
        with self._lock:
            return [self._finished[name][1] for name in names if name in self._finished]

    def _keep(self, connection: Connection, name: str, head: tuple[Job, JobStatus], runs: Sequence[Run]) -> None:
        mark = (head[0], tuple((run.number, run.rows, run.last_seq) for run in runs))
        with self._lock:
            if name in self._finished and self._finished[name][0] == mark:
                self._finished.move_to_end(name)
                return
        made = _history(name, head, _thinned(connection, runs), THINNED)
        with self._lock:
            self._finished[name] = (mark, made)
            while len(self._finished) > CACHED:
                self._finished.popitem(last=False)


def _beside(one: History, finished: Sequence[History]) -> tuple[History, ...]:
    def related(other: History) -> bool:
        same_owner = one.owner is not None and other.owner == one.owner
        same_group = one.group is not None and other.group == one.group
        return other.job != one.job and (same_owner or same_group)

    return tuple(other for other in finished if related(other))[:EARLIER]


# What is asked.


def _heads(connection: Connection, jobs: Sequence[str]) -> dict[str, tuple[Job, JobStatus]]:
    found: dict[str, tuple[Job, JobStatus]] = {}
    for part in parts(jobs):
        statement: Query = select(
            col(JobRow.name), col(JobRow.value).label("job"), col(StatusRow.value).label("status")
        )
        statement = statement.join(StatusRow, col(StatusRow.job) == col(JobRow.name))
        for row in connection.execute(statement.where(col(JobRow.name).in_(part))):
            found[row.name] = (loads(Job, row.job), loads(JobStatus, row.status))
    return found


def _runs(connection: Connection, jobs: Sequence[str]) -> dict[str, list[Run]]:
    """Find the runs of each job that still count, newest first."""
    found: dict[str, list[Run]] = {job: [] for job in jobs}
    for part in parts(jobs):
        statement = select(RunRow).where(col(RunRow.job).in_(part)).order_by(col(RunRow.number).desc())
        for row in connection.execute(statement):
            newer = found[row.job]
            below = min(newer[-1].first_step, newer[-1].below) if newer else NO_CUT
            if row.last_seq >= 0 and row.first_step < below:
                newer.append(_run(row, below))
    return {job: [run for run in runs if run.rows] for job, runs in found.items()}


def _run(row: Found, below: int) -> Run:
    names, offers = tuple(json.loads(row.names)), tuple(json.loads(row.offers))
    return Run(row.number, row.run, row.rows, row.first_step, row.first_seq, row.last_seq, below, names, offers)


def _fill(connection: Connection, readings: Sequence[_Reading], window: int) -> None:
    """Read run after run of each job, newest first, until its window is full."""
    place = 0
    while wanted := [one for one in readings if one.missing > 0 and place < len(one.runs)]:
        for part in parts(wanted):
            blocks = _newest(connection, [one.runs[place] for one in part], window)
            for one in part:
                block = blocks.get(one.runs[place].number)
                if block is not None:
                    one.blocks.insert(0, block)
                    one.missing -= len(block.rows)
        place += 1


def _newest(connection: Connection, runs: Sequence[Run], window: int) -> dict[int, Block]:
    """Read the newest rows below the cut of each of these runs in one query."""
    cuts = values(column("run", BigInteger), column("below", BigInteger), name="cuts")
    wanted = cuts.data([(run.number, run.below) for run in runs]).cte("wanted")
    own = select(col(ObservationRow.seq)).where(
        col(ObservationRow.run) == wanted.c.run, col(ObservationRow.step) < wanted.c.below
    )
    oldest = own.order_by(col(ObservationRow.seq).desc()).limit(1).offset(window - 1)
    first = func.coalesce(oldest.correlate(wanted).scalar_subquery(), -1)
    statement = _observations().join(
        wanted,
        (col(ObservationRow.run) == wanted.c.run)
        & (col(ObservationRow.step) < wanted.c.below)
        & (col(ObservationRow.seq) >= first),
    )
    return _blocks(connection, statement, runs)


def _thinned(connection: Connection, runs: Sequence[Run]) -> list[Block]:
    """Read about ``THINNED`` rows of a finished job, evenly over all of its runs, the last one among them."""
    stride = max(math.ceil(sum(run.rows for run in runs) / THINNED), 1)
    blocks: list[Block] = []
    for run in reversed(runs):
        seq = col(ObservationRow.seq)
        own = (col(ObservationRow.run) == run.number) & (col(ObservationRow.step) < run.below)
        every = or_((seq - run.first_seq) % stride == 0, seq == run.last_seq)
        blocks.extend(_blocks(connection, _observations().where(own & every), [run]).values())
    return blocks


def _observations() -> Query:
    chosen = (
        ObservationRow.run,
        ObservationRow.step,
        ObservationRow.received_us,
        ObservationRow.total_steps,
        ObservationRow.diverged,
        ObservationRow.offer,
        ObservationRow.values,
        ObservationRow.seq,
    )
    statement: Query = select(*(col(one) for one in chosen))
    return statement.order_by(col(ObservationRow.run), col(ObservationRow.seq))


def _blocks(connection: Connection, statement: Query, runs: Sequence[Run]) -> dict[int, Block]:
    rows = connection.execute(statement).all()
    numbers = np.array([row[0] for row in rows], np.int64)
    starts = np.searchsorted(numbers, [run.number for run in runs], "left").tolist()
    ends = np.searchsorted(numbers, [run.number for run in runs], "right").tolist()
    found = zip(runs, starts, ends, strict=True)
    return {run.number: Block(run, rows[start:end]) for run, start, end in found if end > start}


def _finished_names(connection: Connection, jobs: Sequence[Job]) -> list[str]:
    """Name the newest finished jobs of each owner and of each group, newest first."""
    heard: dict[str, int] = {}
    for key, wanted in (
        (col(JobRow.owner), sorted({job.owner for job in jobs if job.owner is not None})),
        (col(JobRow.group), sorted({job.group for job in jobs if job.group is not None})),
    ):
        for part in parts(wanted):
            newest = col(StatusRow.heard_us).desc()
            place = func.row_number().over(partition_by=key, order_by=[newest, col(JobRow.name)]).label("place")
            ranked = select(col(JobRow.name).label("name"), col(StatusRow.heard_us).label("heard"), place)
            ranked = ranked.join(StatusRow, col(StatusRow.job) == col(JobRow.name))
            inner = ranked.where(col(StatusRow.state) == "done", key.in_(part)).subquery()
            # One more than is shown: a finished job does not stand beside itself.
            rows = connection.execute(select(inner.c.name, inner.c.heard).where(inner.c.place <= EARLIER + 1))
            heard.update({row.name: row.heard for row in rows})
    return sorted(heard, key=lambda name: (-heard[name], name))


# What is made of it.


def _history(job: str, head: tuple[Job, JobStatus] | None, blocks: Sequence[Block], window: int) -> History:
    """Lay the blocks of one job, oldest first, into columns, and keep the newest ``window`` of them."""
    step = np.array([row[1] for block in blocks for row in block.rows], np.int64)
    at_s = np.array([row[2] for block in blocks for row in block.rows], np.float64) / 1e6
    offers = [block.run.offers[row[5]] for block in blocks for row in block.rows]
    kept = np.flatnonzero(_ascending(step))[-window:]
    totals = [row[3] for block in blocks for row in block.rows if row[3] is not None]
    settings, status = head or (None, JobStatus())
    return History(
        job=job,
        step=step[kept],
        at_s=np.maximum.accumulate(at_s)[kept],
        columns={name: column[kept] for name, column in _columns(blocks, len(step)).items()},
        offers=tuple(offers[place] for place in kept.tolist()),
        total_steps=totals[-1] if totals else settings.total_steps if settings else None,
        declared=_declared(settings.declared if settings else (), status.declared),
        owner=settings.owner if settings else None,
        group=settings.group if settings else None,
        diverged=bool(blocks and blocks[-1].rows[-1][4]),
    )


def missing(blocks: Sequence[Block], window: int, status: JobStatus) -> int:
    """Count the rows known to be lost from among the newest: rows of one run are numbered with one stride.

    What was once heard is kept beside the rows, so the loss of any is seen: of one within by the distance of its
    neighbours, of the first of a run and of the newest by the numbers these had. Not seen are rows that were lost
    before a restart, and those before the first that was ever heard.
    """
    if not blocks:
        return 0
    numbers = [np.array([row[7] for row in block.rows], np.int64) for block in blocks]
    apart = np.concatenate([np.diff(seqs) for seqs in numbers])
    stride = min([*apart.tolist(), *([status.stride] if status.stride else [])], default=1)
    ends = apart.tolist()
    if sum(map(len, numbers)) < window:
        ends += [int(seqs[0]) - block.run.first_seq + stride for block, seqs in zip(blocks, numbers, strict=True)]
    newest = blocks[-1].run
    told = status.next_seq - 1 if status.run == newest.name else newest.last_seq
    ends.append(max(newest.last_seq, told) - int(numbers[-1][-1]) + stride)
    return sum(math.ceil(distance / stride) - 1 for distance in ends)


def _ascending(step: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the rows whose step is above every one before."""
    kept = np.ones(len(step), np.bool_)
    if len(step) > 1:
        kept[1:] = step[1:] > np.maximum.accumulate(step)[:-1]
    return kept


def _columns(blocks: Sequence[Block], count: int) -> Mapping[str, Floats]:
    columns: dict[str, Floats] = {}
    start = 0
    for block in blocks:
        matrix = _matrix(block)
        for place, name in enumerate(block.run.names):
            if name not in columns:
                columns[name] = np.full(count, np.nan)
            columns[name][start : start + len(matrix)] = matrix[:, place]
        start += len(matrix)
    return columns


def _matrix(block: Block) -> Floats:
    """Turn the rows' bytes into float[n, names]; rows from before a name was known are shorter."""
    width = len(block.run.names)
    packed = b"".join(row[6] for row in block.rows)
    if len(packed) == 8 * width * len(block.rows):
        return np.frombuffer(packed, "<f8").reshape(len(block.rows), width)
    matrix = np.full((len(block.rows), width), np.nan)
    for place, row in enumerate(block.rows):
        known = np.frombuffer(row[6], "<f8")
        matrix[place, : len(known)] = known
    return matrix


def _declared(registered: Sequence[Declared], reported: Sequence[Declared]) -> tuple[Declared, ...]:
    """Put both together, ascending; at the same step what the job itself reported counts."""
    steps = {one.from_step: one for one in registered} | {one.from_step: one for one in reported}
    return tuple(steps[step] for step in sorted(steps))
