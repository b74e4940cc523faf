"""Pure decisions: teach the curve nets from recorded and made-up curves, each without a part of the groups.

So the nets differ most about what is like nothing they were taught, and there their mixture is wide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor, nn

from daemon.forecast import curve, curve_lessons, nets, prior, shapes, spread
from daemon.forecast.curve_lessons import CurveLessons
from daemon.forecast.prior import Random, Series
from daemon.forecast.seen import SEQUENCE, STATIC
from daemon.types import Floats, Ints

LESSONS = 45_000
"""Lessons are cut once, about as many as this, and drawn from again and again."""
MADE_UP = 12_000
BATCH = 128
RATE = 3e-3
AVERAGED = 0.4
"""The last part of training over which the weights are averaged."""
PRIOR = 0.35
"""The share of made-up curves in a batch."""
POWER = 0.15
"""The share of power laws among them."""
TRAINING = 0.5
"""What a training loss weighs against any other metric."""
OWN = 0.3
"""What the loss in a curve's own scale weighs against the loss in its group's scale."""
DOUBT = 1.8
"""How much farther out, in normal scores, the quantiles of made-up curves are taught than their levels say.

Curves of a family that the nets were taught are foretold better than those of one they were not: without this the 80 %
interval of runs of other families covers about .6. Power laws are taught as they are: recorded losses look like them.
"""
_EDGES = np.diff(np.concatenate([[0.0], (np.array(spread.LEVELS[1:]) + np.array(spread.LEVELS[:-1])) / 2, [1.0]]))


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """One group's lessons of one column, by their places among all, and their share of a batch."""

    group: str
    places: Ints
    share: float


def fresh(seed: int) -> nets.Members:
    """Make the members untrained."""
    torch.manual_seed(seed)
    return nets.Members(curve.MEMBERS, SEQUENCE, STATIC, curve.QUERY, curve.CENTRES, curve.HIDDEN, len(spread.LEVELS))


def teach(recorded: Sequence[Series], steps: int, seed: int) -> nets.Members:
    """Teach all members for so many steps each. Deterministic but for rounding."""
    random = np.random.default_rng(seed)
    lessons, pools = _lessons(recorded, random)
    found = fresh(seed)
    groups = sorted({pool.group for pool in pools if not _made_up(pool)})
    families = sorted(f"{prior.MADE}/{name}" for name in shapes.FAMILIES)
    for number, member in enumerate(found.nets):
        unseen = set(groups[number :: curve.MEMBERS]) if len(groups) > curve.MEMBERS else set()
        unseen |= set(families[number :: curve.MEMBERS])
        _descend(member, lessons, [pool for pool in pools if pool.group not in unseen], steps, random)
    return found.eval()


