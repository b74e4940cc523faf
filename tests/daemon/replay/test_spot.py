"""Spot under a deadline: the rules of the world, the oracle against brute force, and the baselines."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.replay.spot_oracle import least_usd
from daemon.replay.spot_rules import Greedy, OnDemand, Planned, UniformProgress
from daemon.replay.spot_trace import Bools, Terms, groups, read, starts, terms, whole_ticks
from daemon.replay.spot_world import OFF, ON_DEMAND, Sight, play
from daemon.replay.trace import TraceError
from policies.availability import PRIOR

HOUR = Terms(
    unit_seconds=600, tick=1, work=6, changeover=1, ticks=12, on_demand_usd_per_hour=6.0, spot_usd_per_hour=1.2
)
"""An hour of work in two hours; a tick costs 1 dollar on demand and 0.2 on spot."""


def row(text: str) -> Bools:
    """Read availability, one zone a word."""
    return np.array([[letter == "1" for letter in word] for word in text.split()])


class Listed:
    """A rule that takes machines from a list, and then the last of it."""

    def __init__(self, *machines: int) -> None:
        self.machines = list(machines)
        self.seen: list[Sight] = []

    def choose(self, sight: Sight) -> int:
        self.seen.append(sight)
        wished = self.machines.pop(0) if len(self.machines) > 1 else self.machines[0]
        return OFF if wished >= 0 and not sight.up[wished] else wished


def test_a_start_is_billed_and_nothing_is_done_in_it():
    outcome = play(HOUR, row("1" * 12), Listed(ON_DEMAND))
    assert (outcome.usd, outcome.hours, outcome.missed, outcome.changeovers) == (pytest.approx(7.0), 7 / 6, False, 1)


def test_waiting_is_free_and_a_lost_machine_must_be_started_again():
    rule = Listed(0)
    outcome = play(HOUR, row("001101111111"), rule)
    assert outcome.usd == pytest.approx(0.2 * 2 + 0.2 * 6)
    assert outcome.changeovers == 2
    assert [sight.left for sight in rule.seen[:6]] == [6, 6, 6, 6, 5, 5]
    assert rule.seen[4].machine == OFF


def test_zones_are_machines_of_their_own():
    outcome = play(HOUR, row("110000000000 111111111111"), Listed(0, 0, 1))
    assert outcome.changeovers == 2
    assert outcome.usd == pytest.approx(0.2 * 8)


def test_the_net_holds_the_deadline_against_any_rule():
    outcome = play(HOUR, row("1" * 12), Listed(OFF))
    assert not outcome.missed
    assert outcome.usd == pytest.approx(7.0)
    assert outcome.hours == pytest.approx(2.0)


def test_a_zone_that_is_down_cannot_be_taken():
    class Blind:
        def choose(self, sight: Sight) -> int:
            return 0

    with pytest.raises(ValueError, match="down"):
        play(HOUR, row("0" * 12), Blind())


def test_a_changeover_need_not_be_whole_ticks():
    made = terms(0.75, 2.0, 15, 6.0, 1.2)
    assert (made.unit_seconds, made.tick, made.work, made.changeover, made.ticks) == (300, 2, 9, 3, 12)
    outcome = play(made, row("1" * 12), Listed(0))
    assert outcome.usd == pytest.approx(1.2)
    assert outcome.hours == pytest.approx(1.0)


def least_by_trying(made: Terms, up: Bools) -> float:
    """Try every sequence of machines; the world's net only takes away what could not have been finished surely."""
    machines = [OFF, ON_DEMAND, *range(len(up))]
    found = [np.inf]
    for plan in itertools.product(machines, repeat=made.ticks):
        usd, left, machine, starting = 0.0, made.work, OFF, 0
        for tick, wished in enumerate(plan):
            if machine >= 0 and not up[machine, tick]:
                machine, starting = OFF, 0
            taken = wished if wished < 0 or up[wished, tick] else OFF
            if taken != machine:
                machine, starting = taken, made.changeover
            if machine != OFF:
                for _ in range(made.tick):
                    if not left:
                        break
                    usd += made.usd(made.on_demand_usd_per_hour if machine == ON_DEMAND else made.spot_usd_per_hour, 1)
                    starting, left = (starting - 1, left) if starting else (0, left - 1)
        if left == 0:
            found.append(usd)
    return min(found)


