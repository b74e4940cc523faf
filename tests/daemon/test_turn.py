"""What a policy is shown of a job: newest values, how a step grows with the batch, and the option of letting go."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from daemon import engine, turn
from daemon.types import History
from providers.types import Allocation, Offer, Price, Resources, Target
from tests.policies.situations import stay

HERE = stay().offer
NOW = datetime(2026, 11, 23, tzinfo=UTC)
MACHINE = Allocation(Target("aws", "vm", "i-1", "us-east-1a"), "running", HERE)


def history(offers: tuple[str, ...] = (), **columns: list[float]) -> History:
    arrays = {name.replace("__", "."): np.array(values) for name, values in columns.items()}
    rows = len(next(iter(arrays.values())))
    return History("bert", np.arange(rows), np.arange(rows, dtype=np.float64), arrays, offers)


def test_the_newest_known_value_is_shown_and_of_usage_the_middle_of_five():
    nan = float("nan")
    seen = turn.observed(
        history(
            hp__batch_size=[32.0, 64.0, nan, nan, nan, nan], metric__loss=[nan] * 6,
            usage__gpu_util=[0.1, 0.9, 0.2, 0.95, 0.9, nan],
        )
    )  # fmt: skip
    assert seen == {"hp.batch_size": 64.0, "usage.gpu_util": 0.9}


def test_a_step_is_fitted_to_the_batch_sizes_shown_on_the_present_machine():
    batch = [64.0, 64.0, 32.0, 32.0, 64.0, 64.0]
    seconds = [9.0, 9.0, 0.42, 0.42, 0.74, 0.74]  # the first two on another machine
    seen = turn.observed(history(("old",) * 2 + ("new",) * 4, hp__batch_size=batch, step_seconds=seconds))
    assert seen["pace.fixed_s"] == pytest.approx(0.1)
    assert seen["pace.per_sample_s"] == pytest.approx(0.01)
    one = turn.observed(history(("new",) * 2, hp__batch_size=[32.0, 32.0], step_seconds=[0.4, 0.4]))
    assert "pace.fixed_s" not in one
    falling = turn.observed(history(("new",) * 2, hp__batch_size=[32.0, 64.0], step_seconds=[0.5, 0.4]))
    assert "pace.fixed_s" not in falling


def test_a_running_machine_can_be_let_go_for_the_dollars_of_its_stop():
    made = turn.release(MACHINE, stay(), engine.MoveCost(checkpoint_seconds=60, stop_seconds=60, poll_seconds=30))
    assert made is not None
    assert (made.route, made.kind, made.offer) == ("release", "release", HERE)
    assert made.move_usd == pytest.approx(180 / 3600)  # a dollar an hour; one poll late, one poll to wait
    assert made.hours.mean == float("inf")


@pytest.mark.parametrize(
    "change", [{"state": "stopped"}, {"state": "pending"}, {"target": Target("aws", "group", "g", "us-east-1")}]
)
def test_nothing_else_can_be_let_go(change: dict[str, Any]):
    assert turn.release(replace(MACHINE, **change), stay(), engine.MoveCost()) is None


def offer(region: str, zone: str | None, provider: str = "aws") -> Offer:
    return Offer(provider, region, "m5.large", Resources(2, 8), Price(0.1, "a test", NOW), zone=zone)


@pytest.mark.parametrize(
    ("there", "way"),
    [(offer("us-east-1", "us-east-1a"), "in_place"), (offer("us-east-1", None), "in_place"),
     (offer("us-east-1", "us-east-1b"), "replace"), (offer("eu-west-1", None), "replace"),
     (offer("us-east-1", None, "gcp"), "replace")],
)  # fmt: skip
def test_no_machine_is_modified_into_another_place(there: Offer, way: str) -> None:
    assert turn.vm_route(offer("us-east-1", "us-east-1a"), there) == way
