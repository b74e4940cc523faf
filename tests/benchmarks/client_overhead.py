"""Edge: what one ``Reporter.step`` costs a training loop."""

import json
import statistics
import time
from collections.abc import Callable

from scaleahead import Reporter

STEPS = 20_000


def measure(steps: int = STEPS) -> dict[str, float]:
    """Time calls as a loop makes them: a hook served, a changing loss, the usage looked at.

    ``steady`` is how a fast loop meets it (most steps merged), ``every`` with each step kept.
    """
    return {
        **{f"steady_{name}": value for name, value in _times(steps, 0.2).items()},
        **{f"every_{name}": value for name, value in _times(min(steps, 4000), 0.0).items()},
    }


def _times(steps: int, every_seconds: float) -> dict[str, float]:
    with Reporter("bench", hook_port=0, every_seconds=every_seconds) as report:
        taken = [_timed(report.step, step) for step in range(steps)]
    taken.sort()
    return {
        "median_us": statistics.median(taken) * 1e6,
        "p99_us": taken[int(len(taken) * 0.99)] * 1e6,
    }


def _timed(call: Callable[..., None], step: int) -> float:
    hyperparameters, metrics = {"batch_size": 64, "lr": 1e-3 / (step + 1), "seq_len": 256}, {"loss": 1.0 / (step + 1)}
    began = time.perf_counter()
    call(step, hyperparameters, metrics)
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(measure()))
