"""Edge: how right usage forecasts are on groups that their weights have not seen, beside every baseline.

``python -m tests.tools.usage_skill --gaissa utilisation-gaissa.parquet --power power-mlperf.parquet`` trains the usage
net once a fold and seed without the fold's groups, asks rolling windows of these groups, and prints the tables of
docs/forecast-skill.md ("Utilisation"). A baseline sees the same windows. ``--folds`` and ``--seeds`` ask for less;
weights once trained are kept in ``--keep`` and taken from there.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from daemon.backtest import arima, baselines, history, ours, windows
from daemon.backtest.baselines import Answer
from daemon.backtest.question import Question
from daemon.backtest.windows import Losses, Windows
from daemon.forecast import runs, usage_train, weights_file
from daemon.forecast.ensemble import Recurrent, shipped

FOLDS = (
    ("mobilenet_v2", "gpt3", "bert"),
    ("resnet50", "unet3d"),
    ("vgg16", "resnet", "retinanet"),
    ("xception", "dlrm_dcnv2", "stable_diffusion"),
)
OURS, PLAIN = "scaleahead", "without the net"


@dataclass(frozen=True, slots=True)
class Target:
    """One column asked, on runs merged to ``seconds`` a row."""

    title: str
    column: str
    seconds: float
    laid: Windows


GAISSA = (
    Target("GPU", "usage.gpu_util", 10.0, Windows(96, 30, 30)),
    Target("CPU", "usage.cpu_util", 10.0, Windows(96, 30, 30)),
)
POWER = (Target("power", "usage.node_power_w", 2.0, Windows(60, 30, 15, 8)),)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, ask, score and print."""
    chosen = _options(arguments)
    torch.set_num_threads(1)
    asked = {
        target.title: questions(file, target)
        for file, targets in ((chosen.gaissa, GAISSA), (chosen.power, POWER))
        for target in targets
    }
    taught = runs.join([runs.read(chosen.gaissa), runs.read(chosen.power)])
    answers: dict[str, dict[str, list[Losses]]] = {title: {} for title in asked}
    asked = {
        title: [one for fold in chosen.folds for one in mine if one.run.group in FOLDS[fold]]
        for title, mine in asked.items()
    }
    with Progress(console=Console(stderr=True)) as progress:
        for title, mine in asked.items():
            for name, made in simple(mine, chosen.models, progress, title).items():
                answers[title][name] = [windows.losses(mine, made)]
        task = progress.add_task("folds", total=len(chosen.folds) * chosen.seeds)
        for seed in range(chosen.seeds):
            found: dict[str, dict[str, list[Answer]]] = {title: {OURS: [], PLAIN: []} for title in asked}
            for fold in chosen.folds:
                for name, forecaster in forecasters(taught, fold, chosen, seed).items():
                    for title, mine in asked.items():
                        held = [one for one in mine if one.run.group in FOLDS[fold]]
                        found[title][name] += ours.forecasts(forecaster, held, (), False, lambda _: None)[0]
                progress.advance(task)
            for title, mine in asked.items():
                for name, made in found[title].items():
                    if made:
                        answers[title].setdefault(name, []).append(windows.losses(mine, made))
    tables = {title: table(asked[title], answers[title]) for title in asked}
    print(json.dumps(tables, indent=1) if chosen.json else "\n\n".join(drawn(*one) for one in tables.items()))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.usage_skill")
    parser.add_argument("--gaissa", required=True, type=Path)
    parser.add_argument("--power", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=usage_train.STEPS)
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(len(FOLDS))))
    parser.add_argument("--keep", type=Path, default=Path("usage-folds"), help="folder for the folds' weights")
    parser.add_argument("--models", nargs="*", default=["auto_ets"], choices=list(arima.MODELS))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def questions(file: Path, target: Target) -> list[Question]:
    """Lay the target's windows over all runs of a file."""
    return [
        question
        for run in history.read([file])
        for question in windows.windows(windows.merged(run, target.seconds), target.column, target.laid)
    ]


