"""Edge: the command line. Every heavy import stands inside the command that needs it, so that help answers at once."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import Abort

from api.client_http import Failure, here, name_in_path
from api.importing.command import app as imports
from api.init.command import app as begin
from api.text import plain

app = typer.Typer(
    name="scaleahead",
    help="Forecasts training jobs and moves them to the right machine before the need arrives.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
jobs = typer.Typer(help="Register, list, show, account for, pause, resume and remove jobs.", no_args_is_help=True)
policies = typer.Typer(help="Check policy files, and compare them with what was decided.", no_args_is_help=True)
prices = typer.Typer(help="The price catalog.", no_args_is_help=True)
database = typer.Typer(help="The daemon's database.", no_args_is_help=True)
tokens = typer.Typer(help="Tokens for the API.", no_args_is_help=True)
for name, group in (("job", jobs), ("policy", policies), ("prices", prices), ("db", database), ("token", tokens)):
    app.add_typer(group, name=name, rich_help_panel=None)
app.add_typer(imports, name="import", rich_help_panel=None)
app.add_typer(begin, name="init", rich_help_panel=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobName = Annotated[str, typer.Argument(metavar="JOB")]


def tell(found: object, as_json: bool, draw: str, *more: Any) -> None:
    """Print an answer as JSON, or drawn by the function of ``api.show`` with this name."""
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from api import show

    show.out(getattr(show, draw)(found, *more))


def job_path(name: str, rest: str = "") -> str:
    return f"/v1/jobs/{name_in_path(name)}{rest}"


@app.command()
def serve(
    config: Annotated[str | None, typer.Option(help="Configuration file (YAML).")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 if not told otherwise.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8642 if not told otherwise.")] = None,
) -> int:
    """Run the daemon with its API and dashboard."""
    from api import main as root

    return root.serve(config, host, port)


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=10, max=3600, help="How long it may take.")] = 120.0,
    headless: Annotated[bool, typer.Option(help="Draw nothing while it runs.")] = False,
    as_json: Json = False,
) -> int:
    """Run real training jobs on a simulated cloud, moved ahead of their need."""
    from api.demo.run import run

    return run(seconds, headless, as_json)


@jobs.command("add")
def job_add(
    job: JobName,
    hook: Annotated[str | None, typer.Option(help="URL that the daemon polls; without it the job pushes.")] = None,
    provider: Annotated[str | None, typer.Option(help="Cloud of the machine under the job.")] = None,
    kind: Annotated[str, typer.Option(help="vm, group or pool.")] = "vm",
    target: Annotated[str | None, typer.Option(help="The machine's id in its cloud.")] = None,
    place: Annotated[str | None, typer.Option(help="Its zone or region.")] = None,
    policy: Annotated[str | None, typer.Option(help="Policy to follow.")] = None,
    mode: Annotated[str | None, typer.Option(help="observe, recommend, approve or auto.")] = None,
    total_steps: Annotated[int | None, typer.Option(help="Steps to the finish.")] = None,
    deadline: Annotated[str | None, typer.Option(help="When it must be done, such as 2026-11-30T18:00:00Z.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Dollars it may cost.")] = None,
    file: Annotated[Path | None, typer.Option(help="JSON with any of the API's fields; options win over it.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key again makes no second job.")] = None,
    as_json: Json = False,
) -> None:
    """Register a job."""
    body: dict[str, object] = read_object(file) if file else {}
    given = {
        "name": job, "hook": hook, "policy": policy, "mode": mode, "total_steps": total_steps,
        "deadline": deadline, "budget_usd": budget_usd, "target": target_of(provider, kind, target, place),
    }  # fmt: skip
    body.update({field: value for field, value in given.items() if value is not None})
    made = here().send("POST", "/v1/jobs", body, {"Idempotency-Key": key} if key else None)
    tell(made, as_json, "job")


def target_of(provider: str | None, kind: str, target: str | None, place: str | None) -> dict[str, str] | None:
    """Put a target together. Raises ``Failure`` when only a part of it is given."""
    if provider and target and place:
        return {"provider": provider, "kind": kind, "id": target, "place": place}
    if provider or target or place:
        raise Failure("a target is only given in part - give --provider, --target and --place together", 2)
    return None


def read_object(file: Path) -> dict[str, object]:
    """Read a JSON object. Raises ``Failure``."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"{plain(file)} cannot be read ({error.strerror}) - name an existing file", 2) from None
    except ValueError as error:
        raise Failure(f"{plain(file)} is not JSON ({plain(error)}) - mend it", 2) from None
    if not isinstance(found, dict):
        raise Failure(f"{plain(file)} holds no JSON object - write the fields of a job in braces", 2)
    return found


