"""Edge: the command ``scaleahead replay-spot``: reads recorded availability, plays it in processes, prints."""

import json
from dataclasses import asdict
from pathlib import Path

from joblib import Parallel, delayed

from api.client_http import Failure
from api.text import plain
from daemon.replay import spot_report
from daemon.replay.spot_report import SPOT_NAMES, SpotName, SpotPlan, SpotRow
from daemon.replay.spot_trace import Terms, groups, read, terms
from daemon.replay.trace import TraceError


def replay_spot(
    csv: Path, asked: tuple[float, float, float, float, float], starts: int, seed: int, zones: int,
    compare: str | None, jobs: int, as_json: bool,
) -> str:  # fmt: skip
    """Replay a file of run lengths and give what to print. Raises ``Failure`` with one line.

    ``asked`` are work and deadline in hours, the changeover in minutes, dollars an hour on demand and on spot.
    """
    plan = SpotPlan(_terms(asked), _names(compare), starts, seed)
    try:
        chosen = groups(read(csv), zones)
        if not chosen:
            raise Failure(f"no trace in {plain(csv.name)} has {zones} zones of one machine type - ask for fewer", 2)
        found = Parallel(n_jobs=jobs)(delayed(spot_report.spot_rows)(group, plan) for group in chosen)
    except TraceError as error:
        raise Failure(plain(error), 2) from None
    except ValueError as error:
        raise Failure(plain(error)) from None
    rows: list[SpotRow] = [row for each in found for row in each]
    if as_json:
        return json.dumps({"rows": [asdict(row) for row in rows], "summary": spot_report.spot_summary(rows)}, indent=2)
    return spot_report.spot_table(rows)


def _terms(asked: tuple[float, float, float, float, float]) -> Terms:
    try:
        return terms(*asked)
    except ValueError as error:
        raise Failure(plain(error), 2) from None


def _names(compare: str | None) -> tuple[SpotName, ...]:
    if compare is None:
        return SPOT_NAMES
    asked = [name.strip() for name in compare.split(",")]
    unknown = [name for name in asked if name not in SPOT_NAMES]
    if unknown:
        raise Failure(f"no policy {plain(unknown[0])!r} to compare - known are {', '.join(SPOT_NAMES)}", 2)
    return tuple(name for name in SPOT_NAMES if name in asked)
