"""A job small enough to be started a hundred times: it counts steps, says it uses much memory, saves when asked."""

import json
import os
import time
from pathlib import Path

from scaleahead import Reporter

STEPS = 100_000


def main() -> None:
    rate, origin = float(os.environ["SCALEAHEAD_TIME_RATE"]), float(os.environ["SCALEAHEAD_TIME_ORIGIN"])
    kept = Path(os.environ.get("SCALEAHEAD_CHECKPOINTS") or os.environ["SCALEAHEAD_DISK"]) / "step.json"
    step = json.loads(kept.read_text())["step"] if kept.exists() else 0

    def save() -> str:
        torn = kept.with_suffix(".partial")
        torn.write_text(json.dumps({"step": step, "errors": report.errors}))
        torn.rename(kept)
        return str(kept)

    def usage() -> dict[str, float]:
        """Say what is used: what the file says that a test may write, else much memory."""
        said = os.environ.get("TINY_USAGE")
        if said is not None:
            return dict(json.loads(Path(said).read_text()))
        return {"memory_gib": float(os.environ.get("TINY_MEMORY_GIB", "15.7")), "cpu_cores": 1.0}

    with Reporter(
        os.environ["SCALEAHEAD_JOB"],
        total_steps=STEPS,
        clock=lambda: time.monotonic() * rate,
        wall=lambda: origin + (time.time() - origin) * rate,
        usage=usage,
    ) as report:
        while step < STEPS:
            time.sleep(float(os.environ.get("TINY_STEP_SECONDS", "0.02")))
            step += 1
            report.at_step_end(step, {"batch_size": 8}, {"loss": 1.0 / step}, save=save)


if __name__ == "__main__":
    main()
