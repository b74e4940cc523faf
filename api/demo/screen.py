"""Edge: the demonstration's screen in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

BAR = 18


def banner(seconds: float, rate: float, mib_per_gib: int) -> Panel:
    """Say what is about to be seen, and what stands for what."""
    lines = (
        "Two real PyTorch jobs train on this computer: a language model whose sequence length and batch grow as",
        "it declares, and a CNN whose batch grows undeclared. Each runs twice: once under Scaleahead, which",
        "forecasts, and once under its reactive twin, the same engine that believes the present persists.",
        "",
        f"Scale: 1 second here is {rate:.0f} simulated seconds; {mib_per_gib} MiB of real memory are 1 simulated GiB.",
        "A process that outgrows its machine is really killed. Prices: aws us-east-1, list of 2026-07-20.",
        "A training step takes at least 0.2 s, so that a fast computer shows the same; its work is real all the same.",
        f"This takes up to {seconds:.0f} s.",
    )
    return Panel(Text("\n".join(lines)), title="scaleahead demo", border_style="cyan")


def fleet(jobs: Sequence[Mapping[str, Any]], memory: Mapping[str, tuple[float, float]], url: str, left: float) -> Group:
    """Draw how every job stands. ``memory`` holds used and limit in simulated GiB, by job."""
    table = Table(expand=True, header_style="bold")
    for name in ("job", "machine", "memory", "step", "$/h", "spent $", "kills", "next", "why"):
        table.add_column(name, no_wrap=name not in ("why",), overflow="fold" if name == "why" else "ellipsis")
    for job in jobs:
        used, limit = memory.get(str(job["name"]), (0.0, 0.0))
        ahead = job.get("next")
        planned = f"{_short(ahead['offer'])} in {float(ahead['in_seconds'] or 0):.0f} s" if ahead else "-"
        training = str(job.get("training"))
        table.add_row(
            str(job["name"]), _short(job.get("machine") or "-"), _bar(used, limit),
            "done" if training == "done" else f"{job.get('step') or 0}/{job.get('total_steps') or '?'}",
            _figure(job.get("usd_per_hour"), 3), _figure(job.get("spent_usd"), 3),
            Text(str(job.get("kills", 0)), style="bold red" if job.get("kills") else ""), planned,
            Text(str(job.get("reason") or job.get("error") or ""), style="dim"),
        )  # fmt: skip
    foot = Text(f"dashboard: {url}   {left:.0f} s left   Ctrl-C ends it", style="cyan")
    return Group(table, foot)


def _short(offer: str) -> str:
    return offer.rsplit("/", 1)[-1]


def _figure(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"


def _bar(used: float, limit: float) -> Text:
    if limit <= 0:
        return Text("-")
    share = min(used / limit, 1.0)
    filled = round(share * BAR)
    style = "red" if share > 0.9 else "yellow" if share > 0.75 else "green"
    return Text("█" * filled + "░" * (BAR - filled) + f" {used:4.1f}/{limit:.0f}", style=style)


def closing(console: Console, found: Mapping[str, Any]) -> None:
    """Print the summary for a person."""
    table = Table(title="predicted against reactive", header_style="bold")
    for name in ("job", "under", "$", "hours", "killed", "moves", "ahead of need", "steps lost", "forecast error"):
        table.add_column(name, justify="left" if name in ("job", "under") else "right")
    for name, one in found["jobs"].items():
        for label, row in (("Scaleahead", one), ("reactive", one.get("twin"))):
            if row is not None:
                error = row["forecast_error"]
                table.add_row(
                    name, label, f"{row['usd']:.4f}", f"{row['hours']:.2f}" + ("" if row["finished"] else "+"),
                    str(row["out_of_memory"]), str(row["moves"]), str(row["moved_before_need"]),
                    str(row["lost_steps"]), "-" if error is None else f"{error:.1%}",
                )  # fmt: skip
    console.print(table)
    console.print("[dim]+ : not finished when the demonstration ended[/dim]")
    console.print("[bold]Where the figures come from[/bold]")
    for name, source in found["sources"].items():
        console.print(f"  {name}: {source}")
