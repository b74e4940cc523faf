"""Values: the small real models that memory and step time are measured on, each built and fed by its settings."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

CLASSES = 256
BLOCKS = 4
HEADS = 4


@dataclass(frozen=True, slots=True)
class Setting:
    """One point of the sweep. ``length`` is in tokens; for the CNN the side of an image; 0 for the MLP, without any."""

    family: str
    variant: str
    width: int
    precision: str
    checkpointing: bool
    batch: int
    length: int

    @property
    def curve(self) -> tuple[str, str, int, str, bool]:
        """What stays the same while batch and length grow."""
        return (self.family, self.variant, self.width, self.precision, self.checkpointing)


class Stack(nn.Module):
    """A first layer, ``BLOCKS`` alike, and a head; with checkpointing only what goes into a block is kept."""

    def __init__(self, first: nn.Module, blocks: list[nn.Module], head: nn.Module, checkpointing: bool) -> None:
        super().__init__()
        self.first, self.blocks, self.head = first, nn.ModuleList(blocks), head
        self.checkpointing = checkpointing

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointing else block(x)
        found: Tensor = self.head(x)
        return found


class Attention(nn.Module):
    """A transformer block; ``fused`` takes torch's attention kernel, else the L x L scores are laid out in memory."""

    def __init__(self, width: int, fused: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        parts = self.mixed(self.norms[0](x)).view(n, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        if self.fused:
            seen = functional.scaled_dot_product_attention(query, key, value)
        else:
            seen = ((query @ key.transpose(-1, -2)) * (width // HEADS) ** -0.5).softmax(dim=-1) @ value
        x = x + self.out(seen.transpose(1, 2).reshape(n, length, width))
        found: Tensor = x + self.wide(self.norms[1](x))
        return found


class Recurrent(nn.Module):
    """One LSTM layer with its input added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.layer(x)[0]
        return found


class Pooled(nn.Module):
    """Classes from the mean over an image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x.mean(dim=(2, 3)))
        return found


def _convolved(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def _transformer(setting: Setting) -> nn.Module:
    width = setting.width
    blocks: list[nn.Module] = [Attention(width, setting.variant == "fused") for _ in range(BLOCKS)]
    return Stack(nn.Embedding(CLASSES, width), blocks, nn.Linear(width, CLASSES), setting.checkpointing)


def _lstm(setting: Setting) -> nn.Module:
    width = setting.width
    blocks: list[nn.Module] = [Recurrent(width) for _ in range(2)]
    return Stack(nn.Embedding(CLASSES, width), blocks, nn.Linear(width, CLASSES), setting.checkpointing)


def _cnn(setting: Setting) -> nn.Module:
    width = setting.width
    blocks = [_convolved(width) for _ in range(BLOCKS)]
    return Stack(nn.Conv2d(3, width, 3, padding=1), blocks, Pooled(width), setting.checkpointing)


def _mlp(setting: Setting) -> nn.Module:
    width = setting.width
    blocks: list[nn.Module] = [
        nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)) for _ in range(BLOCKS)
    ]
    return Stack(nn.Linear(64, width), blocks, nn.Linear(width, CLASSES), setting.checkpointing)


BUILT: dict[str, Callable[[Setting], nn.Module]] = {
    "transformer": _transformer,
    "lstm": _lstm,
    "cnn": _cnn,
    "mlp": _mlp,
}


def batch(setting: Setting, device: str) -> tuple[Tensor, Tensor]:
    """Make one batch of random input and its classes."""
    n, length = setting.batch, setting.length
    if setting.family == "cnn":
        return torch.randn(n, 3, length, length, device=device), torch.randint(CLASSES, (n,), device=device)
    if setting.family == "mlp":
        return torch.randn(n, 64, device=device), torch.randint(CLASSES, (n,), device=device)
    tokens = torch.randint(CLASSES, (n, length), device=device)
    return tokens, tokens.roll(-1, 1)


class Training:
    """A model in training with Adam, one ``step`` at a time on a fresh batch."""

    def __init__(self, setting: Setting, device: str) -> None:
        torch.manual_seed(0)
        self.setting, self.device = setting, device
        self.model = BUILT[setting.family](setting).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def step(self) -> Any:
        """Train one step."""
        given, wanted = batch(self.setting, self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.setting.precision == "bfloat16"):
            said = self.model(given)
        loss = functional.cross_entropy(said.float().flatten(0, -2), wanted.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


Sizes = dict[str, tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]]

SIZES: dict[str, Sizes] = {
    "cpu": {
        "transformer": (("plain", "fused"), (48, 128), (1, 2, 4, 8, 16), (16, 32, 64, 128)),
        "lstm": (("plain",), (48, 128), (2, 4, 8, 16, 32), (16, 32, 64, 128)),
        "cnn": (("plain",), (16, 32), (2, 4, 8, 16, 32), (16, 32, 48)),
        "mlp": (("plain",), (48, 128), (16, 32, 64, 128, 256, 512, 1024, 2048), (0,)),
    },
    "cuda": {
        "transformer": (("plain", "fused"), (512, 1024), (2, 4, 8, 16, 32), (128, 256, 512, 1024)),
        "lstm": (("plain",), (512, 1024), (16, 32, 64, 128, 256), (64, 128, 256, 512)),
        "cnn": (("plain",), (64, 128), (8, 16, 32, 64, 128), (64, 128, 192)),
        "mlp": (("plain",), (1024, 4096), (256, 512, 1024, 2048, 4096, 8192, 16384, 32768), (0,)),
    },
}
"""By device and family: variants, widths, batches, lengths. A GPU is asked at the sizes that people use one for."""


def sweep(device: str = "cpu") -> list[Setting]:
    """List the grid of a device."""
    return [
        Setting(family, variant, width, precision, kept, n, length)
        for family, (variants, widths, batches, lengths) in SIZES[device].items()
        for variant, width, precision, kept in product(variants, widths, ("float32", "bfloat16"), (False, True))
        for n, length in product(batches, lengths)
    ]
