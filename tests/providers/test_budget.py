"""Calls are spent, and come back with time."""

from datetime import UTC, datetime

import pytest

from providers.budget import LONGEST_PAUSE_SECONDS, Budget
from providers.clock import VirtualClock
from providers.errors import Throttled


def test_a_burst_is_allowed_and_then_so_many_a_second():
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    budget = Budget(clock, per_second=2.0, burst=5.0)
    for _ in range(5):
        budget.spend("describe")
    with pytest.raises(Throttled, match="nothing was sent"):
        budget.spend("describe")
    budget.spend("another api")
    clock.advance(1.0)
    budget.spend("describe")
    budget.spend("describe")
    with pytest.raises(Throttled):
        budget.spend("describe")


def test_a_storm_of_refusals_closes_for_longer_and_longer_up_to_a_limit():
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    budget = Budget(clock)
    sent = 0
    for _ in range(600):  # ten minutes, one try a second
        try:
            budget.spend("stop")
        except Throttled:
            pass
        else:
            sent += 1
            budget.refused("stop")
        clock.advance(1.0)
    assert 6 <= sent <= 12
    clock.advance(LONGEST_PAUSE_SECONDS)
    budget.spend("stop")
    budget.answered("stop")
    budget.spend("stop")