@jobs.command("list")
def job_list(as_json: Json = False) -> None:
    """List the jobs."""
    tell(here().get("/v1/jobs"), as_json, "jobs")


@jobs.command("show")
def job_show(job: JobName, as_json: Json = False) -> None:
    """Show one job."""
    tell(here().get(job_path(job)), as_json, "job")


@jobs.command("ledger")
def job_ledger(job: JobName, as_json: Json = False) -> None:
    """Show what a job has cost, about what other ways would have cost, and what its moves came to."""
    tell(here().get(job_path(job, "/ledger")), as_json, "ledger")


@jobs.command("pause")
def job_pause(job: JobName, as_json: Json = False) -> None:
    """Leave a job as it is until it is resumed."""
    tell(here().send("PATCH", job_path(job), {"state": "paused"}), as_json, "job")


@jobs.command("resume")
def job_resume(job: JobName, as_json: Json = False) -> None:
    """Look after a job again."""
    tell(here().send("PATCH", job_path(job), {"state": "active"}), as_json, "job")


@jobs.command("rm")
def job_remove(job: JobName) -> None:
    """Take a job away; what is under way is finished first. Its machine is left alone."""
    waiting = here().send("DELETE", job_path(job))
    print(f"{plain(job)}: " + ("is removed once the action under way is finished" if waiting else "removed"))


@app.command()
def top(
    watch: Annotated[bool, typer.Option("--watch", help="Go on every two seconds.")] = False, as_json: Json = False
) -> None:
    """Show how every job stands: machine, money, progress, end, next planned move."""
    if watch and as_json:
        raise Failure("--watch draws a table, --json prints once - give one of them", 2)
    daemon = here()
    if not watch:
        tell(daemon.get("/v1/fleet?limit=1000"), as_json, "fleet")
        return
    from api import show

    show.live(lambda: show.fleet(daemon.get("/v1/fleet?limit=1000")), seconds=2.0)


@app.command()
def forecast(
    job: JobName,
    column: Annotated[str | None, typer.Option(help="What to draw, such as usage.memory_gib or metric.loss.")] = None,
    as_json: Json = False,
) -> None:
    """Show a job's forecast with its intervals."""
    daemon = here()
    ahead = daemon.get(job_path(job, "/forecast"))
    past = None if as_json else daemon.get(job_path(job, "/history"))
    tell(ahead, as_json, "forecast", past, column)


@app.command()
def plan(job: JobName, as_json: Json = False) -> None:
    """Say what would be done with a job now. Nothing is done."""
    tell(here().get(job_path(job, "/plan")), as_json, "plan")


@app.command()
def why(
    job: JobName,
    count: Annotated[int, typer.Option("--last", min=1, max=500, help="How many decisions.")] = 3,
    replay: Annotated[bool, typer.Option("--replay", help="Make each again from its record, and compare.")] = False,
    as_json: Json = False,
) -> int:
    """Say why the last decisions were as they were, with the options and the first limit each ran into."""
    daemon = here()
    found = daemon.get(job_path(job, f"/decisions?full={'false' if replay else 'true'}&limit={count}"))
    if not replay:
        tell(found, as_json, "decisions")
        return 0
    made = [daemon.get(f"/v1/decisions/{name_in_path(one['id'])}/replay") for one in found["decisions"]]
    tell(made, as_json, "replays")
    return 1 if any(one["same"] is False for one in made) else 0


@app.command("why-not")
def why_not(job: JobName, offer: Annotated[str, typer.Argument(metavar="OFFER")], as_json: Json = False) -> None:
    """Say why a job is not on an offer (its id, or the last part of it)."""
    found = here().get(job_path(job, "/plan"))
    seen = {o["offer"]["id"]: o for o in found["options"]}
    matching = [i for i in seen if i == offer] or [i for i in seen if i.rsplit("/", 1)[-1] == offer]
    if not matching:
        raise Failure(
            f"'{plain(offer)}' was not weighed for '{plain(job)}' - 'scaleahead plan {plain(job)}' lists what was"
        )
    tell([seen[i] for i in matching], as_json, "reasons")


@app.command()
def approve(decision: Annotated[str, typer.Argument(metavar="DECISION")], as_json: Json = False) -> None:
    """Let a waiting decision be acted on."""
    tell(here().send("POST", f"/v1/decisions/{name_in_path(decision)}/approve"), as_json, "word")


@app.command()
def reject(decision: Annotated[str, typer.Argument(metavar="DECISION")], as_json: Json = False) -> None:
    """Refuse a waiting decision."""
    tell(here().send("POST", f"/v1/decisions/{name_in_path(decision)}/reject"), as_json, "word")


