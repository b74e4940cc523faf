"""Values: jobs whose true cost and memory are known, to foretell."""

import numpy as np

from daemon.types import Declared, Floats, History


def seconds(batch: Floats, length: Floats) -> Floats:
    """The true step time of these jobs."""
    return 0.02 + 2e-5 * batch * length + 1e-8 * batch * length**2


def gib(batch: Floats, length: Floats) -> Floats:
    """Their true memory."""
    return 3.0 + 4e-4 * batch * length + 2e-7 * batch * length**2


def job(
    batch: list[float], length: list[float], *, rows: int = 30, noise: float = 0.02, seed: int = 0, total: int = 10_000,
    declared: tuple[Declared, ...] = (), offers: list[str] | None = None, speeds: list[float] | None = None,
    name: str = "job", earlier: tuple[History, ...] = (),
) -> History:  # fmt: skip
    """A run through stretches of ``rows`` rows, with the batch and length of each, on an offer with its speed."""
    rng = np.random.default_rng(seed)
    b, w = np.repeat(np.array(batch, dtype=float), rows), np.repeat(np.array(length, dtype=float), rows)
    n = len(b)
    took = seconds(b, w) * (1 + noise * rng.standard_normal(n)) / np.repeat(speeds or [1.0] * len(batch), rows)
    columns = {
        "hp.batch_size": b, "hp.seq_len": w, "hp.lr": np.linspace(1e-3, 5e-4, n), "step_seconds": took,
        "metric.loss": 2.0 + 3.0 / (1 + np.arange(n)) ** 0.4, "usage.gpu_util": np.full(n, 0.9),
        "usage.memory_gib": np.maximum.accumulate(gib(b, w) * (1 + 0.2 * noise * rng.random(n))),
    }  # fmt: skip
    step = 1 + np.arange(n) * 5
    return History(
        name, step, 1.8e9 + np.cumsum(took * 5), columns, tuple(np.repeat(offers, rows).tolist()) if offers else (),
        total, declared, earlier=earlier,
    )  # fmt: skip


def grid_of(batch: list[float], length: list[float]) -> dict[str, Floats]:
    """Paths of one trajectory over these settings."""
    return {"hp.batch_size": np.array([batch], dtype=float), "hp.seq_len": np.array([length], dtype=float)}
