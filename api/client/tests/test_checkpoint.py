"""The handshake's states."""
# ruff: noqa: ANN001, ANN003 - shipped beside the client; these types say nothing a reader needs

import threading

import pytest

from scaleahead.checkpoint import Handshake, Request, read_request


def ready(request, wall=lambda: 1000.0, **options):
    handshake = Handshake(wall, **options)
    handshake.prepare(request, step=5)
    handshake.due()
    handshake.saved("a", 5, None, 1.0)
    assert handshake.state == "ready"
    return handshake


def test_a_hold_ends_at_the_deadline_and_its_grace():
    moments = iter([1000.0, 1009.0, 1014.9, 1015.0])
    handshake = ready(Request("d", deadline=1005.0), lambda: next(moments), grace_seconds=10.0)
    # Each look waits a little for real; the wall says when it is over.
    assert handshake.hold() == "expired"
    assert (handshake.state, handshake.pending) == ("training", None)
    assert next(moments, None) is None


def test_a_deadline_long_past_leaves_the_grace_only():
    assert ready(Request("d", deadline=0.0), grace_seconds=0.0).hold() == "expired"


def test_a_hold_ends_at_proceed():
    told = []

    def wall():
        # The hold reads the wall while it has the lock: whoever is told to proceed then gets in only once it waits.
        if not told:
            told.append(threading.Thread(target=lambda: handshake.proceed()))
            told[0].start()
        return 1000.0

    handshake = ready(Request("d", deadline=2000.0), wall)
    assert handshake.hold(30) == "proceed"
    assert handshake.state == "training"


def test_a_hold_ends_at_its_own_limit():
    assert ready(Request("d")).hold(0) == "expired"


def test_nothing_is_held_without_a_request():
    handshake = Handshake()
    handshake.saved("a", 1, None, None)
    assert (handshake.hold(), handshake.state) == ("nothing", "training")


def test_a_checkpoint_begun_before_the_request_does_not_answer_it():
    handshake = Handshake()
    handshake.prepare(Request("d"), step=5)
    handshake.saved("periodic", 5, None, None)
    assert handshake.state == "checkpointing"
    assert handshake.due() == Request("d")
    handshake.saved("asked", 5, None, None)
    assert handshake.state == "ready"


def test_a_checkpoint_of_a_later_step_answers_even_if_nobody_looked():
    handshake = Handshake()
    handshake.prepare(Request("d"), step=5)
    handshake.saved("periodic", 6, None, None)
    assert handshake.state == "ready"


def test_asking_again_changes_nothing_and_another_decision_asks_anew():
    handshake = ready(Request("d"))
    handshake.prepare(Request("d"), 5)
    assert handshake.state == "ready"
    handshake.prepare(Request("e"), 5)
    assert (handshake.state, handshake.due()) == ("checkpointing", Request("e"))


def test_proceed_withdraws_a_request():
    handshake = Handshake()
    handshake.prepare(Request("d"), 1)
    handshake.proceed()
    assert (handshake.state, handshake.due()) == ("training", None)


def test_ids_of_checkpoints_change_even_at_one_step():
    handshake = Handshake()
    assert handshake.saved("a", 1, None, None) == "a"
    assert handshake.saved("a", 1, None, None) == "a+"


def test_done_stays_done():
    handshake = ready(Request("d"))
    handshake.done()
    handshake.proceed()
    assert handshake.state == "done"
    assert not handshake.prepare(Request("e"), 1)


@pytest.mark.parametrize(
    ("deadline", "seconds"),
    [(None, None), (12.5, 12.5), ("1970-01-01T00:01:00Z", 60.0), ("1970-01-01T01:00:00+01:00", 0.0)],
)
def test_deadlines_are_read_as_times_or_seconds(deadline, seconds):
    assert read_request({"decision": "d", "deadline": deadline}).deadline == seconds


def test_advice_is_read_and_what_is_no_number_is_left_out():
    body = {"decision": "d", "advice": {"batch_size": 256, "lr": float("nan"), "optimizer": "adam", "flag": True}}
    assert read_request(body).advice == {"batch_size": 256.0}
    assert read_request({"decision": "d", "advice": [1]}).advice == {}
    assert read_request({"decision": "d"}).advice == {}
