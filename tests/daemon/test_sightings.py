"""What is noticed of spot offers at odd times, as looks ten minutes apart."""

from datetime import UTC, datetime, timedelta

from daemon.sightings import known, noticed
from policies.availability import Availability

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def after(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def test_turns_of_seconds_make_looks_of_ten_minutes():
    one = noticed(None, True, NOW)
    for half_minutes in range(1, 61):
        one = noticed(one, True, after(half_minutes / 2))
    assert (one.seen.up, one.seen.age) == (True, 4)
    assert sum(one.seen.looks) == 3
    assert sum(one.seen.ends) == 0


def test_a_look_is_down_if_it_was_down_at_any_time():
    one = noticed(noticed(None, True, NOW), True, after(10))
    down = noticed(one, False, after(12))
    back = noticed(down, True, after(14))
    assert not back.seen.up
    assert back.seen == Availability(True).look(False)
    assert noticed(back, True, after(21)).seen == Availability(True).look(False).look(True)


def test_a_loss_is_counted_at_the_age_it_came():
    one = noticed(noticed(noticed(None, True, NOW), True, after(10)), False, after(20))
    assert one.seen == Availability(True).look(True).look(False)
    assert sum(one.seen.ends) == 1


def test_what_was_not_seen_is_not_counted():
    one = noticed(noticed(None, False, NOW), True, after(300))
    assert (one.seen.up, one.seen.age, sum(one.seen.looks)) == (True, 1, 0)


def test_what_was_refused_long_ago_is_worth_a_try():
    one = {"a": noticed(None, False, NOW)}
    assert not known(one, after(5))["a"].up
    assert known(one, after(120))["a"].up