@policies.command("check")
def policy_check(files: Annotated[list[Path], typer.Argument(metavar="FILE...")], as_json: Json = False) -> int:
    """Check policy files; each fault is told as file:line:column: message."""
    from policies.config import load

    found: list[dict[str, object]] = []
    for file in files:
        try:
            text = file.read_bytes()
        except OSError as error:
            raise Failure(f"{plain(file)} cannot be read ({error.strerror}) - name an existing file", 2) from None
        settings, problems = load(text, str(file))
        names = [s.name for s in settings]
        found.append({"file": str(file), "policies": names, "problems": [plain(p) for p in problems]})
    tell(found, as_json, "checked")
    return 1 if any(one["problems"] for one in found) else 0


@policies.command("diff")
def policy_diff(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    days: Annotated[float, typer.Option(min=0.01, max=36500, help="How far back.")] = 7.0,
    as_json: Json = False,
) -> None:
    """Say what an edited policy file would have changed on recorded history, and about what it would have cost."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise Failure(f"{plain(file)} cannot be read ({error.strerror}) - name an existing file", 2) from None
    path = f"/v1/policies:diff?days={days}&file={name_in_path(str(file))}"
    found = here().send("POST", path, text, {"Content-Type": "application/yaml"}, seconds=600.0)
    tell(found, as_json, "policy_diff")


@prices.command("show")
def prices_show(
    match: Annotated[str, typer.Argument(help="Pattern for offer ids, such as 'aws/us-east-1/*'.")] = "*",
    as_json: Json = False,
) -> None:
    """Show the catalog: what there is, its price, where the price is from and how old it is. Needs no daemon."""
    from api import show

    tell(show.catalog(match), as_json, "offers")


@app.command("backtest")
def backtest_command(
    files: Annotated[list[Path], typer.Argument(metavar="HISTORY...", help="History files, CSV or Parquet.")],
    target: Annotated[str, typer.Option(help="Column to foretell, such as metric.val_loss or elapsed_s.")],
    at: Annotated[str, typer.Option(help="Shares of each run that are seen.")] = "0.2,0.4,0.6,0.8",
    horizon: Annotated[str, typer.Option(help="final, or seconds ahead.")] = "final",
    declared: Annotated[str | None, typer.Option(help="Columns whose true future is handed over.")] = None,
    learn: Annotated[bool, typer.Option("--learn", help="Let later jobs use what earlier ones taught.")] = False,
    sample: Annotated[int | None, typer.Option(min=1, help="How many jobs, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    only: Annotated[str | None, typer.Option(help="Ask only runs of these groups or owners.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Write every forecast here (Parquet).")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of other weights than those shipped.")] = None,
    after_change: Annotated[
        int | None, typer.Option(min=1, help="Cut each run so many steps after its first change, in place of --at.")
    ] = None,
    per_owner: Annotated[int | None, typer.Option(min=1, help="At most so many jobs of each owner.")] = None,
    without: Annotated[
        str | None, typer.Option(help="Leave out: recurrent, calibration, online, shockwave-schedules.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw forecasts and calibration here (PNG, SVG, PDF).")] = None,
    as_json: Json = False,
) -> None:
    """Measure forecast skill on recorded runs, beside simple forecasts. Needs no daemon."""
    from api import backtest, show
    from daemon.backtest.run import Asked

    asked = Asked(
        target, backtest.shares(at), backtest.seconds(horizon), backtest.names(declared), learn, sample, seed,
        backtest.names(only), after_change, "online" not in backtest.without(without), per_owner,
    )  # fmt: skip
    found = backtest.run(files, asked, predictions, weights, backtest.without(without), plot)
    print(json.dumps(found, indent=2)) if as_json else show.out(backtest.drawn(found))


@database.command("upgrade")
def db_upgrade(config: Annotated[str | None, typer.Option(help="Configuration file (YAML).")] = None) -> None:
    """Bring the database to this version's schema. The daemon does so by itself when it starts."""
    import os

    from daemon.config import ConfigError, read
    from daemon.store.base import StoreError
    from daemon.store.open import open_store
    from providers.clock import SystemClock

    try:
        known = read(config, os.environ)
        known.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        open_store(known.database_url, SystemClock()).close()
    except ConfigError as error:
        raise Failure(plain(error), 2) from None
    except StoreError as error:
        raise Failure(plain(error)) from None
    print("the database is up to date")


@tokens.command("add")
def token_add(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    scope: Annotated[list[str], typer.Option(help="read, operate, admin or observe:JOB; may be repeated.")],
    as_json: Json = False,
) -> None:
    """Make a token. It is shown this once."""
    tell(here().send("POST", "/v1/tokens", {"name": name, "scopes": scope}), as_json, "token")


