"""Values: a trace file, format 1: one job's segments, the offers it could run on, and how it ran on each."""

import itertools
import math
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from daemon.types import Floats

LARGEST_BYTES = 64 << 20
LEAST_SHARE = 1e-3

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class TraceError(ValueError):
    """A trace file cannot be used; the text says which, why and how to mend it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class TraceOffer(_Strict):
    """One machine, or group of machines, that could be had. ``gpu_memory_gib`` is of one GPU; ``gpus`` counts all."""

    offer: Name
    gpus: Annotated[int, Field(ge=0)]
    gpu_memory_gib: NotNegative = 0.0
    gpu: str | None = None
    nodes: Annotated[int, Field(ge=1)] = 1
    usd_per_hour: Positive


class Segment(_Strict):
    """A stretch with constant hyperparameters, up to a progress."""

    to_progress: Positive
    hyperparameters: dict[str, float]
    progress_per_step: Positive


class Trace(_Strict):
    """One job on every offer. ``step_seconds[offer][segment]`` is ``None`` where the job does not fit."""

    format: str = "scaleahead-trace/1"
    source: str = ""
    job: Name
    progress_unit: str = ""
    total_progress: Positive
    restart_seconds: NotNegative
    checkpoint_every_seconds: Positive
    boot_seconds: NotNegative
    on_misfit: Literal["crash", "accumulate"]
    offers: Annotated[list[TraceOffer], Field(min_length=1)]
    segments: Annotated[list[Segment], Field(min_length=1)]
    step_seconds: dict[str, list[Positive | None]]
    gpu_busy_fraction: dict[str, list[float | None]] = {}
    gpu_memory_fraction: dict[str, list[float | None]] = {}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [offer.offer for offer in self.offers]
        if len(set(names)) < len(names):
            raise ValueError("two offers have the same name - rename one")
        if missing := [name for name in names if name not in self.step_seconds]:
            raise ValueError(f"step_seconds lacks {missing[0]!r} - add a list of one entry a segment")
        for table in ("step_seconds", "gpu_busy_fraction", "gpu_memory_fraction"):
            for name, row in getattr(self, table).items():
                if len(row) != len(self.segments):
                    raise ValueError(
                        f"{table} of {name!r} has {len(row)} entries for {len(self.segments)} segments - give one each"
                    )
        ends = [segment.to_progress for segment in self.segments]
        if any(after <= before for before, after in itertools.pairwise(ends)):
            raise ValueError("to_progress does not ascend - order the segments")
        if not math.isclose(ends[-1], self.total_progress, rel_tol=1e-6):
            raise ValueError("the last to_progress is not total_progress - end the last segment there")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Name the offers, in the file's order."""
        return tuple(offer.offer for offer in self.offers)

    @property
    def prices(self) -> Floats:
        """Give dollars an hour, float[O]."""
        return np.array([offer.usd_per_hour for offer in self.offers])

    @property
    def ends(self) -> Floats:
        """Give the progress at which each segment ends, float[S]."""
        return np.array([segment.to_progress for segment in self.segments])

    def pace(self) -> Floats:
        """Give seconds for a unit of progress, float[O, S]; infinite where the job does not fit."""
        steps = np.array([segment.progress_per_step for segment in self.segments])
        rows = [[math.inf if v is None else v for v in self.step_seconds[name]] for name in self.names]
        return np.asarray(np.array(rows) / steps)

    def busy(self, offer: int, segment: int) -> float:
        """Give the share of time that the GPUs are busy; unknown is NaN."""
        row = self.gpu_busy_fraction.get(self.names[offer])
        found = row[segment] if row is not None else None
        return math.nan if found is None else found

    def filled(self, offer: int, segment: int) -> float:
        """Give the share of one GPU's memory in use; unknown is NaN."""
        row = self.gpu_memory_fraction.get(self.names[offer])
        found = row[segment] if row is not None else None
        return math.nan if found is None else found


def read(path: Path, boot_seconds: float | None = None) -> Trace:
    """Read a trace file, with another boot time if one is given. Raises ``TraceError``."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise TraceError(f"{path.name} is over {LARGEST_BYTES >> 20} MiB - a trace is one job")
        trace = Trace.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TraceError(f"{path} cannot be read ({error.strerror}) - name an existing trace file") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise TraceError(f"{path.name}: {place + ': ' if place else ''}{message} - see trace file 1") from None
    return trace if boot_seconds is None else trace.model_copy(update={"boot_seconds": boot_seconds})


def redrawn(trace: Trace, random: np.random.Generator) -> Trace:
    """Redraw how long each setting of hyperparameters lasts, as shares of a Dirichlet distribution of ones.

    Order, speeds and the total stay: a policy that was fitted to the lengths of known traces shows itself here.
    """
    settings = [tuple(sorted(segment.hyperparameters.items())) for segment in trace.segments]
    parts = np.diff(trace.ends, prepend=0.0)
    made = np.empty(len(parts))
    names = list(dict.fromkeys(settings))
    shares = np.maximum(random.dirichlet(np.ones(len(names))), LEAST_SHARE)
    for name, share in zip(names, shares, strict=True):
        mine = np.array([setting == name for setting in settings])
        made[mine] = parts[mine] / parts[mine].sum() * share
    ends = np.cumsum(made) / made.sum() * trace.total_progress
    ends[-1] = trace.total_progress
    changed = [s.model_copy(update={"to_progress": float(end)}) for s, end in zip(trace.segments, ends, strict=True)]
    return trace.model_copy(update={"segments": changed})
