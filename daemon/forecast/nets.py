"""Pure decisions: the recurrent networks. The only module of the forecaster's recurrent part that imports torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from daemon.forecast.weights_file import WeightsError


class ScheduleNet(nn.Module):
    """A GRU over past regimes, with heads for dwell (last class: never again), kind, further changes and growth."""

    def __init__(self, sequence: int, static: int, classes: tuple[int, int, int, int], hidden: int = 40) -> None:
        super().__init__()
        self.classes = classes
        self.gru = nn.GRU(sequence, hidden, batch_first=True)
        self.middle = nn.Linear(hidden + static, hidden)
        self.heads = nn.Linear(hidden, sum(classes))

    def forward(self, sequence: Tensor, static: Tensor) -> tuple[Tensor, ...]:
        """Give log-probabilities of each head: [R, classes[i]]."""
        _, last = self.gru(sequence)
        middle = torch.relu(self.middle(torch.cat([last[0], static], dim=1)))
        return tuple(torch.log_softmax(part, dim=1) for part in self.heads(middle).split(self.classes, dim=1))


class QuantileNet(nn.Module):
    """A GRU over the seen part, and for each query a gate over simple forecasts plus quantiles around them.

    The gate sees the horizon, so it can trust the last value near by and the fitted law far away. ``spread`` widens
    the quantiles around the median; it is set on groups that were not trained on.
    """

    spread: Tensor

    def __init__(self, sequence: int, static: int, query: int, centres: int, hidden: int = 48, levels: int = 9) -> None:
        super().__init__()
        self.levels = levels
        self.centres = centres
        self.gru = nn.GRU(sequence, hidden, batch_first=True)
        self.context = nn.Linear(hidden + static, hidden)
        self.asked = nn.Linear(query, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.heads = nn.Linear(hidden, centres + levels)
        self.register_buffer("spread", torch.ones(1))

    def forward(self, sequence: Tensor, static: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Give gate [R, Q, centres] (sums to 1) and ascending quantile offsets [R, Q, levels]."""
        _, last = self.gru(sequence)
        context = self.context(torch.cat([last[0], static], dim=1))
        seen = torch.relu(context[:, None] + self.asked(query))
        out = self.heads(torch.relu(self.middle(seen)))
        gate = torch.softmax(out[..., : self.centres], dim=-1)
        raw = out[..., self.centres :]
        half = self.levels // 2
        gaps = nn.functional.softplus(raw[..., 1:] - 2.0)
        below = -torch.flip(torch.cumsum(torch.flip(gaps[..., :half], [-1]), dim=-1), [-1])
        above = torch.cumsum(gaps[..., half:], dim=-1)
        shift = raw[..., :1]
        return gate, shift + self.spread * torch.cat([below, torch.zeros_like(shift), above], dim=-1)


class Members(nn.Module):
    """Several quantile nets side by side, each with its own answer."""

    def __init__(
        self, members: int, sequence: int, static: int, query: int, centres: int, hidden: int, levels: int
    ) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            [QuantileNet(sequence, static, query, centres, hidden, levels) for _ in range(members)]
        )

    def forward(self, sequence: Tensor, static: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Give gates [E, R, Q, centres] and quantile offsets [E, R, Q, levels] of the E members."""
        gates, offsets = zip(*(net(sequence, static, query) for net in self.nets), strict=True)
        return torch.stack(gates), torch.stack(offsets)


def restore(net: nn.Module, tensors: Mapping[str, NDArray[Any]]) -> nn.Module:
    """Load a net's tensors and set it to answer. Raises ``WeightsError`` where they do not fit it."""
    try:
        net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()})
    except (RuntimeError, TypeError) as error:
        raise WeightsError(f"the weights do not fit {type(net).__name__} - train them again") from error
    return net.eval()


def answer(net: nn.Module, *inputs: NDArray[Any]) -> tuple[NDArray[np.float64], ...]:
    """Run a net on arrays without gradients; arrays out, as float64."""
    with torch.inference_mode():
        found = net(*(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)) for array in inputs))
    return tuple(array.numpy().astype(np.float64) for array in found)
