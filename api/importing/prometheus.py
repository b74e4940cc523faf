"""Edge: read runs from files that hold the answer of Prometheus' ``query_range``."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from api.client_http import Failure
from api.importing.series import Point, Recorded
from api.text import plain


def read(files: Sequence[Path], label: str, job: str | None) -> list[Recorded]:
    """Read series; those with one value of ``label`` are one run, those without it belong to ``job``.

    A series is named by its metric, else (the result of an expression) by its file. Raises ``Failure``.
    """
    runs: dict[str, Recorded] = {}
    for file in files:
        for number, one in enumerate(_result(file), start=1):
            metric = one.get("metric") if isinstance(one, Mapping) else None
            if not isinstance(metric, Mapping):
                raise Failure(
                    f"{plain(file)}: series {number} has no metric - export the answer of query_range as it is"
                )
            name = job if job is not None else metric.get(label)
            if name is None:
                labels = ", ".join(sorted(metric)) or "none"
                raise Failure(
                    f"{plain(file)}: series {number} has no label {plain(label)!r} (there are: {plain(labels)}) - "
                    "choose one with --label, or name the job with --job", 2
                )  # fmt: skip
            run = runs.setdefault(str(name), Recorded(str(name)))
            points = run.points.setdefault(str(metric.get("__name__", file.stem)), [])
            points.extend(_point(file, number, value) for value in one.get("values", ()))
    found = [run for run in runs.values() if any(run.points.values())]
    if not found:
        raise Failure(f"{plain(files[0])} holds no series - widen the query's time or check its expression")
    return found


def _result(file: Path) -> Sequence[Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"{plain(file)} cannot be read ({error.strerror}) - name an existing file", 2) from None
    except json.JSONDecodeError as error:
        raise Failure(f"{plain(file)}:{error.lineno}: not JSON ({error.msg}) - export it again", 2) from None
    except ValueError as error:
        raise Failure(f"{plain(file)} is not JSON ({plain(error)}) - export it again", 2) from None
    data = found.get("data") if isinstance(found, dict) else None
    if not isinstance(data, dict) or data.get("resultType") != "matrix" or not isinstance(data.get("result"), list):
        raise Failure(f"{plain(file)} is no answer of query_range (resultType matrix) - ask /api/v1/query_range", 2)
    result: list[Any] = data["result"]
    return result


def _point(file: Path, number: int, value: Any) -> Point:
    try:
        at, text = value
        return math.nan, float(at), float(text)
    except (TypeError, ValueError):
        raise Failure(f'{plain(file)}: series {number} holds {plain(value)!r}, not [time, "value"] - mend it') from None
