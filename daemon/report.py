"""Pure decisions: the body of a hook's answer, or of a push, checked into a report.

A body is refused as a whole only when it is not this job's report at all; else what is wrong in it is left out field by
field and counted. Unknown is never zero: a value that is not a finite number in range is missing from its mapping.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from daemon.types import USAGE, Checkpoint, Declared, Observation, Report, TrainingState
from providers.types import Resources

LARGEST_BYTES = 64 * 1024
MOST_ROWS = 1000
MOST_KEYS = 64
LARGEST_COUNT = 10**15
LARGEST_VALUE = 1e18
LONGEST_STEP_SECONDS = 7 * 86400.0
SLACK = 1.5
"""A usage may read this many times what the machine is listed with before it is not believed."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@:-]{0,63}")
_LIMITS = {
    "cpu_cores": 4096.0,
    "gpu_util": 1.5,
    "gpu_memory_gib": 65536.0,
    "memory_gib": 65536.0,
    "network_mbps": 1e7,
    "disk_mbps": 1e7,
}
_STATES: tuple[TrainingState, ...] = ("training", "checkpointing", "ready", "done", "diverged")

Word = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
_T = TypeVar("_T")


class ReportRefused(ValueError):
    """The body is not this job's report. ``str()`` is one line."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class Body(_Strict):
    """The envelope of protocol 1. What it holds is checked field by field afterwards."""

    protocol: Literal[1]
    job: Word
    run: Word
    next: Count
    observations: list[Any] = []
    declared: Any = None
    checkpoint: Any = None
    state: Any = "training"


class CheckpointBody(_Strict):
    """A checkpoint as a job reports it."""

    id: Word
    step: Count
    seconds: Annotated[float, Field(ge=0, le=86400.0)] | None = None
    uri: Annotated[str, StringConstraints(max_length=1000)] | None = None


class DeclaredBody(_Strict):
    """A declared change as a job reports it."""

    from_step: Count
    hyperparameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """A report, and whether the job has more to tell after it. ``job_next`` is ``next`` as the job wrote it.

    ``report.next`` counts from what this body holds, so that nothing is skipped whether ``next`` closes this page or
    the job's whole buffer.
    """

    report: Report
    more: bool
    job_next: int


def read(body: bytes, job: str, received_at: datetime, facts: Resources | None = None) -> Report:
    """Check a body into a report. ``facts`` is what a node of the job has, for the range checks, where known.

    Raises ``ReportRefused`` when it is too large, not JSON, not protocol 1 or another job's.
    """
    return examine(body, job, received_at, facts).report


def examine(
    body: bytes,
    job: str,
    received_at: datetime,
    facts: Resources | None = None,
    last: tuple[str, int] | None = None,
) -> Reading:
    """Check a body as ``read`` does. ``last`` is the run and step already known: earlier steps of it are dropped."""
    envelope, strange = _envelope(body, job)
    dropped: Counter[str] = Counter({"unknown_key": strange} if strange else {})
    rows = _Rows(envelope.run, received_at, _limits(facts), dropped)
    floor = last[1] if last is not None and last[0] == envelope.run else -1
    observations, newest = rows.all(envelope.observations[:MOST_ROWS], floor)
    cut = len(envelope.observations) - MOST_ROWS
    if cut > 0:
        dropped["too_many_rows"] += cut
    following = envelope.next if newest is None else newest + 1
    state = _one_of(envelope.state, _STATES)
    if state is None:
        dropped["bad_state"] += 1
    report = Report(
        job=job,
        run=envelope.run,
        next=following,
        observations=tuple(observations),
        declared=_declared(envelope.declared, dropped),
        checkpoint=_checkpoint(envelope.checkpoint, dropped),
        state=state or "training",
        dropped=dict(dropped),
    )
    full = len(body) > LARGEST_BYTES // 2 or len(envelope.observations) >= MOST_ROWS
    return Reading(report, newest is not None and (envelope.next > following or full), envelope.next)


def _envelope(body: bytes, job: str) -> tuple[Body, int]:
    if len(body) > LARGEST_BYTES:
        raise ReportRefused(f"the report has {len(body)} bytes, over {LARGEST_BYTES} - send less at a time")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise ReportRefused("the report is not JSON - send one JSON object") from None
    if not isinstance(document, dict):
        raise ReportRefused("the report is not a JSON object - send one JSON object")
    if document.get("protocol") != 1 or document["protocol"] is True:
        raise ReportRefused("the report is not of protocol 1 - update the client or the daemon")
    try:
        envelope = Body.model_validate(document)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in wrong["loc"])
        raise ReportRefused(f"the report's field {field} is wrong: {wrong['msg']}") from None
    if envelope.job != job:
        raise ReportRefused("the report is another job's - check which hook belongs to which job")
    return envelope, len(document.keys() - Body.model_fields.keys())


def _limits(facts: Resources | None) -> Mapping[str, float]:
    if facts is None:
        return _LIMITS
    limits = dict(_LIMITS)
    limits["cpu_cores"] = facts.cpu_cores * SLACK
    limits["memory_gib"] = facts.memory_gib * SLACK
    if facts.gpus:
        limits["gpu_memory_gib"] = facts.gpu_memory_gib * facts.gpus * SLACK
    if facts.network_gbps:
        limits["network_mbps"] = facts.network_gbps * 1000 * SLACK * 2  # both directions
    return limits


class _Rows:
    """The rows of one body; counts what it drops."""

    def __init__(self, run: str, received_at: datetime, limits: Mapping[str, float], dropped: Counter[str]) -> None:
        self._run = run
        self._received_at = received_at
        self._limits = limits
        self._dropped = dropped

    def all(self, rows: list[Any], floor_step: int) -> tuple[list[Observation], int | None]:
        """Check the rows in order: those kept, and the highest sequence number seen."""
        kept: list[Observation] = []
        newest: int | None = None
        for row in rows:
            seq = _count(row.get("seq")) if isinstance(row, dict) else None
            if seq is None:
                self._dropped["bad_row"] += 1
                continue
            if newest is not None and seq <= newest:
                self._dropped["repeated_seq"] += 1
                continue
            newest = seq
            step = _count(row.get("step"))
            if step is None:
                self._dropped["bad_step"] += 1
            elif step <= floor_step:
                self._dropped["repeated_step" if step == floor_step else "backward_step"] += 1
            else:
                floor_step = step
                kept.append(self._one(row, seq, step))
        return kept, newest

    def _one(self, row: Mapping[str, Any], seq: int, step: int) -> Observation:
        raw = row.get("metrics")
        diverged = row.get("loss_state") == "diverged" or (isinstance(raw, dict) and any(map(_lost, raw.items())))
        return Observation(
            run=self._run,
            seq=seq,
            step=step,
            at=self._time(row.get("at")),
            received_at=self._received_at,
            hyperparameters=self._numbers(row.get("hyperparameters")),
            metrics=self._numbers(raw),
            loss_state="diverged" if diverged else "ok",
            step_seconds=self._number(row, "step_seconds", lambda value: 0 < value <= LONGEST_STEP_SECONDS),
            usage=self._usage(row.get("usage")),
            total_steps=self._total(row.get("total_steps")),
        )

    def _time(self, given: object) -> datetime | None:
        if given is None:
            return None
        try:
            at = datetime.fromisoformat(given) if isinstance(given, str) and len(given) <= 40 else None
            if at is not None and at.tzinfo is not None:
                return at.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        self._dropped["bad_time"] += 1
        return None

    def _numbers(self, given: object) -> dict[str, float]:
        if given is None:
            return {}
        if not isinstance(given, dict):
            self._dropped["not_a_mapping"] += 1
            return {}
        if len(given) > MOST_KEYS:
            self._dropped["too_many_keys"] += len(given) - MOST_KEYS
        found: dict[str, float] = {}
        for name in list(given)[:MOST_KEYS]:
            if not _NAME.fullmatch(name):
                self._dropped["bad_name"] += 1
                continue
            value = self._number(given, name, lambda value: abs(value) <= LARGEST_VALUE)
            if value is not None:
                found[name] = value
        return found

    def _usage(self, given: object) -> dict[str, float]:
        if given is None:
            return {}
        if not isinstance(given, dict):
            self._dropped["not_a_mapping"] += 1
            return {}
        unknown = len(given.keys() - set(USAGE))
        if unknown:
            self._dropped["unknown_usage"] += unknown
        found: dict[str, float] = {}
        for name in USAGE:
            if name in given:
                most = self._limits[name]
                value = self._number(given, name, lambda value, most=most: value <= most, least=0.0)
                if value is not None:
                    found[name] = value
        return found

    def _number(
        self, given: Mapping[str, Any], name: str, fits: Callable[..., bool], least: float | None = None
    ) -> float | None:
        """Take one number, or count why not."""
        if name not in given:
            return None
        value = given[name]
        if value is None:
            reason = "null"
        elif isinstance(value, bool) or not isinstance(value, int | float):
            reason = "not_a_number"
        elif isinstance(value, int) and abs(value) > LARGEST_VALUE:
            reason = "out_of_range"
        elif not math.isfinite(value):
            reason = "not_finite"
        elif least is not None and value < least:
            reason = "negative"
        elif not fits(value):
            reason = "out_of_range"
        else:
            return float(value)
        self._dropped[reason] += 1
        return None

    def _total(self, given: object) -> int | None:
        if given is None:
            return None
        total = _count(given)
        if not total:
            self._dropped["bad_total_steps"] += 1
            return None
        return total


def _count(given: object) -> int | None:
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= LARGEST_COUNT:
        return None
    return given


def _lost(metric: tuple[str, Any]) -> bool:
    """Say whether a metric is a loss that is no longer finite."""
    name, value = metric
    return name.lower().endswith("loss") and isinstance(value, float) and not math.isfinite(value)


def _one_of(given: object, words: tuple[_T, ...]) -> _T | None:
    return next((word for word in words if word == given), None)


def _declared(given: object, dropped: Counter[str]) -> tuple[Declared, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        dropped["bad_declared"] += 1
        return ()
    found: dict[int, Declared] = {}
    for one in given[:MOST_ROWS]:
        try:
            body = DeclaredBody.model_validate(one)
        except ValidationError:
            dropped["bad_declared"] += 1
            continue
        values = _Rows("", datetime.min.replace(tzinfo=UTC), _LIMITS, dropped)._numbers(body.hyperparameters)
        if values:
            found[body.from_step] = Declared(body.from_step, values)
    return tuple(found[step] for step in sorted(found))


def _checkpoint(given: object, dropped: Counter[str]) -> Checkpoint | None:
    if given is None:
        return None
    try:
        body = CheckpointBody.model_validate(given)
    except ValidationError:
        dropped["bad_checkpoint"] += 1
        return None
    return Checkpoint(body.id, body.step, body.seconds, _bare(body.uri))


def _bare(uri: str | None) -> str | None:
    """Take user, query and fragment off a URI: a signed one would be a secret."""
    if uri is None:
        return None
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/@]*@", r"\1", re.split(r"[?#]", uri, maxsplit=1)[0])
