"""Edge: answers as a person reads them in a terminal. Every text from outside is made one printable line first."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from api.client_http import Failure
from api.text import plain

Found = Mapping[str, Any]

ACROSS, UP = 74, 15


def out(drawn: RenderableType) -> None:
    """Print to standard output, as wide as the terminal, or wide enough for a file."""
    console(None if sys.stdout.isatty() else 160).print(drawn)


def console(width: int | None) -> Console:
    """Make a console that takes texts as they are."""
    return Console(width=width, markup=False, highlight=False, emoji=False)


def live(draw: Callable[[], RenderableType], seconds: float) -> None:
    """Draw again and again until the person ends it."""
    with Live(draw(), console=console(None), screen=sys.stdout.isatty(), auto_refresh=False) as shown:
        while True:
            time.sleep(seconds)
            shown.update(draw(), refresh=True)


def table(*columns: str) -> Table:
    """Make a plain table; a name that ends in ``>`` is set to the right."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for name in columns:
        right = name.endswith(">")
        made.add_column(name.rstrip(">"), justify="right" if right else "left", overflow="fold")
    return made


def usd(x: float | None) -> str:
    return "unknown" if x is None else f"${x:,.4f}" if 0 < abs(x) < 0.1 else f"${x:,.2f}"


def share(x: float | None) -> str:
    return "-" if x is None else f"{x * 100:.1f} %" if x < 0.1 else f"{x * 100:.0f} %"


def figure(x: float | None) -> str:
    return "-" if x is None else f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.4g}"


def lasting(seconds: float | None) -> str:
    """Write a duration in the unit that suits it."""
    if seconds is None:
        return "unknown"
    for most, size, unit in ((90, 1, "s"), (5400, 60, "min"), (172800, 3600, "h")):
        if seconds < most:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.1f} d"


def span(spread: Found, scale: float = 1.0) -> str:
    """Write the 10 and 90 % quantiles of a duration in seconds over ``scale``."""
    low, high = spread["p10"], spread["p90"]
    if low is None or high is None:
        return "unknown"
    return f"{lasting(low * scale)} - {lasting(high * scale)}"


def short(offer: str | None) -> str:
    return plain(offer.rsplit("/", 1)[-1]) if offer else "unknown"


def jobs(found: Found) -> RenderableType:
    made = table("job", "state", "training", "policy", "machine", "heard")
    for one in found["jobs"]:
        target = one["target"]
        where = f"{target['provider']} {target['kind']} {target['id']}" if target else "none"
        state = one["status"]
        heard = state["heard_at"] or "never"
        made.add_row(*(plain(x) for x in (one["name"], one["state"], state["training"], one["policy"], where, heard)))
    return made if found["jobs"] else Text("no job is registered - add one with 'scaleahead job add'")


def job(found: Found) -> RenderableType:
    made = Table(box=None, show_header=False, pad_edge=False)
    for name, value in found.items():
        if name == "status" or value in (None, [], {}):
            continue
        made.add_row(Text(name, style="dim"), plain(value))
    for name, value in found["status"].items():
        if value not in (None, [], {}):
            made.add_row(Text(name, style="dim"), plain(value))
    return made


def fleet(found: Found) -> RenderableType:
    made = table("job", "state", "machine", "$/h>", "spent>", "progress>", "ends (p10 - p90)", "next planned")
    for one in found["jobs"]:
        state = one["training"] if one["state"] == "active" else one["state"]
        made.add_row(
            plain(one["name"]), plain(state), short(one["machine"]), usd(one["usd_per_hour"]), usd(one["spent_usd"]),
            share(one["progress"]), span(one["finish"]["seconds"]), coming(one),
        )  # fmt: skip
    head = f"{usd(found['usd_per_hour'])}/h   spent {usd(found['spent_usd'])}   {found['total']} jobs"
    notes = [Text(plain(line), style="yellow") for line in (*found["reasons"], *found["policy_problems"])]
    return Group(Text(head, style="bold"), *notes, made)


