"""Edge: the note of where the newest whole checkpoint lies, written once the checkpoint is; the next start reads it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

NOTE = "scaleahead.json"


@dataclass(frozen=True, slots=True)
class Place:
    """A whole checkpoint: the steps done when it was saved, and the file or folder it lies in."""

    step: int
    path: str


def note(folder: str | os.PathLike[str], step: int, path: str | os.PathLike[str]) -> None:
    """Note the newest checkpoint in its ``folder``, in one piece or not at all. Raises ``OSError``."""
    target = Path(folder) / NOTE
    partial = target.with_suffix(".partial")
    relative = os.path.relpath(path, folder)
    with partial.open("w") as file:
        json.dump({"step": step, "path": relative}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)


def find(folder: str | os.PathLike[str]) -> Place | None:
    """Find the checkpoint noted last; ``None`` if there is none or it was removed. What was torn was never noted."""
    try:
        said = json.loads((Path(folder) / NOTE).read_text())
        step, path = int(said["step"]), Path(folder) / str(said["path"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Place(step, str(path)) if path.exists() else None