def simple(asked: Sequence[Question], models: Sequence[str], progress: Progress, title: str) -> dict[str, list[Answer]]:
    """Let every baseline answer; one with nothing to say answers as the last value."""
    found: dict[str, list[Answer]] = {}
    for question in progress.track(asked, description=f"{title} baselines"):
        last = baselines.answer(baselines.last_value, question) or ours.silent(question)
        made = [(name, baselines.answer(point, question)) for name, point in baselines.SIMPLE.items()]
        for name, answer in [*made, *arima.answers(question, models)]:
            found.setdefault(name, []).append(answer or last)
    return found


def forecasters(taught: runs.Recorded, fold: int, chosen: argparse.Namespace, seed: int) -> dict[str, Recurrent]:
    """Give a forecaster trained without a fold's groups, with and without its net; what is trained is kept."""
    folder = chosen.keep / f"seed-{seed}-fold-{fold}-steps-{chosen.steps}"
    if not (folder / "recurrent.safetensors").exists():
        known, _ = runs.split(taught, set(FOLDS[fold]))
        net = usage_train.teach(usage_train.fresh(seed), known.usages, chosen.steps, seed)
        mine = {f"usage.{name}": value.detach().numpy() for name, value in net.state_dict().items()}
        others = {name: value for name, value in weights_file.load().tensors.items() if not name.startswith("usage.")}
        weights_file.save(folder, {**others, **mine}, {"seed": str(seed)})
    parts = shipped(folder)
    assert not parts.reason, parts.reason
    plain = {PLAIN: Recurrent(shipped(folder / "none"))} if seed == 0 else {}  # it has no seed
    return {OURS: Recurrent(parts), **plain}


def table(asked: Sequence[Question], found: Mapping[str, Sequence[Losses]]) -> dict[str, Any]:
    """Sum up every method, over all windows and by group, and compare ours with each, groups and runs drawn."""
    group = np.array([one.run.group for one in asked])
    job = [one.run.job for one in asked]
    own = mean(found[OURS])
    rows = {}
    for name, seeds in found.items():
        one = mean(seeds)
        rows[name] = {
            "wql": one.wql(),
            "seeds": [seed.wql() for seed in seeds],
            "coverage": one.coverage(),
            "groups": {
                str(each): [part.wql(), *part.coverage()]
                for each in np.unique(group)
                for part in [one.of(np.flatnonzero(group == each))]
            },
            "by_group": dict(windows.apart(own, one, group.tolist(), 0)),
            "by_run": dict(windows.apart(own, one, job, 0)),
        }
    return {"windows": len(asked), "runs": len(set(job)), "rows": rows}


def mean(seeds: Sequence[Losses]) -> Losses:
    """Average the seeds' losses window by window."""
    return Losses(*(np.mean([getattr(one, name) for one in seeds], axis=0) for name in Losses.__slots__))


def drawn(title: str, found: Mapping[str, Any]) -> str:
    """Draw one target's table in Markdown, best method first."""
    groups = list(found["rows"][OURS]["groups"])
    lines = [
        f"**{title}**, {found['windows']} windows of {found['runs']} runs",
        "| method | WQL | 80 % | 95 % | ours less theirs, groups drawn | runs drawn | " + " | ".join(groups) + " |",
        "|---" * (6 + len(groups)) + "|",
    ]
    for name, row in sorted(found["rows"].items(), key=lambda one: one[1]["wql"]):
        apart = [
            f"{one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]" if name != OURS else ""
            for one in (row["by_group"], row["by_run"])
        ]
        each = [f"{wql:.4f} ({inner:.2f}, {outer:.2f})" for wql, inner, outer in row["groups"].values()]
        seeds = f" ({min(row['seeds']):.4f} to {max(row['seeds']):.4f})" if len(row["seeds"]) > 1 else ""
        cells = [name, f"{row['wql']:.4f}{seeds}", *(f"{share:.2f}" for share in row["coverage"]), *apart, *each]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
