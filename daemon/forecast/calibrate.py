"""Pure decisions: make intervals cover as often as they claim, offline by split conformal and online per job.

Offline: for each path and bucket of horizon, the factor on deviations is the conformal quantile of past absolute
scores (Lei et al. 2018). Online: a factor a job follows its misses (Gibbs and Candes 2021), in logarithms.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from daemon.types import Floats, Ints

EDGES = (0.1, 0.3, 1.0, 3.0)
"""Buckets of horizon: steps ahead over steps behind."""

LEVEL = 0.9
_SCORE = 1.6448536
_RATE = 0.06
_NARROWEST, _WIDEST = 0.5, 4.0


def bucket(ahead: Ints, behind: int) -> Ints:
    """Number the bucket of each horizon: ``ahead`` steps from now with ``behind`` steps behind us."""
    return np.searchsorted(np.array(EDGES), ahead / max(behind, 1)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Factors on deviations: one for each path and bucket; 1 where nothing was measured."""

    factors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def factor(self, name: str, ahead: Ints, behind: int) -> Floats | float:
        """Give the factor at each grid point, float[K]; a path stands for its kind (``metric``) if not named itself."""
        known = self.factors.get(name) or self.factors.get(name.split(".")[0])
        return 1.0 if known is None else np.array(known)[bucket(ahead, behind)]

    def to_dict(self) -> dict[str, list[float]]:
        """Give it as plain numbers."""
        return {name: list(values) for name, values in self.factors.items()}

    @classmethod
    def from_dict(cls, state: Mapping[str, object]) -> "Calibration":
        """Read it from plain numbers. Raises ``ValueError`` for what is not five positive factors a path."""
        factors: dict[str, tuple[float, ...]] = {}
        for name, values in state.items():
            if not isinstance(values, list) or len(values) != len(EDGES) + 1:
                raise ValueError(f"calibration of {name!r} needs {len(EDGES) + 1} factors - measure it again")
            if not all(isinstance(v, int | float) and 0.0 < v < 100.0 for v in values):
                raise ValueError(f"calibration of {name!r} has a factor outside (0, 100) - measure it again")
            factors[name] = tuple(float(v) for v in values)
        return cls(factors)


def load(file: Path) -> tuple[Calibration, str]:
    """Read the calibration shipped with the weights: (calibration, reason). Without a good file all factors are 1."""
    try:
        return Calibration.from_dict(json.loads(file.read_text())), ""
    except FileNotFoundError:
        return Calibration(), ""
    except (OSError, ValueError, AttributeError) as error:
        return Calibration(), f"calibration not used: {error}"


def fit(scores: Mapping[str, tuple[Floats, Ints]], level: float = LEVEL) -> Calibration:
    """Fit factors from held-out runs: ``scores[name]`` is (absolute errors over deviations, their buckets).

    The ceil((n + 1) x level)-th smallest score covers with that probability; under 30 scores a bucket keeps 1.
    """
    normal = _SCORE if level == LEVEL else float(_normal_score(level))
    found: dict[str, tuple[float, ...]] = {}
    for name, (errors, buckets) in scores.items():
        factors = []
        for number in range(len(EDGES) + 1):
            part = np.sort(errors[(buckets == number) & np.isfinite(errors)])
            rank = int(np.ceil((len(part) + 1) * level)) - 1
            factors.append(
                float(np.clip(part[min(rank, len(part) - 1)] / normal, 0.2, 5.0)) if len(part) >= 30 else 1.0
            )
        found[name] = tuple(factors)
    return Calibration(found)


def adapt(factor: float, errors: Floats, level: float = LEVEL) -> float:
    """Follow a job: widen after each miss, narrow a little after each hit, so that in the long run ``level`` are hits.

    ``errors`` are absolute errors over uncalibrated deviations, oldest first. The answer stays within 0.5 and 4.
    """
    normal = _SCORE if level == LEVEL else float(_normal_score(level))
    for error in errors[np.isfinite(errors)].tolist():
        miss = 1.0 if error > factor * normal else 0.0
        factor = float(
            np.clip(factor * np.exp(_RATE * (miss - (1.0 - level)) / (1.0 - level) * 0.5), _NARROWEST, _WIDEST)
        )
    return factor


def _normal_score(level: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + level / 2)