def coming(one: Found) -> str:
    """Say what is planned next for a job."""
    ahead = one["next"]
    if ahead is None:
        return "stay" if one["decision"] else "-"
    if ahead["waiting"]:
        return f"{short(ahead['offer'])}, waits: scaleahead approve {plain(one['decision'])}"
    return f"{short(ahead['offer'])} in {lasting(ahead['in_seconds'])}"


def forecast(found: Found, past: Found, column: str | None) -> RenderableType:
    known = list(found["quantiles"])
    if not found["steps"] or not known:
        why = f"; {found['missing']}" if found["missing"] else ""
        return Text(plain(f"nothing is foretold yet - a metric or usage must be heard of first{why}"))
    chosen = column or next((c for c in ("usage.gpu_memory_gib", "usage.memory_gib") if c in known), known[0])
    if chosen not in known:
        raise Failure(f"nothing is foretold of '{plain(chosen)}' - take one of: {plain(', '.join(known))}", 2)
    made = table("column", "now>", "p10>", "median>", "p90>", "at step>")
    for name in known:
        rows, seen = found["quantiles"][name], [y for y in past["columns"].get(name, []) if y is not None]
        ends = [figure(rows[level][-1]) for level in ("p10", "p50", "p90")]
        made.add_row(plain(name), figure(seen[-1] if seen else None), *ends, figure(found["steps"][-1]))
    closing = f"ends in {span(found['finish']['seconds'])}   method {plain(found['method'])}"
    moves = [f"{short(m['offer'])} from step {m['at_step']}" for m in found["plan"]]
    drawn = [Text(line) for line in band(past, found, chosen)]
    notes = [Text(plain(found["reason"]))] if found["reason"] else []
    plan_line = Text("plan: " + (", then ".join(moves) if moves else "stay"))
    return Group(Text(plain(chosen), style="bold"), *drawn, Text(""), made, Text(closing), plan_line, *notes)


def band(past: Found, ahead: Found, column: str, across: int = ACROSS, up: int = UP) -> list[str]:
    """Draw what was seen (``•``), the 10 to 90 % band (``░``), its median (``─``), what the machine holds (``━``)."""
    rows = ahead["quantiles"][column]
    seen = [(s, y) for s, y in zip(past["step"], past["columns"].get(column, []), strict=False) if y is not None]
    told = [t for t in zip(ahead["steps"], rows["p10"], rows["p50"], rows["p90"], strict=True) if None not in t]
    holds = [(c["from_step"], c["limits"].get(column)) for c in [*past["capacity"], *ahead["capacity"]]]
    values = [y for _, y in seen] + [y for t in told for y in t[1:]]
    if not values:
        return ["nothing to draw"]
    roof = max(values)
    top = max([roof, *(y for _, y in holds if y is not None and y < roof * 2.4)]) or 1.0
    low = min(0.0, *values)
    first, last = min([s for s, _ in seen] + [t[0] for t in told]), max([t[0] for t in told] + [s for s, _ in seen])
    grid = [[" "] * across for _ in range(up)]

    def row(y: float) -> int:
        place = round((y - low) / (top - low or 1.0) * (up - 1))
        return int(up - 1 - min(up - 1, max(0, place)))

    for place in range(across):
        step = first + (last - first) * place / (across - 1)
        held = [y for s, y in holds if s <= step]
        if held and held[-1] is not None and held[-1] <= top:
            grid[row(held[-1])][place] = "━"
        _point(grid, place, step, seen, told, row)
    lines = []
    for k, cells in enumerate(grid):
        y = top - (top - low) * k / (up - 1)
        lines.append(f"{figure(y) if k % 7 == 0 else '':>9} ┤{''.join(cells)}")
    left, right = f"step {figure(first)}", figure(last)
    return [*lines, f"{'':>9} └{'─' * across}", f"{'':>11}{left}{right:>{across - len(left)}}"]


