"""Values: recorded spot availability as ticks of whole availability, and the terms of a job under a deadline."""

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon.replay.trace import TraceError

Bools = NDArray[np.bool_]

COLUMNS = ("trace", "zone", "instance", "start_s", "length_s", "available")
TICK_SECONDS = 600
LARGEST_BYTES = 256 << 20
LEAST_UNIT_SECONDS = 60
GAP_SECONDS = 1.0
"""Runs that lie further apart than this leave a hole in the record, and nobody can say what was in it."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One machine type in one place: ``up[t]`` says that it was to be had during all of tick ``t``."""

    trace: str
    zone: str
    instance: str
    up: Bools

    @property
    def name(self) -> str:
        """Name it as rows do."""
        return f"{self.trace}/{self.zone}/{self.instance}"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a job is and what machines cost. All times are whole numbers of ``unit_seconds``; a tick has ``tick``.

    ``work`` is what the job takes on a machine, ``changeover`` what every start of a machine takes before the job goes
    on, both in units; ``ticks`` is how many whole ticks there are until the deadline.
    """

    unit_seconds: int
    tick: int
    work: int
    changeover: int
    ticks: int
    on_demand_usd_per_hour: float
    spot_usd_per_hour: float

    def usd(self, usd_per_hour: float, units: float) -> float:
        """Bill so many units."""
        return usd_per_hour * units * self.unit_seconds / 3600

    @property
    def on_demand_usd(self) -> float:
        """Say what the job costs on demand from beginning to end."""
        return self.usd(self.on_demand_usd_per_hour, self.changeover + self.work)


def terms(work_hours: float, deadline_hours: float, changeover_minutes: float, on_demand: float, spot: float) -> Terms:
    """Make terms. Work and changeover are rounded up to whole minutes, the deadline down to a whole tick.

    Raises ``ValueError`` with one line where no machine could hold the deadline, or a figure makes no sense.
    """
    named = {"work-hours": work_hours, "deadline-hours": deadline_hours, "on-demand": on_demand, "spot": spot}
    for name, value in named.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"--{name} is {value:g} - give a number above 0")
    if not (math.isfinite(changeover_minutes) and changeover_minutes >= 0):
        raise ValueError(f"--changeover-minutes is {changeover_minutes:g} - give 0 or more")
    work, changeover = (math.ceil(minutes - 1e-6) * 60 for minutes in (work_hours * 60, changeover_minutes))
    unit = max(math.gcd(TICK_SECONDS, work, changeover), LEAST_UNIT_SECONDS)
    ticks = int(deadline_hours * 3600 / TICK_SECONDS + 1e-9)
    made = Terms(unit, TICK_SECONDS // unit, work // unit, changeover // unit, ticks, on_demand, spot)
    if ticks * made.tick < made.work + made.changeover:
        raise ValueError(
            f"--deadline-hours {deadline_hours:g} leaves no time for {work_hours:g} h of work and a changeover - "
            "give a later deadline"
        )
    return made


def read(path: Path) -> list[Zone]:
    """Read run lengths, one zone for each trace, zone and instance. Raises ``TraceError``."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise TraceError(f"{path.name} is over {LARGEST_BYTES >> 20} MiB - split it by trace")
        with path.open(encoding="utf-8-sig", newline="") as file:
            found = _runs(path.name, csv.DictReader(file))
    except OSError as error:
        raise TraceError(f"{path} cannot be read ({error.strerror}) - name an existing file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path.name} is not CSV text ({error}) - save it as UTF-8 CSV") from None
    if not found:
        raise TraceError(f"{path.name} holds no run - give rows of {', '.join(COLUMNS)}")
    return [Zone(*key, up=whole_ticks(path.name, runs)) for key, runs in found.items()]


Run = tuple[float, float, bool]
"""Start and length in seconds, and whether there was capacity."""


def _runs(name: str, rows: "csv.DictReader[str]") -> Mapping[tuple[str, str, str], list[Run]]:
    missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise TraceError(f"{name} has no column {missing[0]!r} - give {', '.join(COLUMNS)}")
    found: dict[tuple[str, str, str], list[Run]] = {}
    for row in rows:
        try:
            start, length = float(row["start_s"]), float(row["length_s"])
            there = {"0": False, "1": True}[row["available"].strip()]
            if not (math.isfinite(start) and math.isfinite(length) and length >= 0):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            line = rows.line_num
            raise TraceError(f"{name}:{line}: not a run - give seconds, and 0 or 1 for available") from None
        found.setdefault((row["trace"], row["zone"], row["instance"]), []).append((start, length, there))
    return found


def whole_ticks(name: str, runs: Sequence[Run]) -> Bools:
    """Turn runs into ticks from the first run's start on; a tick counts only if there was capacity in all of it.

    Raises ``TraceError`` where runs overlap or leave a gap.
    """
    first, last = runs[0][0], runs[-1][0] + runs[-1][1]
    for (start, length, _), (following, _, _) in itertools.pairwise(runs):
        if abs(start + length - following) > GAP_SECONDS:
            raise TraceError(
                f"{name}: runs of one zone overlap or leave a gap at {following:g} s - order and fill them"
            )
    up = np.ones(int((last - first) / TICK_SECONDS + 1e-9), dtype=np.bool_)
    for start, length, there in runs:
        if not there and length > 0:
            up[int((start - first) / TICK_SECONDS) : math.ceil((start + length - first) / TICK_SECONDS)] = False
    return up


def groups(zones: Sequence[Zone], count: int) -> list[tuple[Zone, ...]]:
    """Give every choice of ``count`` zones of one trace and instance."""
    kinds = dict.fromkeys((zone.trace, zone.instance) for zone in zones)
    return [
        group
        for kind in kinds
        for group in itertools.combinations([z for z in zones if (z.trace, z.instance) == kind], count)
    ]


def starts(group: Sequence[Zone], ticks: int, count: int, seed: int) -> list[int]:
    """Draw ticks to start at, uniform over those from which the record reaches to the deadline.

    The same seed gives the same starts for every group of the same length. Raises ``ValueError``.
    """
    length = min(len(zone.up) for zone in group)
    if length < ticks:
        raise ValueError(f"{group[0].name} is shorter than the deadline - give a longer record or a nearer deadline")
    return [int(at) for at in np.random.default_rng(seed).integers(0, length - ticks + 1, count)]