def _lessons(recorded: Sequence[Series], random: Random) -> tuple[CurveLessons, list[Pool]]:
    """Cut all lessons, and pool them by group and column: files weigh alike, and in a file its groups."""
    columns: dict[tuple[str, str], list[Series]] = {}
    for one in recorded:
        columns.setdefault((one.group, one.column), []).append(one)
    copies = int(np.clip(LESSONS // max(len(recorded), 1), 1, 12))
    parts, pools, start = [], [], 0
    for (group, column), series in sorted(columns.items()):
        repeat = copies if "train" not in column else max(copies // 2, 1)
        told = [one for one in series for _ in range(repeat)]
        parts.append(curve_lessons.curve_lessons(told, random, [curve_lessons.scale_of(series)] * len(told)))
        share = TRAINING if "train" in column else 1.0
        pools.append(Pool(group, start + _useful(parts[-1]), share))
        start += len(told)
    for family, made in _made(random, MADE_UP if recorded else 5 * MADE_UP).items():
        whole = [(float(one.values.min()), float(np.ptp(one.values)) + 1e-9) for one in made]
        parts.append(curve_lessons.curve_lessons(made, random, whole))
        share = POWER if family == "power" else (1 - POWER) / len(shapes.FAMILIES)
        pools.append(Pool(f"{prior.MADE}/{family}", start + _useful(parts[-1]), share))
        start += len(made)
    return curve_lessons.joined(parts), _shared([pool for pool in pools if len(pool.places)])


def _made(random: Random, count: int) -> dict[str, list[Series]]:
    """Make up curves by family: a third are power laws, the others shared evenly among the families."""
    found = {"power": [prior.curve(random) for _ in range(count // 3)]}
    each = 2 * count // (3 * len(shapes.FAMILIES))
    return found | {name: [prior.shape(random, name) for _ in range(each)] for name in shapes.FAMILIES}


def _made_up(pool: Pool) -> bool:
    return pool.group.startswith(f"{prior.MADE}/")


def _useful(lessons: CurveLessons) -> Ints:
    return np.flatnonzero(np.isfinite(lessons.target).all(axis=1) & (lessons.scale > 1e-9))


def _shared(pools: Sequence[Pool]) -> list[Pool]:
    """Share a batch out among pools: ``PRIOR`` for the made-up curves, the rest evenly among files, then pools."""
    files = [pool.group.split("/")[0] for pool in pools]
    recorded = {name for name, pool in zip(files, pools, strict=True) if not _made_up(pool)}
    weight: dict[str, float] = {}
    for name, pool in zip(files, pools, strict=True):
        weight[name] = weight.get(name, 0.0) + pool.share
    found = []
    for name, pool in zip(files, pools, strict=True):
        part = PRIOR if _made_up(pool) else (1 - PRIOR) / len(recorded)
        found.append(Pool(pool.group, pool.places, part * pool.share / weight[name]))
    return found


def _descend(net: nn.Module, lessons: CurveLessons, pools: Sequence[Pool], steps: int, random: Random) -> None:
    """Run AdamW for so many steps; the rate falls as half a cosine, and the last part's weights are averaged."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-4)
    shares = np.array([pool.share for pool in pools])
    levels = [_level(lessons, pool.places) for pool in pools]
    doubts = np.array([DOUBT if _made_up(pool) and not pool.group.endswith("/power") else 1.0 for pool in pools])
    averaged: list[Tensor] = []
    recent: list[float] = []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, step / 30 + 0.03) * max(0.5 * (1 + float(np.cos(np.pi * step / steps))), 0.02)
        counts = random.multinomial(BATCH, shares / shares.sum())
        drawn = [random.choice(pool.places, count) for pool, count in zip(pools, counts, strict=True)]
        weight = np.repeat(np.array(levels), counts, axis=0)
        loss = _loss(net, lessons.take(np.concatenate(drawn)), weight, np.repeat(doubts, counts))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        recent.append(float(loss.detach()))
        if step >= int((1 - AVERAGED) * steps):
            averaged = _averaged(averaged, net)
    with torch.no_grad():
        for mine, mean in zip(net.parameters(), averaged, strict=True):
            mine.copy_(mean)
    print(f"curve: {steps} steps, loss {np.mean(recent[:20]):.3f} -> {np.mean(recent[-100:]):.3f}", flush=True)  # noqa: T201


def _averaged(averaged: list[Tensor], net: nn.Module) -> list[Tensor]:
    with torch.no_grad():
        if not averaged:
            return [value.clone() for value in net.parameters()]
        return [0.99 * mean + 0.01 * value for mean, value in zip(averaged, net.parameters(), strict=True)]


def _level(lessons: CurveLessons, places: Ints) -> tuple[float, float]:
    """Give what a pool's misses are divided by, in its group's and in its curves' own scales: the last value's."""
    now = np.clip((lessons.now[places] - lessons.low[places]) / lessons.width[places], -1, 2)
    own = np.minimum(np.abs(lessons.target[places]), 1)
    return (
        1 / max(float(np.abs(lessons.came[places] - now[:, None]).mean()), 0.01),
        1 / max(float(own.mean()), 0.02),
    )


def _loss(net: nn.Module, lessons: CurveLessons, weight: Floats, doubt: Floats) -> Tensor:
    """Give the CRPS in the group's scale, as the score has it, and in the curve's own; each pool levelled.

    ``doubt`` float64[R] is how far out each lesson's levels are put, 1 for where they belong.
    """
    levels = _tensor(ndtr(doubt[:, None, None] * ndtri(np.array(spread.LEVELS))))
    gate, offsets = net(_tensor(lessons.sequence), _tensor(lessons.static), _tensor(lessons.query))
    scaled = (gate * _tensor(lessons.centre)).sum(dim=2, keepdim=True) + _tensor(lessons.unit)[..., None] * offsets
    told = _wide(lessons.last) + _wide(lessons.scale) * scaled
    positive = torch.from_numpy(lessons.positive)[:, None, None]
    held = torch.where(positive, torch.minimum(told, _wide(lessons.highest)), torch.zeros_like(told))
    value = torch.where(positive, torch.exp(held), told * _wide(lessons.size))
    grouped = (value - _wide(lessons.low)) / _wide(lessons.width)
    within = grouped.clamp(curve_lessons.LEAST, curve_lessons.MOST)
    # Beyond the score's bounds a little slope is left, so that what is far out is drawn back.
    grouped = within + 0.05 * (grouped - within).clamp(-3.0, 3.0)
    shared = _crps(grouped, _tensor(lessons.came), levels) * _tensor(weight[:, 0])
    own = _crps(scaled, _tensor(lessons.target), levels) * _tensor(weight[:, 1])
    mean: Tensor = shared.mean() + OWN * own.mean()
    return mean


def _crps(quantiles: Tensor, came: Tensor, levels: Tensor) -> Tensor:
    miss = came[..., None] - quantiles
    loss: Tensor = 2 * (torch.maximum(levels * miss, (levels - 1) * miss) * _tensor(_EDGES)).sum(dim=-1).mean(dim=1)
    return loss


def _wide(values: Floats) -> Tensor:
    return _tensor(np.clip(values, -1e30, 1e30))[:, None, None]


def _tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.float64]] | Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def tensors(found: nets.Members) -> Mapping[str, Floats]:
    """Give the members' tensors by name, as ``weights_file`` keeps them."""
    return {f"curve.{name}": value.detach().numpy().astype(np.float32) for name, value in found.state_dict().items()}
