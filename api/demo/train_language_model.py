"""Edge: a small causal transformer over bytes of the standard library's own sources; its declared sequences grow."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from api.demo.training import Settings, Stage, main

WIDTH, LAYERS, HEADS, INNER, WINDOW, LONGEST = 32, 3, 8, 256, 32, 256
TOTAL_STEPS = 150
STAGES = (
    Stage(0.0, 16, 32),
    Stage(0.06, 16, 64),
    Stage(0.12, 32, 64),
    Stage(0.40, 18, 128),
    Stage(0.70, 44, 128),
    Stage(0.92, 24, 256),
)


class Block(nn.Module):
    """Attention over a window of the past (so memory is linear in tokens), then a gated layer."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.project, self.join = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.widen, self.narrow = nn.Linear(WIDTH, 2 * INNER), nn.Linear(INNER, WIDTH)
        place = torch.arange(2 * WINDOW)
        past = place[None, :] - WINDOW - torch.arange(WINDOW)[:, None]
        self.register_buffer("hidden", (past > 0) | (past <= -WINDOW), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take float[batch, length, WIDTH]; ``length`` is a multiple of WINDOW."""
        x = x + self.join(self._attend(self.before(x)))
        gate, value = self.widen(self.between(x)).chunk(2, dim=-1)
        narrowed: torch.Tensor = self.narrow(F.silu(gate) * value)
        return x + narrowed

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        blocks = length // WINDOW
        split = self.project(x).view(batch, blocks, WINDOW, 3, HEADS, WIDTH // HEADS).permute(3, 0, 4, 1, 2, 5)
        query, key, value = split.unbind(0)
        scores = query @ _with_past(key).transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
        scores = scores.masked_fill(self.hidden, float("-inf"))
        # The first block's past is padding.
        scores[:, :, 0, :, :WINDOW] = float("-inf")
        mixed = scores.softmax(-1) @ _with_past(value)
        joined: torch.Tensor = mixed.permute(0, 2, 3, 1, 4).reshape(batch, length, WIDTH)
        return joined


def _with_past(x: torch.Tensor) -> torch.Tensor:
    """Put the block before in front of every block: [.., blocks, WINDOW, d] -> [.., blocks, 2 WINDOW, d]."""
    return torch.cat([F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1], x], dim=-2)


class Transformer(nn.Module):
    """Bytes in, logits of the next byte out."""

    def __init__(self) -> None:
        super().__init__()
        self.byte, self.place = nn.Embedding(256, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Take int64[batch, length], give float[batch, length, 256]."""
        x = self.byte(tokens) + self.place.weight[: tokens.shape[1]]
        logits: torch.Tensor = self.head(self.norm(self.blocks(x)))
        return logits


class LanguageModel:
    """The task: predict the next byte of Python."""

    stages: Sequence[Stage] = STAGES
    declared: bool = True

    def __init__(self, chosen: Settings) -> None:
        torch.manual_seed(1)
        self.text = corpus()
        self.model: nn.Module = Transformer()
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-3)

    def learn(self, step: int, batch_size: int, seq_len: int) -> torch.Tensor:
        """Take one step on sequences drawn by the step's number."""
        drawn = torch.Generator().manual_seed(step)
        starts = torch.randint(len(self.text) - seq_len - 1, (batch_size, 1), generator=drawn)
        tokens = self.text[starts + torch.arange(seq_len + 1)].long()
        loss = F.cross_entropy(self.model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.detach()


def corpus(most_bytes: int = 1_000_000) -> torch.Tensor:
    """Read the standard library's modules in the order of their names, as uint8[n]."""
    text = b""
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        text += path.read_bytes()
        if len(text) >= most_bytes:
            break
    return torch.frombuffer(bytearray(text[:most_bytes]), dtype=torch.uint8)


if __name__ == "__main__":
    main(LanguageModel, "language-model", TOTAL_STEPS)
