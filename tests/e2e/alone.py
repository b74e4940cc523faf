"""``python -m tests.e2e.alone MODULE``: run a job's module once no other process of the job does.

Its checkpoints lie where several machines can reach them (``SCALEAHEAD_CHECKPOINTS``); a lock there lets the process on
a new machine wait until the one on the old machine has ended, as a volume does that one machine at a time may mount.
"""

import fcntl
import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    folder = Path(os.environ["SCALEAHEAD_CHECKPOINTS"])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
