"""Edge: the command ``scaleahead replay``: reads traces and a policy file, plays them in processes, prints."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from joblib import Parallel, delayed

from api import plot, replay_plot
from api.client_http import Failure
from api.text import plain
from daemon.replay import report
from daemon.replay.report import KNOWN, NAMES, Name, Plan, Replayed, Speeds
from daemon.replay.run import Schedule
from daemon.replay.trace import TraceError
from policies import config
from policies.base import Policy
from policies.cost_per_progress import CostPerProgress
from policies.kinds import installed
from policies.types import Settings


def replay(
    traces: Sequence[Path], value_of_time: float | None, policy: Path | None, schedule: str, speeds: str,
    compare: str | None, boot: float | None, jobs: int, as_json: bool, noise: float = 0.0, seed: int = 0,
    redraw: bool = False, picture: Path | None = None,
) -> str:  # fmt: skip
    """Replay traces, draw a picture of each if asked, and give what to print. Raises ``Failure`` with one line."""
    if schedule not in ("declared", "inferred"):
        raise Failure(f"--schedule is {plain(schedule)!r} - give declared or inferred", 2)
    if speeds not in ("known", "learned"):
        raise Failure(f"--speeds is {plain(speeds)!r} - give known or learned", 2)
    if picture is not None:
        plot.check(picture)
    settings, made = _policy(policy, value_of_time)
    known: Schedule = "declared" if schedule == "declared" else "inferred"
    told: Speeds = "learned" if speeds == "learned" else "known"
    plan = Plan(_names(compare), known, settings, made, boot, noise, seed, redraw, told)
    try:
        found: list[Replayed] = Parallel(n_jobs=jobs)(delayed(report.replayed)(path, plan) for path in traces)
    except TraceError as error:
        raise Failure(plain(error), 2) from None
    except ValueError as error:
        raise Failure(plain(error)) from None
    if picture is not None:
        for path, one in zip(replay_plot.pictures(picture, [path.stem for path in traces]), found, strict=True):
            replay_plot.draw(path, one, settings.value_of_time_usd_per_hour)
    rows = [row for each in found for row in each.rows]
    moves = [move for each in found for move in each.moves]
    if as_json:
        summary = report.summary(rows, moves)
        said = {"rows": [asdict(row) for row in rows], "summary": summary, "moves": [asdict(move) for move in moves]}
        return json.dumps(said, indent=2)
    return report.table(rows, moves)


def _names(compare: str | None) -> tuple[Name, ...]:
    if compare is None:
        return NAMES
    asked = [name.strip() for name in compare.split(",")]
    unknown = [name for name in asked if name not in KNOWN]
    if unknown:
        raise Failure(f"no policy {plain(unknown[0])!r} to compare - known are {', '.join(KNOWN)}", 2)
    return tuple(name for name in KNOWN if name in asked)


def _policy(file: Path | None, value_of_time: float | None) -> tuple[Settings, Policy]:
    if file is None:
        made = Settings("replay", "cost_per_progress", "built-in", value_of_time_usd_per_hour=value_of_time or 0.0)
        return made, CostPerProgress()
    try:
        found, problems = config.load(file.read_bytes(), str(file))
    except OSError as error:
        raise Failure(f"{plain(file)} cannot be read ({error.strerror}) - name an existing file", 2) from None
    if problems:
        raise Failure(plain(problems[0]), 2)
    if len(found) != 1:
        raise Failure(f"{plain(file)} holds {len(found)} policies - give a file with the one to replay", 2)
    settings = found[0]
    if value_of_time is not None:
        settings = replace(settings, value_of_time_usd_per_hour=value_of_time)
    return settings, config.policy_of(settings.kind, installed())