@app.command()
def replay(
    traces: Annotated[list[Path], typer.Argument(metavar="TRACE...")],
    value_of_time: Annotated[float | None, typer.Option(min=0, help="Dollars that an hour is worth.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy file with the policy to replay.")] = None,
    schedule: Annotated[str, typer.Option(help="declared or inferred.")] = "declared",
    speeds: Annotated[
        str, typer.Option(help="known: from a profile of all offers; learned: only what runs is seen.")
    ] = "known",
    compare: Annotated[
        str | None, typer.Option(help="Policies to compare, with commas between; all without it.")
    ] = None,
    boot: Annotated[float | None, typer.Option(min=0, help="Boot seconds, in the place of the trace's.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes; -1: one a core.")] = 1,
    noise: Annotated[float, typer.Option(min=0, max=1, help="Share by which each seen step time is off.")] = 0.0,
    redraw: Annotated[bool, typer.Option(help="Redraw how long each setting of a trace lasts.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of --noise and --redraw.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of the trace, or OUT-<trace>.png for each of several.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Replay traces under policies, against baselines and the clairvoyant optimum."""
    from api import replay as replays

    print(
        replays.replay(
            traces, value_of_time, policy, schedule, speeds, compare, boot, jobs, as_json, noise, seed, redraw, plot
        )
    )


@app.command("replay-spot")
def replay_spot_command(
    csv: Annotated[Path, typer.Argument(metavar="CSV", help="Recorded availability, one run length a row.")],
    work_hours: Annotated[float, typer.Option(help="Hours of work on a machine.")],
    deadline_hours: Annotated[float, typer.Option(help="Hours from the start to the deadline.")],
    changeover_minutes: Annotated[float, typer.Option(help="Minutes that each start of a machine takes.")],
    on_demand: Annotated[float, typer.Option(help="Dollars an hour on demand.")],
    spot: Annotated[float, typer.Option(help="Dollars an hour on spot.")],
    starts: Annotated[int, typer.Option(min=1, max=100_000, help="Starts a zone, drawn at random.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    zones: Annotated[int, typer.Option(min=1, max=8, help="Zones to choose from: every such choice of a trace.")] = 1,
    compare: Annotated[
        str | None, typer.Option(help="Policies to compare, with commas between; all without it.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes; -1: one a core.")] = 1,
    as_json: Json = False,
) -> None:
    """Replay spot availability under a deadline, against baselines and the clairvoyant optimum."""
    from api import replay_spot as replays

    asked = work_hours, deadline_hours, changeover_minutes, on_demand, spot
    print(replays.replay_spot(csv, asked, starts, seed, zones, compare, jobs, as_json))


@app.command("fsck")
def fsck_command(
    config: Annotated[str | None, typer.Option(help="Configuration file (YAML), as for serve.")] = None,
    repair: Annotated[
        bool,
        typer.Option(
            help="Repair, while no daemon runs: free what closed actions set aside, close the decisions of closed"
            " actions, remove runs and statuses of jobs that are not registered. Everything else is left to you."
        ),
    ] = False,
    clouds: Annotated[bool, typer.Option("--clouds/--no-clouds", help="Ask the clouds as well.")] = True,
    as_json: Json = False,
) -> int:
    """Check the database against its laws and the clouds. Changes nothing without --repair; status 1 if broken."""
    from api import fsck

    found = fsck.run(config, repair, clouds)
    print(json.dumps(found, indent=2) if as_json else fsck.drawn(found))
    return 1 if found["left"] else 0


@app.command()
def version(as_json: Json = False) -> None:
    """Show the version."""
    from importlib.metadata import version as installed

    found = installed("scaleahead-daemon")
    print(json.dumps({"version": found}) if as_json else f"scaleahead {found}")


def main() -> None:
    """Run a command; faults leave as one line on standard error, with exit status 2 for wrong use and 1 for failure."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command and give its exit status."""
    try:
        status = app(arguments, prog_name="scaleahead", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except Failure as failure:
        return complain(str(failure), failure.status)
    except (KeyboardInterrupt, Abort):
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as fault:
        # Typer keeps its errors of use in a private module; they are known by what they can do.
        words = getattr(fault, "format_message", None)
        if words is None:
            raise
        return complain_of_use(fault, words())


def complain_of_use(fault: Exception, words: str) -> int:
    """Say what was wrong with a command line, and where its help is."""
    context = getattr(fault, "ctx", None)
    command = context.command_path if context is not None else "scaleahead"
    if type(fault).__name__ == "NoArgsIsHelpError":
        print(words)
        return 2
    return complain(f"{plain(words).rstrip('.')} - see '{command} --help'", 2)


def complain(text: str, status: int) -> int:
    """Write one line to standard error."""
    print(f"scaleahead: {text}", file=sys.stderr)
    return status
