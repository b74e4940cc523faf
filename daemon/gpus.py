"""Values: what data sheets say of GPUs, as far as it tells how fast they train."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from daemon.types import Floats


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, not the board: dense rates in TFLOP/s, memory bandwidth in GB/s.

    ``float32`` is the rate outside of tensor cores; with ``doubled`` lanes (GA10x and later) only half of it counts,
    because the other half shares its issue slots. ``matmul`` is what frameworks multiply matrices with by default:
    TF32 where there is one, else ``float32``. ``linked``: where clouds sell several in a machine, NVLink joins them.
    """

    float32: float
    matmul: float
    gb_per_s: float
    doubled: bool = False
    linked: bool = False

    def features(self) -> Floats:
        """Give the logarithms that speed is explained by, float[3]: rate, tensor gain, bandwidth."""
        plain = self.float32 / 2 if self.doubled else self.float32
        found: Floats = np.log(np.array([plain, max(self.matmul / plain, 1.0), self.gb_per_s]))
        return found


DATA_SHEETS: Mapping[str, Gpu] = {
    "K80": Gpu(4.37, 4.37, 240), "M60": Gpu(4.8, 4.8, 160), "P4": Gpu(5.5, 5.5, 192), "P100": Gpu(9.3, 9.3, 732),
    "V100": Gpu(15.7, 15.7, 900, linked=True), "T4": Gpu(8.1, 8.1, 320), "RTX-2080-TI": Gpu(13.4, 13.4, 616),
    "RTX-6000": Gpu(16.3, 16.3, 672), "A100": Gpu(19.5, 156, 1555, linked=True),
    "A100-80GB": Gpu(19.5, 156, 2039, linked=True), "A10": Gpu(31.2, 62.5, 600, True),
    "A10G": Gpu(31.5, 35, 600, True), "A40": Gpu(37.4, 74.8, 696, True), "L4": Gpu(30.3, 60, 300, True),
    "L40S": Gpu(91.6, 183, 864, True), "H100": Gpu(67, 495, 3350, True, True), "H200": Gpu(67, 495, 4800, True, True),
    "B200": Gpu(80, 1100, 8000, True, True), "GB200": Gpu(80, 1250, 8000, True, True),
    "B300": Gpu(75, 1125, 8000, True, True), "RTX-PRO-6000": Gpu(120, 240, 1597, True),
    "RTX-PRO-4500": Gpu(55, 110, 800, True),
}  # fmt: skip
"""NVIDIA's data sheets of these products (K80 and M60: half a board; SXM variants where there are several, but for the
P100, which clouds have as PCIe; server editions; TF32 without sparsity), as published by 2026. A10G after AWS's figures
for g5; ``matmul`` of the RTX PRO cards is taken as twice the float32 rate, as on Ada."""


def named(model: str | None) -> str | None:
    """Find the data sheet's name for a GPU as a cloud or a profile names it; ``None`` if there is no sheet."""
    if not model:
        return None
    words = model.upper().replace(" ", "-").removeprefix("NVIDIA-").removeprefix("TESLA-")
    words = {"T4G": "T4"}.get(words, words)
    while words not in DATA_SHEETS:
        if "-" not in words:
            return None
        words = words.rpartition("-")[0]
    return words
