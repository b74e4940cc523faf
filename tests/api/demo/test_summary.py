"""The summary counts; it does not know what it would like to see."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import numpy as np
import pytest

from api.demo.summary import Evidence, Foretold, assembled, result
from daemon.store.base import Span
from daemon.types import Decision, History
from policies.types import Choice, Option, Spread
from providers.simulated.state import Line
from providers.types import Notice, Offer, Price, Resources

BEGAN = datetime(2026, 11, 23, 10, tzinfo=UTC)


def offer(kind: str, memory: float) -> Offer:
    return Offer("aws", "us-east-1", kind, Resources(4, memory), Price(0.2, "a test", BEGAN))


SMALL, LARGE = offer("m5.xlarge", 16), offer("r5.xlarge", 32)


def move(minutes: float, old: Offer = SMALL, new: Offer = LARGE, status: str = "done") -> Decision:
    nothing = Spread.exactly(0.0)
    option = Option(
        new, "in_place", "change_machine", nothing, nothing, nothing, nothing, 0.2, None, 0, None, 0, 0, 0, 0, 0, 0, 0
    )
    at = BEGAN + timedelta(minutes=minutes)
    return cast(
        Decision,
        Decision("d", "job", at, "p", "v", "auto", status, old, Choice(option, ""), (option,), "", {}),  # type: ignore[arg-type]
    )


def evidence(memory: list[float], **more: object) -> Evidence:
    """One row a minute."""
    n = len(memory)
    history = History(
        "job", np.arange(1, n + 1), BEGAN.timestamp() + 60.0 * np.arange(n),
        {"usage.memory_gib": np.array(memory)}, total_steps=n,
    )  # fmt: skip
    made = Evidence(
        "job", True, BEGAN, BEGAN + timedelta(hours=1), True, [Line("o", BEGAN, 7200.0, 0.4)], [], [],
        [Span("a", 1, n, BEGAN)], history,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


GROWS = [10.0] * 20 + [20.0] * 20


def test_a_move_before_the_growth_counts_and_one_after_a_kill_does_not() -> None:
    kill = Notice("out_of_memory", BEGAN + timedelta(minutes=3))
    assert result(evidence(GROWS, decisions=[move(10)]))["moved_before_need"] == 1
    assert result(evidence(GROWS, decisions=[move(10)], notices=[kill]))["moved_before_need"] == 0
    assert result(evidence(GROWS, decisions=[move(10)], notices=[kill]))["out_of_memory"] == 1


def test_a_move_that_was_never_needed_or_went_down_or_failed_does_not_count() -> None:
    assert result(evidence([10.0] * 40, decisions=[move(10)]))["moved_before_need"] == 0
    assert result(evidence(GROWS, decisions=[move(10, LARGE, SMALL)]))["moved_before_need"] == 0
    assert result(evidence(GROWS, decisions=[move(10, status="rolled_back")]))["moves"] == 0


def test_money_stops_with_the_job() -> None:
    assert result(evidence(GROWS))["usd"] == pytest.approx(0.2)


def test_work_done_twice_is_lost() -> None:
    assert result(evidence(GROWS, spans=[Span("a", 1, 20, BEGAN), Span("b", 16, 40, BEGAN)]))["lost_steps"] == 5
    assert result(evidence(GROWS, spans=[Span("a", 1, 20, BEGAN), Span("b", 21, 40, BEGAN)]))["lost_steps"] == 0


def test_the_forecast_is_judged_on_what_came() -> None:
    """At step 18 of 40 the next 15 % are steps 19 to 24, of which four are at 20 GiB."""
    right = Foretold(18, 10.0, (20, 40), (10.0, 20.0))
    wrong = Foretold(18, 10.0, (20, 40), (10.0, 10.0))
    assert result(evidence(GROWS, foretold=[right]))["forecast_error"] == 0.0
    assert result(evidence(GROWS, foretold=[wrong]))["forecast_error"] == pytest.approx(4 * 0.5 / 6, abs=1e-4)
    # A twin believes that the present persists, whatever was drawn for it.
    assert result(evidence(GROWS, foretold=[right], foresees=False))["forecast_error"] == pytest.approx(
        0.3333, abs=1e-4
    )


def test_results_stand_beside_their_twins() -> None:
    found = assembled([{"job": "a"}, {"job": "a-reactive"}], {"a-reactive": "a"}, {})
    assert found["jobs"] == {"a": {"job": "a", "twin": {"job": "a-reactive"}}}
