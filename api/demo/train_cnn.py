"""Edge: a small convolutional network on images it can make itself; its batch doubles, and nobody is told."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from api.demo.training import Settings, Stage, main

CLASSES, SIDE, WIDTH = 10, 32, 30
TOTAL_STEPS = 130
STAGES = (Stage(0.0, 16), Stage(0.2, 32), Stage(0.4, 64), Stage(0.6, 128), Stage(0.9, 192))


class Network(nn.Module):
    """Three convolutions at full size, then two smaller ones."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()),
            *(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH), nn.BatchNorm2d(WIDTH), nn.ReLU()),
            *(nn.Conv2d(WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AvgPool2d(2)),
            *(nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1, groups=WIDTH), nn.BatchNorm2d(2 * WIDTH), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(2 * WIDTH * 16, CLASSES)),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Take float[batch, 3, SIDE, SIDE], give float[batch, CLASSES]."""
        logits: torch.Tensor = self.layers(images)
        return logits


class Images:
    """The task: tell ten noisy patterns apart."""

    stages: Sequence[Stage] = STAGES
    declared: bool = False

    def __init__(self, chosen: Settings) -> None:
        torch.manual_seed(2)
        coarse = torch.randn(CLASSES, 3, 8, 8)
        self.patterns = F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
        self.model: nn.Module = Network()
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)

    def learn(self, step: int, batch_size: int, seq_len: int) -> torch.Tensor:
        """Take one step on images drawn by the step's number."""
        drawn = torch.Generator().manual_seed(step)
        labels = torch.randint(CLASSES, (batch_size,), generator=drawn)
        images = self.patterns[labels]
        images += torch.randn(images.shape, generator=drawn)
        loss = F.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.detach()


if __name__ == "__main__":
    main(Images, "cnn", TOTAL_STEPS)
