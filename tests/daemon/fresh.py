"""Edge: a store for a test, copied from one made once: bringing a schema up from nothing is what takes longest."""

import tempfile
from functools import cache
from pathlib import Path

from daemon.store.base import Store
from daemon.store.open import open_store
from providers.clock import Clock, SystemClock


def fresh_store(path: Path, clock: Clock) -> Store:
    """Open the file's store, or an empty one where there is no file yet."""
    if not path.exists():
        path.write_bytes(_made())
    return open_store(path, clock)


@cache
def _made() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.sqlite"
        open_store(path, SystemClock()).close()
        return path.read_bytes()
