"""Two ranks under torchrun; the first time rank 1 fails. Argument: a folder."""

import json
import os
import sys
import time
from pathlib import Path

from scaleahead import Reporter

folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
again = os.environ["TORCHELASTIC_RESTART_COUNT"] == "1"


def usage() -> dict[str, float]:
    """Give as many GiB as tell the ranks apart."""
    return {"memory_gib": 10.0 + rank, "cpu_cores": 1.0}


report = Reporter("ranks", usage=usage, every_seconds=0)
until = time.monotonic() + 60
step = 0
while time.monotonic() < until:
    step += 1
    report.step(step, {"batch_size": 8})
    if not report.active:
        if not again and (folder / "0").exists():
            sys.exit("this rank fails")
        if again and (folder / "1").exists():
            break
        time.sleep(0.05)  # a real rank is waited for
        continue
    said = json.loads(report.body(-1))
    if said["observations"][-1]["usage"]["memory_gib"] > 20:
        name = folder / ("1" if again else "0")
        name.with_suffix(".partial").write_text(json.dumps(said))
        name.with_suffix(".partial").rename(name)
        if again:
            break
    time.sleep(0.05)
