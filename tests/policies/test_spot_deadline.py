"""What the policies of spot under a deadline choose, in which words, and what a policy file may say of them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from policies.availability import Availability
from policies.base import Policy
from policies.config import load
from policies.guards import decide
from policies.spot import stand
from policies.spot_deadline import SpotDeadline
from policies.types import Capacity, Moves, Option, Settings, Situation, Spread
from policies.uniform_progress import UniformProgress
from tests.policies.situations import NOW, offer, option, policy, situation

KINDS = (SpotDeadline, UniformProgress)
WORK_HOURS = 48.0


def settings(**more: Any) -> Settings:
    return policy(capacity=Capacity(spot="allowed"), **more)


def on_demand(here: bool, hours: float = WORK_HOURS) -> Option:
    return made(offer("p3.2xlarge", 3.06), here, hours)


def spot(here: bool, usd: float = 0.58, name: str = "p3.2xlarge", hours: float = WORK_HOURS) -> Option:
    return made(offer(name, usd, buying="spot"), here, hours)


def made(offered: Any, here: bool, hours: float) -> Option:
    usd = offered.price.usd_per_hour * hours
    more = {"hours": Spread.exactly(hours), "usd": Spread.exactly(usd)}
    return option(offered, usd, route="stay" if here else "replace", **more)


def seen(*options: Option, hours: float, begun_hours: float = 10.0, **more: Any) -> Situation:
    rules = more.pop("settings", settings())
    began = NOW - timedelta(hours=begun_hours)
    return situation(*options, settings=rules, deadline=NOW + timedelta(hours=hours), began=began, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_spot_is_taken_while_there_is_time(kind: type[Policy]):
    choice = decide(kind(), seen(on_demand(True), spot(False), hours=72, done=0.9, begun_hours=1))
    assert choice.option.offer.buying == "spot"
    assert choice.reason.startswith("moving to aws/us-east-1/p3.2xlarge@spot, because ")


@pytest.mark.parametrize("kind", KINDS)
def test_spot_is_kept_while_there_is_time(kind: type[Policy]):
    choice = decide(kind(), seen(spot(True), on_demand(False), hours=72))
    assert choice.option.stays
    assert choice.reason.startswith("no change, because ")


@pytest.mark.parametrize("kind", KINDS)
def test_on_demand_is_taken_when_spot_could_be_too_late(kind: type[Policy]):
    reclaimed = decide(kind(), seen(spot(True), on_demand(False), hours=49.2, done=0.1, reclaimed=True))
    assert reclaimed.option.offer.buying == "on_demand"
    stays = decide(kind(), seen(on_demand(True), spot(False), hours=49.2, done=0.1))
    assert stays.option.stays


def test_the_plan_gives_spot_up_before_it_is_too_late():
    choice = decide(SpotDeadline(), seen(spot(True), on_demand(False), hours=48.9))
    assert choice.option.offer.buying == "on_demand"
    assert "is safer" in choice.reason


def test_the_delay_of_the_guards_is_counted():
    wide = settings(moves=Moves(cooldown_minutes=600))
    late = decide(SpotDeadline(), seen(spot(True), on_demand(False), hours=57, settings=wide))
    assert late.option.offer.buying == "on_demand"
    assert decide(SpotDeadline(), seen(spot(True), on_demand(False), hours=57)).option.stays


def test_spot_that_keeps_going_is_not_taken():
    flickering = Availability(False)
    for look in range(200):
        flickering = flickering.look(look % 2 == 0)
    options = on_demand(True), spot(False, 2.9)
    unknown = decide(SpotDeadline(), seen(*options, hours=60))
    known = decide(SpotDeadline(), seen(*options, hours=60, availability={options[1].offer.id: flickering}))
    assert known.option.stays
    assert unknown.option.stays
    cheap = on_demand(True), spot(False, 1.5)
    once = {cheap[1].offer.id: flickering}
    assert decide(SpotDeadline(), seen(*cheap, hours=53, availability=once)).option.stays


def test_of_two_spot_offers_the_cheaper_is_taken():
    near, far = spot(False, 0.9), spot(False, 0.5, "g5.xlarge")
    for kind in KINDS:
        choice = decide(kind(), seen(on_demand(True), near, far, hours=72, done=0.9, begun_hours=1))
        assert choice.option is far


def test_the_engines_charge_for_interruptions_is_not_counted_twice():
    stretched = replace(spot(False, hours=WORK_HOURS * 1.5), stretch=1.5)
    plain = [stand(seen(on_demand(True), one, hours=72)) for one in (spot(False), stretched)]
    assert [found.pace(found.spot[0]) for found in plain if found] == [pytest.approx(1.0, abs=0.01)] * 2


def test_uniform_progress_buys_on_demand_while_it_is_behind():
    gone = {"reclaimed": True, "begun_hours": 30.0}
    behind = decide(UniformProgress(), seen(spot(True), on_demand(False), hours=60, done=0.0, **gone))
    assert behind.option.offer.buying == "on_demand"
    back = seen(on_demand(True), spot(False), hours=60, done=0.1, begun_hours=30)
    assert decide(UniformProgress(), back).option.stays


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_deadline_or_spot_it_is_the_default_policy(kind: type[Policy]):
    better = option(offer("g5.xlarge", 2.0), 90.0, 50.0)
    no_spot = decide(kind(), seen(on_demand(True), better, spot(False), hours=72, settings=policy()))
    assert no_spot.option is better
    no_deadline = decide(kind(), situation(on_demand(True), better, settings=settings()))
    assert no_deadline.option is better


@pytest.mark.parametrize("kind", ["spot_deadline", "uniform_progress"])
def test_a_policy_file_may_name_the_changeover(kind: str):
    text = f"scaleahead: 1\npolicies:\n  mine:\n    kind: {kind}\n    changeover_minutes: 15\n"
    (found,), problems = load(text, "p.yaml")
    assert not problems
    assert found.extra == {"changeover_minutes": 15}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("changeover_minutes: -1", "p.yaml:5:25: changeover_minutes: -1 must be greater than or equal to 0"),
        ("changeover_minutes: 10m", "p.yaml:5:25: changeover_minutes: '10m' is not a number"),
        ("changeover_minute: 10", "p.yaml:5:5: unknown key 'changeover_minute' - did you mean 'changeover_minutes'?"),
    ],
)
def test_a_wrong_option_is_refused_with_its_place(line: str, said: str):
    _, problems = load(f"scaleahead: 1\npolicies:\n  mine:\n    kind: spot_deadline\n    {line}\n", "p.yaml")
    assert str(problems[0]).startswith(said)


def test_the_same_situation_gives_the_same_choice_from_another_policy():
    one = seen(on_demand(True), spot(False), hours=55)
    assert decide(SpotDeadline(), one) == decide(SpotDeadline(), one)
