"""Edge: read runs that MLflow has recorded: its file store (``mlruns``) or its SQLite database."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from api.client_http import Failure
from api.importing.series import Point, Recorded, number
from api.text import plain


def read(place: Path) -> list[Recorded]:
    """Read every run that was not deleted. Raises ``Failure``."""
    if place.is_file():
        found = _database(place)
    elif place.is_dir():
        found = [_run(meta, group) for meta, group in _metas(place)]
    else:
        raise Failure(f"{plain(place)} is not there - name the folder mlruns, or the file mlflow.db", 2)
    found = [run for run in found if run.points]
    if not found:
        raise Failure(f"{plain(place)} holds no run with metrics - name the folder mlruns, or the file mlflow.db", 2)
    return found


def _metas(root: Path) -> Iterator[tuple[Path, str]]:
    for experiment in sorted(path.parent for path in root.glob("*/meta.yaml")):
        name = str(_yaml(experiment / "meta.yaml").get("name", experiment.name))
        for meta in sorted(experiment.glob("*/meta.yaml")):
            if _yaml(meta).get("lifecycle_stage", "active") == "active" and (meta.parent / "metrics").is_dir():
                yield meta, name


def _yaml(file: Path) -> dict[str, Any]:
    try:
        found = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise Failure(f"{plain(file)} cannot be read ({plain(' '.join(str(error).split())[:100])}) - mend it") from None
    return found if isinstance(found, dict) else {}


def _run(meta: Path, group: str) -> Recorded:
    told, folder = _yaml(meta), meta.parent
    owner = told.get("user_id") or _text(folder / "tags" / "mlflow.user")
    name = told.get("run_name") or _text(folder / "tags" / "mlflow.runName") or folder.name
    started = told.get("start_time")
    run = Recorded(f"{name}-{folder.name[:8]}", group, str(owner), float(started or math.nan) / 1000)
    for file in _files(folder / "metrics"):
        run.points[_named(file, folder / "metrics")] = list(_points(file))
    for file in _files(folder / "params"):
        value = number(_text(file))
        if math.isfinite(value):
            run.settings[_named(file, folder / "params")] = value
    return run


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


def _named(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{plain(file)} cannot be read ({plain(error)}) - mend it") from None


def _points(file: Path) -> Iterator[Point]:
    """Read lines of ``milliseconds value step``; the step was not always written."""
    for line, text in enumerate(_text(file).splitlines(), start=1):
        words = text.split()
        try:
            at, value, step = float(words[0]), float(words[1]), float(words[2]) if len(words) > 2 else 0.0
        except (IndexError, ValueError):
            raise Failure(
                f"{plain(file)}:{line}: {plain(text[:40])!r} is not 'milliseconds value step' - mend or drop the line"
            ) from None
        yield step, at / 1000, value


_RUNS = """SELECT r.run_uuid, r.name, r.user_id, r.start_time, e.name FROM runs r
    JOIN experiments e ON e.experiment_id = r.experiment_id WHERE r.lifecycle_stage = 'active' ORDER BY r.start_time"""


def _database(file: Path) -> list[Recorded]:
    try:
        with closing(sqlite3.connect(f"file:{file.resolve()}?mode=ro", uri=True)) as opened:
            runs = {
                uuid: Recorded(
                    f"{name or uuid}-{uuid[:8]}", group, owner or "", started / 1000 if started else math.nan
                )
                for uuid, name, owner, started, group in opened.execute(_RUNS)
            }
            for uuid, key, value, at, step, lost in opened.execute(
                "SELECT run_uuid, key, value, timestamp, step, is_nan FROM metrics ORDER BY step, timestamp"
            ):
                if uuid in runs:
                    figure = math.nan if lost else float(value)
                    runs[uuid].points.setdefault(key, []).append((float(step), at / 1000, figure))
            for uuid, key, text in opened.execute("SELECT run_uuid, key, value FROM params"):
                if uuid in runs and math.isfinite(value := number(str(text))):
                    runs[uuid].settings[key] = value
    except sqlite3.Error as error:
        raise Failure(
            f"{plain(file)} is no database of MLflow ({plain(error)}) - name mlflow.db, or mlruns", 2
        ) from None
    return list(runs.values())
