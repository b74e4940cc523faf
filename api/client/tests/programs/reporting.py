"""What the programs report by: a free port on their own, or all that a simulated machine says of itself."""
# ruff: noqa: ANN002, ANN003 - shipped beside the client; these types say nothing a reader needs

import os
import sys
import time
from pathlib import Path

from scaleahead import Reporter


class Paced(Reporter):
    """A small job that takes as long as a large one until it is moved: the move has to come while it runs."""

    def step(self, step: int, *given, **named) -> None:
        """Report the step, after a rest."""
        if self._first is None:
            self._first = step
        if self._first == 1:
            time.sleep(0.1 if step < 100 else 1.0)
        super().step(step, *given, **named)

    _first: int | None = None


def reporter(job: str) -> Reporter:
    """Give the reporter; the hook's address is written to the folder."""
    if "SCALEAHEAD_TIME_RATE" in os.environ:
        rate, origin = float(os.environ["SCALEAHEAD_TIME_RATE"]), float(os.environ["SCALEAHEAD_TIME_ORIGIN"])
        memory = float(os.environ["TINY_MEMORY_GIB"])
        return Paced(
            clock=lambda: time.monotonic() * rate,
            wall=lambda: origin + (time.time() - origin) * rate,
            usage=lambda: {"memory_gib": memory, "cpu_cores": 1.0},
        )
    made = Reporter(job, hook_port=0, every_seconds=0)
    (folder() / "url").write_text(str(made.url))
    return made


def folder() -> Path:
    """Give the disk that stays when the machine goes."""
    return Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["SCALEAHEAD_DISK"])