def _point(
    grid: list[list[str]],
    place: int,
    step: float,
    seen: Sequence[Any],
    told: Sequence[Any],
    row: Callable[[float], int],
) -> None:
    """Put one column of the picture: what was seen until then, what is foretold after."""
    if seen and step <= seen[-1][0]:
        near = min(seen, key=lambda point: abs(point[0] - step))
        grid[row(near[1])][place] = "•"
        return
    after = next((t for t in told if t[0] >= step), None)
    if after is None:
        return
    for y in range(row(after[3]), row(after[1]) + 1):
        grid[y][place] = "░"
    grid[row(after[2])][place] = "─"


def plan(found: Found) -> RenderableType:
    if found["chosen"] is None:
        return Text(plain(found["reason"] or found["missing"]))
    freed = any(one["taken"] and one["route"] == "release" for one in found["options"])
    verb = "let go of " if freed else "move to " if found["changes"] else "stay on "
    moves = [f"{short(m['offer'])} from step {m['at_step']}, in {lasting(m['in_seconds'])}" for m in found["plan"]]
    lines = [Text(verb + short(found["chosen"]), style="bold"), Text(plain(found["reason"]))]
    if moves:
        lines.append(Text("plan: " + ", then ".join(moves)))
    return Group(*lines, options(found["options"]))


def options(found: Sequence[Found]) -> Table:
    """Draw options with money, time, chance of not fitting, and what became of each."""
    made = table("option", "to the finish>", "takes", "misfit>", "verdict")
    for one in found:
        stays = {"stay": " (stay)", "release": " (let go)"}.get(one["route"], "")
        money = f"{usd(one['usd']['p10'])} - {usd(one['usd']['p90'])}"
        misfit = f"{share(one['misfit'])} {plain(one['misfit_resource'] or '')}".strip()
        made.add_row(short(one["offer"]["id"]) + stays, money, span(one["hours"], 3600), misfit, verdict(one))
    return made


def verdict(one: Found) -> str:
    if one["taken"]:
        return "taken"
    return plain(f"{one['limit']}: {one['detail']}") if one["limit"] else "not the best"


def decisions(found: Found) -> RenderableType:
    parts: list[RenderableType] = []
    for one in found["decisions"]:
        times = f", {one['repeats'] + 1} times" if one["repeats"] else ""
        head = f"{plain(one['at'])}  {plain(one['status']).replace('_', ' ')}{times}  {plain(one['id'])}"
        parts += [Text(head, style="bold"), Text(plain(one["reason"]))]
        parts.append(Text(plain(f"mode {one['mode']}, policy {one['policy']} @ {one['policy_version']}"), style="dim"))
        if one["shadow"]:
            parts.append(Text("reactive twin: " + plain(one["shadow"]), style="dim"))
        parts += [options(one["options"]), Text("")]
    return Group(*parts) if parts else Text("no decision yet")


def between(interval: Found | None) -> str:
    """Write an estimate in dollars."""
    if interval is None:
        return "unknown"
    return f"{usd(interval['mean'])} ({usd(interval['low'])} - {usd(interval['high'])})"


def replays(found: Sequence[Found]) -> RenderableType:
    words = {True: "the same", False: "DIFFERENT", None: "no record"}
    lines = [f"{plain(one['decision'])}  {words[one['same']]}  {plain(one['reason'])}" for one in found]
    return Text("\n".join(lines) or "no decision yet")


def policy_diff(found: Found) -> RenderableType:
    count, changed = found["decisions"], found["differences"]
    head = f"{len(changed)} of {count} decisions since {plain(found['since'])} would have been others"
    other = f"; {found['other']} were under policies that the file does not hold" if found["other"] else ""
    made = table("job", "at", "was", "would be", "$ to the finish", "hours>")
    for one in changed:
        made.add_row(
            plain(one["job"]), plain(one["at"]), short(one["before"]), short(one["after"]), between(one["usd"]),
            figure(one["hours"]["mean"]),
        )  # fmt: skip
    money = table("job", "spent>", "would have spent")
    for one in found["jobs"]:
        money.add_row(
            plain(one["job"]), usd(one["spent_usd"]), between(one["usd"]) if one["differs_at"] else "the same"
        )
    shown = [drawn for drawn in (made, money) if drawn.row_count]
    total = f"altogether {usd(found['spent_usd'])} spent, and {between(found['usd'])} under the edited policies"
    return Group(Text(head + other, style="bold"), *shown, Text(total), Text(plain(found["basis"]), style="dim"))


