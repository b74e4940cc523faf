"""Pure decisions: what a run says in hook protocol 1, as JSON of at most 64 KiB. Never a NaN in it."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from scaleahead.buffer import Sample, finite

PROTOCOL = 1
MOST_BYTES = 64 * 1024
MOST_DECLARED = 256


def timestamp(wall: float) -> str:
    """Write seconds since 1970 as RFC 3339 in UTC, to the millisecond."""
    milliseconds = round(wall * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000)) + f".{milliseconds % 1000:03d}Z"


def loss_state(metrics: Mapping[str, Any]) -> str:
    """Say "diverged" if a metric that is a loss is not finite, else "ok"."""
    return "diverged" if any("loss" in n.lower() and finite(v) is None for n, v in metrics.items()) else "ok"


def observation(sample: Sample, total_steps: int | None) -> dict[str, Any]:
    """Write one sample; what is unknown or not finite is left out."""
    entry: dict[str, Any] = {"seq": sample.seq, "step": sample.step, "at": timestamp(sample.at)}
    if total_steps is not None:
        entry["total_steps"] = total_steps
    entry["hyperparameters"] = _numbers(sample.hyperparameters)
    entry["metrics"] = _numbers(sample.metrics)
    entry["loss_state"] = loss_state(sample.metrics)
    if sample.steps and math.isfinite(sample.seconds) and sample.seconds >= 0:
        entry["step_seconds"] = sample.seconds / sample.steps
    entry["usage"] = _numbers(sample.usage)
    return entry


def reply(
    head: Mapping[str, Any],
    samples: Sequence[Sample],
    end: int,
    total_steps: int | None,
    most_bytes: int = MOST_BYTES,
) -> bytes:
    """Write one page: ``head``, then as many samples from the oldest on as fit; ``next`` is where to go on.

    ``end`` is what ``next`` says when all of them fit.
    """
    frame = {**head, "next": end, "observations": []}
    # room for a longer ``next``
    room = most_bytes - len(_dump(frame).encode()) - 24
    entries: list[str] = []
    upto = end
    for sample in samples:
        entry = _dump(observation(sample, total_steps))
        room -= len(entry.encode()) + 1
        if room < 0:
            break
        entries.append(entry)
        upto = sample.seq + 1
    if len(entries) == len(samples):
        upto = end
    elif not entries:
        upto = samples[0].seq - 1
    frame["next"] = upto
    marker = '"observations":[]'
    return _dump(frame).replace(marker, f'"observations":[{",".join(entries)}]', 1).encode()


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: finite(value) for name, value in values.items()}
    return {name: value for name, value in numbers.items() if value is not None}


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
