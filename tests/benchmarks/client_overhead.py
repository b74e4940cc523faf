"""Edge: what one ``Reporter.step`` costs a training loop, what the samples hold, and how fast they are caught up."""

import json
import statistics
import time
import tracemalloc
import urllib.request
from collections.abc import Callable

from scaleahead import Reporter

STEPS = 20_000
HOURS_AWAY = 6
STEPS_A_SECOND = 2


def measure(steps: int = STEPS) -> dict[str, float]:
    """Time calls as a loop makes them: a hook served, a changing loss, the usage looked at.

    ``steady`` is how a fast loop meets it (most steps merged), ``every`` with each step kept. ``away`` is a daemon that
    asks for the first time after six hours: what is held until then, and how long it takes to have it all.
    """
    return {
        **_away(),
        **{f"steady_{name}": value for name, value in _times(steps, 0.2).items()},
        **{f"every_{name}": value for name, value in _times(min(steps, 4000), 0.0).items()},
    }


def _away() -> dict[str, float]:
    """Report six hours of steps on a clock of our own, then ask page by page over HTTP until all is told."""
    now = [0.0]
    tracemalloc.start()
    with Reporter("bench", hook_port=0, usage=dict, clock=lambda: now[0]) as report:
        for step in range(HOURS_AWAY * 3600 * STEPS_A_SECOND):
            now[0] += 1 / STEPS_A_SECOND
            _timed(report.step, step)
        held_mib = tracemalloc.get_traced_memory()[0] / 2**20
        tracemalloc.stop()
        began, after, pages, size, rows = time.perf_counter(), 0, 0, 0, 0
        while True:
            with urllib.request.urlopen(f"{report.url}?after={after}", timeout=30) as reply:
                body = reply.read()
            page = json.loads(body)
            if not page["observations"]:
                break
            pages, size, rows, after = pages + 1, size + len(body), rows + len(page["observations"]), page["next"]
        seconds = time.perf_counter() - began
        dropped = report.counts["dropped"]
    figures = {"held_mib": held_mib, "rows": rows, "pages": pages, "sent_mib": size / 2**20, "seconds": seconds}
    return {f"away_{name}": float(value) for name, value in {**figures, "thinned": dropped}.items()}


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
