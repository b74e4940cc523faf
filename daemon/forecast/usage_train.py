"""Edge: train the net that weighs what utilisation forecasts are made of, by steps and not by the clock."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from daemon.forecast import analogs, prior, spread, usage
from daemon.forecast.nets import QuantileNet
from daemon.forecast.prior import Random, Series
from daemon.forecast.usage_lessons import UsageLessons, usage_lessons
from daemon.types import Floats

MADE_UP, RECORDED = 120, 80
"""Series a step; without recorded ones all are made up."""
STEPS = 800
"""About 30 s of one core."""
RATE = 2e-3
DECAY = 0.1
MOST_MERGED = 3


def fresh(seed: int) -> nn.Module:
    """Make a net that answers as the plain weights do, and nearly so whatever it sees: it learns where to differ."""
    torch.manual_seed(seed)
    net = QuantileNet(usage.SEQUENCE, usage.STATIC, usage.QUERY, analogs.SOURCES, usage.HIDDEN, len(spread.LEVELS))
    with torch.no_grad():
        net.heads.weight.mul_(0.1)
        net.heads.bias.fill_(-1.0)
        net.heads.bias[: analogs.SOURCES] = torch.log(torch.tensor(usage.PLAIN) + 0.02)
        net.heads.bias[analogs.SOURCES] = 0.0
    return net


def teach(net: nn.Module, recorded: Sequence[Series], steps: int, seed: int) -> nn.Module:
    """Train the net on recorded series, each group and column kind alike often, and made-up ones; give its average."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    groups: dict[str, list[Series]] = {}
    for one in recorded:
        groups.setdefault(one.group, []).append(one)
    names = sorted(groups)
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    averaged = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98))  # type: ignore[no-untyped-call]
    for step in range(steps):
        taken = [prior.usage(random) for _ in range(MADE_UP if names else MADE_UP + RECORDED)]
        for _ in range(RECORDED if names else 0):
            group = groups[names[int(random.integers(len(names)))]]
            taken.append(varied(group[int(random.integers(len(group)))], random))
        for group_ in optimiser.param_groups:
            group_["lr"] = (
                RATE * min(1.0, step / 30 + 0.05) * max(0.5 * (1 + float(np.cos(np.pi * step / steps))), 0.01)
            )
        optimiser.zero_grad()
        loss(net, usage_lessons(taken, random)).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        averaged.update_parameters(net)
    return averaged.module


def varied(one: Series, random: Random) -> Series:
    """Merge neighbouring rows into their means now and then, and begin later: other rates of reporting, other ages."""
    values = one.values
    merge = int(random.integers(1, MOST_MERGED + 1)) if len(values) >= 40 * MOST_MERGED else 1
    size = len(values) // merge
    values = values[: size * merge].reshape(size, merge).mean(axis=1)
    first = int(random.integers(0, size // 2)) if random.random() < 0.3 else 0
    return Series(one.group, np.arange(size - first, dtype=np.float64), values[first:], one.total)


def loss(net: nn.Module, lessons: UsageLessons) -> Tensor:
    """Give the weighted mean of two losses in scales: the pool's CRPS, and the pinball loss of the final quantiles."""
    gate, offsets = net(_tensor(lessons.sequence), _tensor(lessons.static), _tensor(lessons.query))
    shares = torch.einsum("rqs,rqsb->rqb", gate, _tensor(lessons.shares))
    values, target = _tensor(lessons.values), _tensor(lessons.target)
    below = torch.cumsum(shares, dim=2)[..., :-1]
    low, high = values[:, None, :-1], values[:, None, 1:]
    came = torch.minimum(torch.maximum(target[..., None], low), high)
    crps = (below**2 * (came - low) + (1 - below) ** 2 * (high - came)).sum(dim=2)
    pool = analogs.quantiles(lessons.values, shares.detach().numpy().astype(np.float64))
    found = _tensor(pool) + _tensor(lessons.unit)[:, None, None] * offsets
    miss = target[..., None] - found
    levels = torch.tensor(spread.LEVELS)
    pinball = torch.maximum(levels * miss, (levels - 1) * miss).mean(dim=2)
    mean: Tensor = ((crps + 2 * pinball).mean(dim=1) * _tensor(lessons.weight)).mean()
    return mean


def _tensor(array: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
