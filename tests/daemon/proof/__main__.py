"""Print the enumeration's figures: ``python -m tests.daemon.proof [FAULTS]``."""

import sys
import time

from tests.daemon.proof.explore import explore
from tests.daemon.proof.scenarios import SCENARIOS
from tests.daemon.proof.world import operator_module


def main() -> None:
    faults = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    module = operator_module()
    total = [0, 0, 0]
    print(f"schedules of up to {faults} faults; every law asked after every turn")
    began = time.process_time()
    for scenario in SCENARIOS:
        schedules, explorer = explore(scenario, module, faults)
        counts = (schedules, len(explorer.states), explorer.turns)
        total = [sum(pair) for pair in zip(total, counts, strict=True)]
        ends = ", ".join(sorted(explorer.ends))
        print(f"{scenario.name:26}{counts[0]:>11,} schedules{counts[1]:>8,} states{counts[2]:>9,} turns   ends: {ends}")
    print(f"{'all':26}{total[0]:>11,} schedules{total[1]:>8,} states{total[2]:>9,} turns")
    print(f"{time.process_time() - began:.1f} s of one core")


if __name__ == "__main__":
    main()
