"""Edge: the commands ``import csv|tensorboard|mlflow|prometheus``: recorded runs into a history file or the store."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.client_http import Failure
from api.text import plain

if TYPE_CHECKING:  # the command line answers at once: numpy and what reads files come with the command
    from api.importing.naming import Named
    from api.importing.series import Recorded
    from daemon.backtest.history import Run

app = typer.Typer(help="Bring recorded runs into a history file or the store.", no_args_is_help=True)

Out = Annotated[Path | None, typer.Option("--out", help="History file to write, .parquet or .csv.")]
IntoStore = Annotated[bool, typer.Option("--into-store", help="Put the runs into the store, as finished jobs.")]
Map = Annotated[
    str | None,
    typer.Option("--map", help="NAME=COLUMN, with commas between: loss=metric.loss,mb=usage.memory_gib/1024."),
]
Owner = Annotated[str | None, typer.Option(help="Whose runs they are: the owner's later jobs are foretold by them.")]
Group = Annotated[str | None, typer.Option(help="The workload that they are runs of.")]
Config = Annotated[str | None, typer.Option(help="The daemon's configuration, for --into-store.")]
Policy = Annotated[str, typer.Option(help="Policy of the jobs in the store; nothing is decided for them.")]


@dataclass(frozen=True, slots=True)
class Goal:
    """Where runs go, and whose they are."""

    out: Path | None
    into_store: bool
    owner: str | None
    group: str | None
    config: str | None
    policy: str


@app.command("csv")
def csv_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV files, one row an observation.")],
    out: Out = None, into_store: IntoStore = False, rules: Map = None, owner: Owner = None, group: Group = None,
    config: Config = None, policy: Policy = "default",
) -> None:  # fmt: skip
    """Import CSV files with any columns: names are guessed, said, and told better with --map."""
    from api.importing import table
    from api.importing.series import run_of

    goal = _goal(out, into_store, owner, group, config, policy)
    made: list[Run | None] = []
    for file in files:
        names, rows = table.read(file)
        used = _named(names, rules, table.wordy(rows, names), f"{plain(file)}: ")
        made += [run_of(one, used) for one in table.runs(file, rows, used)]
    _finish(made, goal)


@app.command("tensorboard")
def tensorboard(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with event files; each in it is a run.")],
    out: Out = None, into_store: IntoStore = False, rules: Map = None, owner: Owner = None, group: Group = None,
    config: Config = None, policy: Policy = "default",
) -> None:  # fmt: skip
    """Import TensorBoard's event files."""
    from api.importing.tensorboard import read

    goal = _goal(out, into_store, owner, group, config, policy)
    _points(read(folder), rules, goal)


@app.command("mlflow")
def mlflow(
    place: Annotated[Path, typer.Argument(metavar="MLRUNS", help="The folder mlruns, or the file mlflow.db.")],
    out: Out = None, into_store: IntoStore = False, rules: Map = None, owner: Owner = None, group: Group = None,
    config: Config = None, policy: Policy = "default",
) -> None:  # fmt: skip
    """Import runs that MLflow has recorded."""
    from api.importing.mlflow import read

    goal = _goal(out, into_store, owner, group, config, policy)
    _points(read(place), rules, goal)


@app.command("prometheus")
def prometheus(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Answers of /api/v1/query_range, as JSON.")],
    label: Annotated[str, typer.Option(help="Label that tells the jobs apart.")] = "job",
    job: Annotated[str | None, typer.Option(help="All series are this job's.")] = None,
    out: Out = None, into_store: IntoStore = False, rules: Map = None, owner: Owner = None, group: Group = None,
    config: Config = None, policy: Policy = "default",
) -> None:  # fmt: skip
    """Import what Prometheus has kept of runs."""
    from api.importing.prometheus import read

    goal = _goal(out, into_store, owner, group, config, policy)
    _points(read(files, label, job), rules, goal)


def _goal(
    out: Path | None, into_store: bool, owner: str | None, group: str | None, config: str | None, policy: str
) -> Goal:
    if out is None and not into_store:
        raise Failure("nothing says where the runs go - give --out FILE.parquet (or .csv), or --into-store", 2)
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise Failure(f"{plain(out)} ends neither in .csv nor in .parquet - choose one of them", 2)
    return Goal(out, into_store, owner, group, config, policy)


def _points(recorded: "Sequence[Recorded]", rules: str | None, goal: Goal) -> None:
    from api.importing.series import raw_names, run_of

    used = _named(raw_names(recorded), rules)
    _finish([run_of(one, used) for one in recorded], goal)


def _named(
    raw: Sequence[str], rules: str | None, wordy: "Sequence[str] | None" = None, where: str = ""
) -> "Mapping[str, Named]":
    """Name the columns, and say on standard error what was guessed. Raises ``Failure``."""
    from api.importing import naming

    try:
        told = naming.rules(rules)
        found = naming.names(raw, told, wordy)
    except naming.MapError as error:
        raise Failure(plain(error), 2) from None
    for line in naming.said(found, raw):
        print(plain(f"{where}{line}"), file=sys.stderr)
    return found


def _finish(made: "Sequence[Run | None]", goal: Goal) -> None:
    from api.importing import keep

    runs = [
        replace(run, owner=goal.owner or run.owner, group=goal.group or run.group) for run in made if run is not None
    ]
    if not runs:
        raise Failure("nothing is left to import: no column holds a figure - name some with --map NAME=COLUMN", 2)
    twice = next((run.job for place, run in enumerate(runs) if run.job in {one.job for one in runs[:place]}), None)
    if twice is not None:
        raise Failure(f"two runs are named {plain(twice)} - import them one by one, or rename one in the records", 2)
    rows = sum(len(run) for run in runs)
    if goal.out is not None:
        keep.write(runs, goal.out)
        print(f"{len(runs)} runs, {rows} rows written to {plain(goal.out)}")
    if goal.into_store:
        _into_store(runs, goal)


def _into_store(runs: "Sequence[Run]", goal: Goal) -> None:
    from api.importing import keep
    from daemon.config import ConfigError, read
    from daemon.store.base import StoreError
    from daemon.store.open import open_store
    from providers.clock import SystemClock

    if not any(run.owner or run.group for run in runs):
        raise Failure("nothing says whose runs they are, so no later job would be foretold by them - give --owner", 2)
    clock = SystemClock()
    try:
        known = read(goal.config, os.environ)
        known.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = open_store(known.database_url, clock)
        try:
            kept, names = keep.into_store(store, runs, goal.policy, clock.now())
        finally:
            store.close()
    except ConfigError as error:
        raise Failure(plain(error), 2) from None
    except StoreError as error:
        raise Failure(plain(error)) from None
    print(f"{len(names)} runs, {kept} new rows put into the store")
