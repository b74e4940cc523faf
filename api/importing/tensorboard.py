"""Edge: read runs from a folder of TensorBoard's event files, one run a folder that holds some."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api.client_http import Failure
from api.importing.series import Recorded
from api.text import plain

_PATTERN = "events.out.tfevents.*"


def read(folder: Path) -> list[Recorded]:
    """Read every run below a folder; the job is named by its path below it. Raises ``Failure``."""
    if not folder.exists():
        raise Failure(f"{plain(folder)} is not there - name a folder with TensorBoard's event files", 2)
    files = sorted(folder.rglob(_PATTERN)) if folder.is_dir() else [folder]
    if not files:
        raise Failure(
            f"{plain(folder)} holds no event file ({_PATTERN}) - name the folder that they were written to", 2
        )
    runs: dict[Path, Recorded] = {}
    for file in files:
        place = file.parent
        below = place.relative_to(folder) if folder.is_dir() else Path()
        job = "-".join(below.parts) or folder.resolve().name
        _add(runs.setdefault(place, Recorded(job, group=folder.resolve().name)), file)
    found = [run for run in runs.values() if run.points]
    if not found:
        raise Failure(f"{plain(files[0])} holds no scalars - it is damaged, or none were written", 1)
    return found


def _add(run: Recorded, file: Path) -> None:
    for event, value in _values(file):
        kind = value.metadata.plugin_data.plugin_name
        if kind == "hparams":
            run.settings.update(_settings(value.metadata.plugin_data.content))
            continue
        figure = _scalar(value, kind)
        if figure is not None:
            run.points.setdefault(value.tag, []).append((float(event.step), float(event.wall_time), figure))


def _values(file: Path) -> Iterator[tuple[Any, Any]]:
    """Give each event's values. A file that ends within a record gives what came before."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    except ImportError:
        raise Failure("TensorBoard's files need its package - pip install 'scaleahead-daemon[import]'") from None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    try:
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                yield event, value
    except (OSError, ValueError) as error:
        raise Failure(f"{plain(file)} cannot be read ({plain(error)}) - leave it out or write it again") from None


def _scalar(value: Any, kind: str) -> float | None:
    if value.WhichOneof("value") == "simple_value":
        return float(value.simple_value)
    if kind != "scalars" or value.WhichOneof("value") != "tensor":
        return None
    from tensorboard.util.tensor_util import make_ndarray  # delays tensorboard

    return float(make_ndarray(value.tensor).item())


def _settings(content: bytes) -> dict[str, float]:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # delays tensorboard

    told = HParamsPluginData.FromString(content).session_start_info.hparams
    found = {name: float(one.number_value) for name, one in told.items() if one.WhichOneof("kind") == "number_value"}
    return {name: value for name, value in found.items() if math.isfinite(value)}
