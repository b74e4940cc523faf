"""Edge: train the recurrent networks from history files and made-up runs, and write weights with their checksum.

``python -m daemon.forecast.train --history FILE... --out DIR --minutes N [--hold-out GROUP...]
[--nets schedule curve usage] [--start DIR] [--seed S] [--steps N]``
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from daemon.forecast import curve_train, prior, runs, schedule, usage_train, weights_file
from daemon.forecast.lessons import ScheduleLessons, schedule_lessons
from daemon.forecast.nets import ScheduleNet, restore
from daemon.forecast.prior import Plan, Random
from daemon.forecast.regimes import SEQUENCE, STATIC, describe
from daemon.forecast.score import score_curves, score_schedules, score_usages

NETS = ("schedule", "curve", "usage")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the nets, score them on groups held out, and write everything to a folder."""
    chosen = _options(arguments)
    try:
        whole = runs.join([runs.read(path) for path in chosen.history])
        begun = weights_file.load(chosen.start) if chosen.start else None
    except (runs.RunsError, weights_file.WeightsError) as error:
        print(f"train: {error}", file=sys.stderr)  # noqa: T201  a command prints
        return 2
    taught, kept = runs.split(whole, set(chosen.hold_out))
    nets = fresh(chosen.seed)
    if begun is not None:
        kept_on = [part for part in nets if part not in chosen.nets]
        nets |= {part: restore(nets[part], begun.part(part)) for part in kept_on}
    for part in chosen.nets:
        nets[part] = _teach(part, nets[part], taught, chosen)
    tensors = {
        f"{part}.{name}": value.detach().numpy().astype(np.float32)
        for part, net in nets.items()
        for name, value in net.state_dict().items()
    }
    weights_file.save(chosen.out, tensors, {"minutes": f"{chosen.minutes:g}", "seed": str(chosen.seed)})
    weights = weights_file.load(chosen.out)
    lines = [*score_schedules(kept.plans, weights), *score_curves(kept.curves, weights)]
    print("\n".join([*lines, *score_usages(kept.usages, weights)]))  # noqa: T201  a command prints
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m daemon.forecast.train", description="train the recurrent nets")
    parser.add_argument("--history", nargs="*", default=[], type=Path, help="history files (CSV or Parquet)")
    parser.add_argument("--out", required=True, type=Path, help="folder for weights and checksum")
    parser.add_argument("--minutes", type=float, default=8.0, help="time for the schedule net")
    parser.add_argument("--steps", type=int, default=1500, help="steps for each of the curve nets")
    parser.add_argument("--hold-out", nargs="*", default=[], help="groups or owners kept for the score")
    parser.add_argument("--nets", nargs="*", default=list(NETS), choices=NETS, help="which to train")
    parser.add_argument("--start", type=Path, help="folder of weights to go on from")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def _teach(part: str, net: nn.Module, taught: runs.Recorded, chosen: argparse.Namespace) -> nn.Module:
    match part:
        case "schedule":
            return teach_schedules(net, taught.plans, 60 * chosen.minutes, chosen.seed)
        case "curve":
            return curve_train.teach(taught.curves, chosen.steps, chosen.seed)
        case _:
            return usage_train.teach(net, taught.usages, usage_train.STEPS, chosen.seed + 2)


def fresh(seed: int) -> dict[str, nn.Module]:
    """Make the three nets untrained."""
    torch.manual_seed(seed)
    return {
        "schedule": ScheduleNet(SEQUENCE, STATIC, schedule.CLASSES),
        "curve": curve_train.fresh(seed),
        "usage": usage_train.fresh(seed),
    }


def teach_schedules(net: nn.Module, plans: Sequence[Plan], seconds: float, seed: int) -> nn.Module:
    """Train the schedule head: likelihood of the next change given how long the regime has lasted, ends censored."""
    random = _seeded(seed)

    def batch() -> Tensor:
        made = [prior.plan(random) for _ in range(350)]
        if plans:
            made += [plans[place] for place in random.integers(0, len(plans), 6)]
        return schedule_loss(net, schedule_lessons(made, random))

    return _descend(net, batch, seconds, 3e-3)


def schedule_loss(net: nn.Module, lessons: ScheduleLessons) -> Tensor:
    """Give the mean negative log-likelihood of what came, in nats a moment."""
    sequence, static = describe(lessons.regimes)
    dwell, kind, count, growth = net(_tensor(sequence), _tensor(static))
    chance = dwell.exp()
    hit = (chance * _tensor(lessons.dwell)).sum(dim=1)
    alive = (chance * _tensor(lessons.alive)).sum(dim=1)
    loss = (alive + 1e-9).log() - (hit + 1e-9).log()
    mark = _tensor(lessons.kind)
    changed = mark.sum(dim=1) > 0
    right = (kind.exp() * mark).sum(dim=1)
    loss = loss - torch.where(changed, (right + 1e-9).log(), torch.zeros_like(right))
    for logs, classes in ((count, lessons.count), (growth, lessons.growth)):
        told = torch.from_numpy(classes)
        loss = loss + nn.functional.nll_loss(logs, told, ignore_index=-1, reduction="none")
    mean: Tensor = loss.mean()
    return mean


def _descend(net: nn.Module, batch: Callable[[], Tensor], seconds: float, rate: float) -> nn.Module:
    """Run Adam for the time given; the rate falls with the time used, and the last third's weights are averaged."""
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    averaged = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))  # type: ignore[no-untyped-call]
    began, steps, recent = time.monotonic(), 0, []
    while (used := (time.monotonic() - began) / max(seconds, 1e-9)) < 1.0 or steps < 3:
        for group in optimiser.param_groups:
            group["lr"] = (
                rate * min(1.0, steps / 30 + 0.05) * max(0.5 * (1 + float(np.cos(np.pi * min(used, 1)))), 0.01)
            )
        optimiser.zero_grad()
        loss = batch()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        averaged.update_parameters(net)
        recent.append(float(loss.detach()))
        steps += 1
    print(f"{type(net).__name__}: {steps} steps, loss {np.mean(recent[:20]):.4f} -> {np.mean(recent[-50:]):.4f}")  # noqa: T201
    return averaged.module


def _seeded(seed: int) -> Random:
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def _tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


if __name__ == "__main__":
    sys.exit(main())