@st.composite
def small(draw: st.DrawFn) -> tuple[Terms, Bools]:
    ticks, zones, tick = draw(st.integers(2, 5)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    changeover = draw(st.integers(0, min(3, ticks * tick - 1)))
    work = draw(st.integers(1, ticks * tick - changeover))
    made = Terms(600 // tick, tick, work, changeover, ticks, draw(st.sampled_from([6.0, 2.0])), 1.2)
    cells = draw(st.lists(st.booleans(), min_size=ticks * zones, max_size=ticks * zones))
    return made, np.array(cells).reshape(zones, ticks)


@settings(max_examples=60, deadline=None)
@given(small())
def test_the_oracle_is_the_least_of_all_sequences(case: tuple[Terms, Bools]):
    assert least_usd(*case) == pytest.approx(least_by_trying(*case))


@settings(max_examples=100, deadline=None)
@given(small())
def test_no_rule_beats_the_oracle_or_misses_the_deadline(case: tuple[Terms, Bools]):
    least = least_usd(*case)
    for rule in (OnDemand(), Greedy(), UniformProgress(), Planned(PRIOR, 2)):
        outcome = play(*case, rule)
        assert not outcome.missed
        assert outcome.usd >= least - 1e-9


def test_greedy_takes_on_demand_only_when_the_slack_is_used_up():
    outcome = play(HOUR, row("0" * 12), Greedy())
    assert outcome.hours == pytest.approx(2.0)
    assert outcome.usd == pytest.approx(7.0)


def test_uniform_progress_buys_progress_before_the_slack_is_used_up():
    made = Terms(600, 1, 12, 1, 24, 6.0, 1.2)
    down = play(made, row("0" * 24), UniformProgress())
    assert not down.missed
    late = row("0" * 8 + "1" * 16)
    assert play(made, late, UniformProgress()).usd > play(made, late, Greedy()).usd


def test_a_tick_counts_only_if_all_of_it_is_available():
    up = whole_ticks(
        "made", [(0, 700, True), (700, 100, False), (800, 1600, True), (2400, 60, False), (2460, 540, True)]
    )
    assert up.tolist() == [True, False, True, True, False]


def test_groups_and_starts(tmp_path: Path):
    file = tmp_path / "made.csv"
    rows = [f"a,{zone},v100,0,60000,1" for zone in ("x", "y", "z")] + ["b,x,v100,0,60000,1", "a,x,k80,0,60000,0"]
    file.write_text("trace,zone,instance,start_s,length_s,available\n" + "\n".join(rows) + "\n")
    zones = read(file)
    assert len(zones) == 5
    assert [[zone.zone for zone in group] for group in groups(zones, 2)] == [["x", "y"], ["x", "z"], ["y", "z"]]
    drawn = starts(zones[:1], 90, 50, 7)
    assert drawn == starts(zones[1:2], 90, 50, 7)
    assert set(drawn) <= set(range(11))
    with pytest.raises(ValueError, match="shorter than the deadline"):
        starts(zones[:1], 101, 1, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trace,zone\n", "no column"), ("", "no column"),
        ("trace,zone,instance,start_s,length_s,available\n", "no run"),
        ("trace,zone,instance,start_s,length_s,available\na,b,c,0,x,1\n", ":2:"),
        ("trace,zone,instance,start_s,length_s,available\na,b,c,0,60,yes\n", ":2:"),
        ("trace,zone,instance,start_s,length_s,available\na,b,c,0,60,1\na,b,c,120,60,1\n", "gap"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused(tmp_path: Path, text: str, words: str):
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(TraceError, match=words):
        read(file)
