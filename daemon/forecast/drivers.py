"""Pure decisions: which hyperparameters drive the cost of a step, and where along a path they stand still.

Hyperparameters enter cost and memory through two numbers only: ``work`` (tokens a step: batch x length x accumulation,
or the batch alone where no length is known) and ``reach`` (work x attention length). Memory sees them without
accumulation, which repeats a step's work without holding it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from daemon.forecast.regimes import drives
from daemon.types import Floats, History, Ints

Role = Literal["tokens", "batch", "length", "window", "accumulation", "area", "proxy"]

MEMORY = ("usage.memory_gib", "usage.gpu_memory_gib")
_NAMES: Mapping[Role, str] = {
    "tokens": "batch_tokens tokens tokens_per_step tokens_per_batch max_tokens",
    "batch": "batch batch_size bs train_batch_size global_batch_size micro_batch_size per_device_batch_size "
    "per_device_train_batch_size",
    "length": "seq_len seq_length sequence_length max_seq_len max_seq_length max_length context context_length "
    "context_size block_size length",
    "window": "window window_size attention_window sliding_window",
    "accumulation": "accumulation accumulation_steps grad_accum grad_accum_steps gradient_accumulation "
    "gradient_accumulation_steps accumulate_grad_batches",
    "area": "image_size img_size resolution crop_size",
}
_ROLES: Mapping[str, Role] = {name: role for role, names in _NAMES.items() for name in names.split()}
_FREE = (
    *("lr", "rate", "decay", "momentum", "beta", "eps", "drop", "seed", "epoch", "step", "warm", "clip", "temperature"),
    *("smooth", "ema", "noise", "prob", "weight", "every", "interval", "loss", "phase", "stage"),
)
"""Parts of names that cost nothing."""

_SMALLEST, _BIGGEST = 1e-3, 1e9
"""Beyond these a driver's value is taken for an error of the sender."""


def role(name: str, values: Floats) -> Role | None:
    """Say what part a hyperparameter plays in the work of a step, or ``None`` for one that costs nothing.

    A name that is not known counts as a proxy of the work if all its values are whole and positive, and it is not one
    of those that only change by a mistake (a number of layers); while it stands still, that changes nothing.
    """
    plain = name.removeprefix("hp.").lower()
    if plain in _ROLES:
        return _ROLES[plain]
    if any(word in plain for word in _FREE):
        return None
    known = values[np.isfinite(values)]
    counts = len(known) > 0 and bool((known >= 1).all()) and bool((known == np.rint(known)).all())
    return "proxy" if counts and (drives(plain) or known.min() < known.max()) else None


def known_role(name: str) -> Role | None:
    """Say what part the name alone tells, without ``hp.``; ``None`` for one that is not known."""
    return _ROLES.get(name.lower())


@dataclass(frozen=True, slots=True)
class Drivers:
    """Which columns drive the work of a job's step, and their values in its newest row."""

    roles: Mapping[str, Role]
    last: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Work:
    """What a step works on, at each of R rows: ``held`` is the work without accumulation, ``*_reach`` x the window."""

    work: Floats
    reach: Floats
    held: Floats
    held_reach: Floats


def drivers(history: History) -> Drivers:
    """Find what drives the work of a job's steps."""
    roles: dict[str, Role] = {}
    last: dict[str, float] = {}
    for name, values in history.columns.items():
        if name.startswith("hp."):
            value = history.last(name)
            part = role(name, values) if value is not None and _SMALLEST < value < _BIGGEST else None
            if part is not None and value is not None:
                roles[name] = part
                last[name] = value
    return Drivers(roles, last)


def work_of(driver: Sequence[Drivers], columns: Sequence[Mapping[str, Floats]], sizes: Sequence[int]) -> Work:
    """Give the work of many jobs' rows end to end: ``columns[j]`` holds arrays of ``sizes[j]`` rows.

    A column that is missing, and a value out of all reason, stands at the job's newest value.
    """
    total = sum(sizes)
    value: dict[Role, Floats] = {}
    start = 0
    for each, named, size in zip(driver, columns, sizes, strict=True):
        for name, part in each.roles.items():
            if part not in value:
                value[part] = np.ones(total)
            column = named.get(name)
            here = value[part][start : start + size]
            if column is None:
                here *= each.last[name]
            elif part == "proxy":
                here *= np.where((column > _SMALLEST) & (column < _BIGGEST), column, each.last[name])
            else:
                here[:] = column
                wrong = ~((here > _SMALLEST) & (here < _BIGGEST))
                if wrong.any():
                    here[wrong] = each.last[name]
        start += size
    one = np.ones(total)
    accumulation = value.get("accumulation", one)
    length = value.get("length", one)
    held = value.get("batch", one) * length
    if "tokens" in value:
        direct = np.repeat(["tokens" in each.roles.values() for each in driver], sizes)
        held = np.where(direct, value["tokens"] / accumulation, held)
    held = np.clip(held * value.get("proxy", one) * value.get("area", one) ** 2, 1e-9, 1e30)
    window = length
    if "window" in value:
        window = np.where(
            np.repeat(["window" in each.roles.values() for each in driver], sizes), value["window"], length
        )
    work = held * accumulation
    return Work(work, work * window, held, held * window)


@dataclass(frozen=True, slots=True)
class Points:
    """The few distinct points that many paths visit, and the way back: ``job`` int[U], ``at`` of U rows."""

    job: Ints
    at: Work
    inverse: Ints
    lengths: Ints

    def spread(self, values: Floats) -> Floats:
        """Lay one value a point out along the paths, end to end."""
        return np.repeat(values[self.inverse], self.lengths)


def points(driver: Sequence[Drivers], paths: Sequence[Mapping[str, Floats]], sizes: Sequence[int]) -> Points:
    """Find the distinct points of many jobs' flat paths (``sizes[j]`` long): few, as settings move in steps."""
    places: list[Ints] = []
    short: list[dict[str, Floats]] = []
    lengths: list[Ints] = []
    for each, named, size in zip(driver, paths, sizes, strict=True):
        flat = {name: named[name].ravel() for name in each.roles if name in named}
        turn = np.zeros(size, dtype=bool)
        turn[:1] = True
        for column in flat.values():
            turn[1:] |= column[1:] != column[:-1]
        place = np.flatnonzero(turn)
        places.append(place)
        short.append({name: column[place] for name, column in flat.items()})
        lengths.append(np.diff(place, append=size))
    counts = [len(place) for place in places]
    at = work_of(driver, short, counts)
    job = np.repeat(np.arange(len(driver)), counts)
    mixed = _mixed(job, at.work, at.reach, at.held)
    _, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
    chosen = Work(at.work[first], at.reach[first], at.held[first], at.held_reach[first])
    return Points(job[first], chosen, inverse, np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int64))


def _mixed(job: Ints, *keys: Floats) -> np.ndarray:
    """Mix keys into one 64-bit number each: two points that differ meet by chance once in 10^19."""
    mixed = job.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for key in keys:
        mixed = (mixed ^ key.view(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(31)
    return mixed
