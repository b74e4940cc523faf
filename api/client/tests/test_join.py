"""A node asks the job for a checkpoint before it joins, and waits as long as its user says."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import subprocess
import sys

import pytest

from scaleahead import Reporter
from scaleahead.join import Asked, TooLate, wait


@pytest.fixture
def report():
    with Reporter("job", hook_port=0, token="secret", usage=dict) as made:
        yield made


def asked(report, token="secret"):
    return Asked(report.url, token)


def test_where_nobody_answers_nobody_trains():
    assert Asked("http://127.0.0.1:9").state() is None
    assert wait(Asked("http://127.0.0.1:9"), 60) == "nobody trains"


def test_it_waits_until_the_job_has_saved(report):
    rests = []

    def rest(seconds):
        rests.append(report.handshake.state)
        if len(rests) == 3:
            assert report.checkpoint_due().reason == "a node joins the job"
            report.saved("step-5", 5)

    report.step(5, {"batch_size": 1})
    assert wait(asked(report), 60, sleep=rest) == "the job is ready"
    assert rests == ["checkpointing"] * 3


def test_the_job_stands_as_long_as_the_joiner_gives_it(report):
    with pytest.raises(TooLate, match="within 0 s"):
        wait(asked(report), 0)
    assert report.handshake.pending is None
    clock, walls = iter([0.0, 1.0, 1.0, 500.0]), 1000.0
    with pytest.raises(TooLate, match="within 500 s"):
        wait(asked(report), 500, lambda: next(clock), lambda: walls, lambda seconds: None)
    assert report.handshake.pending.deadline == 1499.0


def test_a_job_that_already_stands_still_is_not_asked_again(report):
    report.step(5, {"batch_size": 1})
    asked(report).prepare(2e9)
    report.checkpoint_due()
    report.saved("step-5", 5)
    before = report.handshake.pending
    assert wait(asked(report), 60) == "the job is ready"
    assert report.handshake.pending is before


def test_a_wrong_token_is_an_error_and_no_leave_to_join(report):
    command = [sys.executable, "-m", "scaleahead.join", "--hook", report.url, "--", sys.executable, "-c", "print(1)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert "401" in done.stderr


def test_it_becomes_the_command(report):
    report.done()
    command = [sys.executable, "-m", "scaleahead.join", "--hook", report.url, "--", sys.executable, "-c", "print(1)"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path), "SCALEAHEAD_TOKEN": "secret"},
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
