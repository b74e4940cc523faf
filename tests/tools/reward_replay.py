"""Edge: whether refining the weights of experts by realised regret makes better decisions, on replayed traces.

``python -m tests.tools.reward_replay TRACES... [--value-of-time V] [--redraw SEEDS] [--rate R] [--orders N]``: every
trace is replayed under an undeclared schedule without refinement, then in drawn orders with it: what a run teaches goes
to the next, so that no run is judged by what it taught itself. Regret is against the oracle, paired trace by trace.
A rate of 0 keeps the weights of the beginning: what hearing all experts is worth by itself.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from daemon.forecast import ensemble
from daemon.forecast.ensemble import Sampler
from daemon.replay import oracle
from daemon.replay.cautious import Cautious
from daemon.replay.rewarded import Rewarded
from daemon.replay.run import Run
from daemon.replay.trace import Trace, read, redrawn
from daemon.reward import RATE, refined
from policies.cost_per_progress import CostPerProgress
from policies.types import Settings

PRIOR = {"head": 0.8, "steps": 0.09, "progress": 0.09, "present": 0.02}
Known = Sequence[tuple[Trace, float]]


def plain(known: Known, settings: Settings, schedules: Sampler) -> list[float]:
    """Replay without refinement: the logarithm of each trace's regret."""
    value = settings.value_of_time_usd_per_hour
    return [
        math.log(Run(one, CostPerProgress(), Cautious(one, schedules), settings).play().objective(value) / least)
        for one, least in known
    ]


def rewarded(
    known: Known, order: Sequence[int], settings: Settings, schedules: Sampler, rate: float
) -> tuple[list[float], Mapping[str, float]]:
    """Replay in an order, each run with the weights that those before it taught: as ``plain``, and the last weights."""
    value = settings.value_of_time_usd_per_hour
    weights: dict[str, float] = dict(PRIOR)
    found = [0.0] * len(known)
    for place in order:
        one, least = known[place]
        run = Rewarded(one, CostPerProgress(), Cautious(one, schedules, weights), settings)
        found[place] = math.log(run.play().objective(value) / least)
        weights = refined(weights, run.regret(), rate) if rate > 0 else weights
    return found, weights


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.reward_replay", description=__doc__)
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--value-of-time", type=float, default=5.0)
    parser.add_argument("--redraw", type=int, default=0, help="draw the lengths of settings anew, for so many seeds")
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--orders", type=int, default=3)
    given = parser.parse_args()
    settings = Settings("replay", "cost_per_progress", "v", value_of_time_usd_per_hour=given.value_of_time)
    traces = [read(path, None) for path in given.traces]
    if given.redraw:
        randoms = [np.random.default_rng((seed, place)) for seed in range(given.redraw) for place in range(len(traces))]
        traces = [redrawn(traces[place % len(traces)], random) for place, random in enumerate(randoms)]
    known = [(one, oracle.solve(one, given.value_of_time).objective(given.value_of_time)) for one in traces]
    schedules = ensemble.shipped().schedules
    without = np.array(plain(known, settings, schedules))
    print(f"{given.value_of_time:g} $/h, {len(known)} traces: without {math.exp(without.mean()):.4f}")
    for seed in range(given.orders):
        order = np.random.default_rng(seed).permutation(len(known)).tolist()
        found, weights = rewarded(known, order, settings, schedules, given.rate)
        difference = np.array(found) - without
        error = difference.std() / math.sqrt(len(difference))
        said = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
        print(
            f"  order {seed}: with {math.exp(np.mean(found)):.4f}, difference {difference.mean():+.4f} (standard error "
            f"{error:.4f}), better on {(difference < -1e-4).sum()}, worse on {(difference > 1e-4).sum()}; {said}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
