"""The uniform-progress rule, rule by rule."""

import pytest

from policies.pace import Pace, Way, uniform_progress

D = 0.25
AHEAD = Pace(work=10, left=4, elapsed=10, deadline=20, changeover=D)
EVEN = Pace(work=10, left=5, elapsed=10, deadline=20, changeover=D)
BEHIND = Pace(work=10, left=6, elapsed=10, deadline=20, changeover=D)
NO_SLACK = Pace(work=10, left=9.6, elapsed=10, deadline=20, changeover=D)


@pytest.mark.parametrize(
    ("pace", "now", "spot", "then"),
    [
        (BEHIND, "spot", True, "spot"),  # exploitation: kept until it is lost
        (NO_SLACK, "spot", True, "spot"),
        (BEHIND, "none", True, "spot"),  # taking risks
        (EVEN, "none", False, "none"),
        (BEHIND, "none", False, "on_demand"),
        (BEHIND, "on_demand", True, "on_demand"),
        (EVEN, "on_demand", True, "on_demand"),  # hysteresis: not yet ahead by two changeovers
        (AHEAD, "on_demand", True, "spot"),
        (AHEAD, "on_demand", False, "none"),
        (NO_SLACK, "none", True, "on_demand"),  # the safety net
        (NO_SLACK, "on_demand", True, "on_demand"),
    ],
)
def test_the_rules(pace: Pace, now: Way, spot: bool, then: Way):
    assert uniform_progress(pace, now, spot) == then
