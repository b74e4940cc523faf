"""From any history to a choice, through forecast, engine, guards and every installed policy: what always holds."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon import engine, speed
from daemon.forecast.base import Horizon
from daemon.forecast.persist import Persist
from daemon.store.database import Found
from daemon.store.history import NO_CUT, Block, Run, missing
from daemon.types import Floats, History, JobStatus
from policies import guards
from policies.base import Policy
from policies.config import policy_of
from policies.kinds import installed
from policies.types import Limits, Option, Settings, Situation
from providers.types import Offer, Price, Resources

NOW = datetime(2026, 11, 25, tzinfo=UTC)
SIZES = (4.0, 8.0, 16.0, 32.0, 64.0)


def offer(gib: float, usd: float) -> Offer:
    return Offer("aws", "us-east-1", f"m{gib:g}", Resources(gib / 4, gib), Price(usd, "test", NOW))


OFFERS = [offer(gib, 0.03 * gib**0.9) for gib in SIZES]
HERE = OFFERS[2]


def run(memory: Floats | None, cores: Floats, seconds: float) -> History:
    """Make a history of rows of one step each."""
    size = len(cores)
    columns = {"step_seconds": np.full(size, seconds), "usage.cpu_cores": cores}
    if memory is not None:
        columns["usage.memory_gib"] = memory
    return History("job", np.arange(1, size + 1), np.arange(size) * 30.0, columns, (HERE.id,) * size, 10_000)


def choice(policy: Policy, kind: str, history: History, floor: float, cap: float | None) -> Option:
    """Choose as a turn does; ``floor`` is the greatest memory that the job was ever seen to use."""
    rules = Settings("p", kind, "v", value_of_time_usd_per_hour=2.0, limits=Limits(usd_per_hour=cap))
    (forecast,) = Persist().predict([history], Horizon())
    case = engine.Case(
        forecast, HERE, [engine.Candidate(one) for one in OFFERS if one is not HERE], rules, NOW,
        speeds=speed.learn(history, HERE), memory_floor_gib=floor,
    )  # fmt: skip
    seen = Situation("job", NOW, rules, engine.weigh(case).options, memory_floor_gib=floor, missing=history.missing)
    return guards.decide(policy, seen).option


@pytest.fixture(params=sorted(installed()))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


amounts = st.lists(st.floats(0.1, 15.0), min_size=6, max_size=12)


@given(amounts, amounts, st.sampled_from([None, 0.05, 0.3, 1.0]), st.floats(0.5, 60.0))
@settings(max_examples=40, deadline=None)
@pytest.mark.fault("D16")
def test_never_above_the_cap_and_never_below_the_floor(
    kind: str, memory: list[float], cores: list[float], cap: float | None, seconds: float
) -> None:
    size = min(len(memory), len(cores))
    history = run(np.array(memory[:size]), np.minimum(cores[:size], 4.0), seconds)
    taken = choice(policy_of(kind, installed()), kind, history, max(memory), cap)
    assert taken.stays or taken.offer.resources.memory_gib >= max(memory)
    assert taken.stays or taken.usd_per_hour <= (cap or math.inf)


@given(amounts, st.floats(0.5, 60.0), st.booleans())
@settings(max_examples=30, deadline=None)
def test_unknown_memory_never_scales_down(kind: str, cores: list[float], seconds: float, silent: bool) -> None:
    memory = None if silent else np.full(len(cores), np.nan)
    history = run(memory, np.minimum(cores, 4.0), seconds)
    taken = choice(policy_of(kind, installed()), kind, history, 0.0, None)
    assert taken.offer.resources.memory_gib >= HERE.resources.memory_gib


@given(amounts, st.floats(0.5, 60.0), st.data())
@settings(max_examples=40, deadline=None)
def test_deleting_observations_never_takes_memory_that_the_job_has_shown_to_need(
    kind: str, memory: list[float], seconds: float, data: st.DataObject
) -> None:
    """What was seen once is kept beside the rows, so that rows lost or thinned out never lead to a smaller machine."""
    whole = run(np.array(memory), np.full(len(memory), 1.0), seconds)
    kept = sorted(data.draw(st.sets(st.integers(0, len(memory) - 1), min_size=1)))
    columns = {name: column[kept] for name, column in whole.columns.items()}
    thinned = replace(
        whole, step=whole.step[kept], at_s=whole.at_s[kept], columns=columns, offers=whole.offers[: len(kept)]
    )
    taken = choice(policy_of(kind, installed()), kind, thinned, max(memory), None)
    assert taken.stays or taken.offer.resources.memory_gib >= max(memory)


@given(st.lists(st.floats(0.1, 70.0), min_size=2, max_size=12), st.floats(0.5, 60.0), st.data())
@example([7.0, *[1.0] * 40], 10.0, None)
@settings(max_examples=40, deadline=None)
def test_deleting_observations_never_adds_a_move_down(
    kind: str, memory: list[float], seconds: float, data: st.DataObject | None
) -> None:
    """Rows are numbered, so that a hole is seen, and a history with holes never leads to less of anything."""
    size = len(memory)
    rows = range(1, size + 1)
    kept = sorted(data.draw(st.sets(st.sampled_from(rows), min_size=1))) if data else list(rows[1:])
    store = Rows(rows)
    whole, thinned = (
        replace(run(np.array([memory[row - 1] for row in some], dtype=np.float64), np.full(len(some), 1.0), seconds),
                missing=store.missing(some)) for some in (list(rows), kept)
    )  # fmt: skip
    assert (thinned.missing > 0) == (kept != list(rows))
    assert whole.missing == 0
    policy = policy_of(kind, installed())
    before, after = (choice(policy, kind, one, 0.0, None).offer.resources for one in (whole, thinned))
    down = after.memory_gib < HERE.resources.memory_gib
    assert not down or before.memory_gib < HERE.resources.memory_gib


class Rows:
    """A run as the store keeps it, of which some rows are read."""

    def __init__(self, seqs: range) -> None:
        self.run = Run(1, "r", len(seqs), 0, seqs[0], seqs[-1], NO_CUT, (), ("",))
        self.status = JobStatus(run="r", next_seq=seqs[-1] + 1, stride=1)

    def missing(self, seqs: list[int]) -> int:
        return missing(
            [Block(self.run, [cast(Found, (1, seq, 0, None, 0, 0, b"", seq)) for seq in seqs])], 256, self.status
        )