def ledger(found: Found) -> RenderableType:
    parts = ", ".join(f"{plain(reason)} {usd(money)}" for reason, money in found["usd_by_reason"].items())
    attempts = table("run", "from", "$>")
    for one in found["attempts"]:
        attempts.add_row(plain(one["run"] or "none"), plain(one["began"]), usd(one["usd"]))
    ways = table("another way", "machine", "would have cost", "")
    for one in found["estimates"]:
        ways.add_row(plain(one["way"]).replace("_", " "), short(one["offer"]), between(one["usd"]), plain(one["note"]))
    moves = table("move", "to", "", "pause>", "$>", "$/h>", "pace>")
    for one in found["moves"]:
        for name in ("promised", "realised"):
            told = one[name]
            first = (plain(one["at"]), short(one["to_offer"])) if name == "promised" else ("", "")
            moves.add_row(
                *first, name, lasting(told["pause_seconds"]), usd(told["move_usd"]), usd(told["usd_per_hour"]),
                figure(told["pace"]),
            )  # fmt: skip
    head = Text(f"{usd(found['spent_usd'])} spent" + (f": {parts}" if parts else ""), style="bold")
    shown = [drawn for drawn in (attempts, ways, moves) if drawn.row_count]
    return Group(head, *shown, Text(plain(found["basis"]), style="dim"))


def reasons(found: Sequence[Found]) -> RenderableType:
    return Group(options(found), *(Text(f"{plain(o['offer']['id'])}: {verdict(o)}") for o in found))


def word(found: Found) -> RenderableType:
    return Text(plain(f"{found['id']}: {found['status']} (to {found['chosen']})"))


def checked(found: Sequence[Found]) -> RenderableType:
    lines: list[str] = []
    for one in found:
        names = ", ".join(one["policies"])
        lines += [plain(p) for p in one["problems"]] or [plain(f"{one['file']}: good ({names})")]
    return Text("\n".join(lines))


def token(found: Found) -> RenderableType:
    return Text(
        plain(f"{found['token']}  ({found['name']}: {', '.join(found['scopes'])}) - keep it: it is shown this once")
    )


def catalog(match: str) -> list[dict[str, object]]:
    """Read the catalog's offers whose id matches. Raises ``Failure`` if there is none."""
    from providers.catalog import load

    found = sorted((o for o in load().by_id.values() if fnmatchcase(o.id, match)), key=lambda o: o.id)
    if not found:
        raise Failure(f"no offer matches '{plain(match)}' - try a pattern such as 'aws/us-east-1/*'")
    return [
        {
            "offer": o.id, "usd_per_hour": o.price.usd_per_hour if o.price else None,
            "source": o.price.source if o.price else None, "at": o.price.at.isoformat() if o.price else None,
            "cpu_cores": o.resources.cpu_cores, "memory_gib": o.resources.memory_gib, "gpus": o.resources.gpus,
            "gpu_model": o.resources.gpu_model, "gpu_memory_gib": o.resources.gpu_memory_gib,
        }
        for o in found
    ]  # fmt: skip


def offers(found: Sequence[Found]) -> RenderableType:
    made = table("offer", "$/h>", "cores>", "GiB>", "GPUs", "age>", "source")
    now = datetime.now(UTC)
    for one in found:
        gpus = f"{one['gpus']}x {one['gpu_model']} {figure(one['gpu_memory_gib'])} GiB" if one["gpus"] else "-"
        age = f"{(now - datetime.fromisoformat(one['at'])).days} d" if one["at"] else "-"
        made.add_row(
            plain(one["offer"]), usd(one["usd_per_hour"]), figure(one["cpu_cores"]), figure(one["memory_gib"]),
            plain(gpus), age, plain(one["source"] or "no sourced price", 60),
        )  # fmt: skip
    return made
