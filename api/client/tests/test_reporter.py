"""The reporter: what training sees of it."""
# ruff: noqa: ANN001, ANN003 - shipped beside the client; these types say nothing a reader needs

import json
import os
import subprocess
import sys

import pytest

from scaleahead import Reporter, Request


def body(report, after=0):
    return json.loads(report.body(after))


def made(**options):
    return Reporter("job", **{"usage": dict, "every_seconds": 0, **options})


class Ticks:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_step_time_is_the_time_between_steps_and_unknown_at_the_first():
    clock = Ticks()
    report = made(clock=clock)
    for step, at in [(1, 100.0), (2, 101.5), (4, 104.5)]:
        clock.now = at
        report.step(step, {"b": 1})
    assert [o.get("step_seconds") for o in body(report)["observations"]] == [None, 1.5, 1.5]


def test_saving_and_holding_are_no_step_time():
    clock = Ticks()
    report = made(clock=clock)
    report.step(1, {"b": 1})

    def save():
        clock.now += 60

    report.at_step_end(2, {"b": 1}, save=save, periodic=True)
    clock.now += 2
    report.step(3, {"b": 1})
    assert body(report)["observations"][-1]["step_seconds"] == 2
    assert body(report)["checkpoint"]["seconds"] == 60


@pytest.mark.parametrize(
    "call",
    [
        lambda r: r.step("x", {"b": 1}),
        lambda r: r.step(None),
        lambda r: r.step(1, 5),
        lambda r: r.step(1, {"b": 1}, [1]),
        lambda r: r.step(1, {"b": 1}, step_seconds="slow"),
        lambda r: r.declare("soon", b=1),
        lambda r: r.declare(1, b=object()),
        lambda r: r.saved("id", "step"),
        lambda r: r.saved("id", 1, seconds="x"),
        lambda r: r.loss(object()),
        lambda r: r.hold("long"),
    ],
)
def test_wrong_use_never_reaches_training(call):
    report = made()
    call(report)
    report.step(2, {"b": 1})
    assert body(report)["observations"][-1]["step"] == 2


def test_a_sampler_that_fails_is_counted_and_logged_once(caplog):
    def broken():
        raise OSError("no such device")

    report = made(usage=broken)
    for step in range(5):
        report.step(step, {"b": 1})
    assert report.counts["errors"] == 5
    assert len([r for r in caplog.records if "reporting failed" in r.message]) == 1


def test_a_save_that_fails_is_logged_and_training_goes_on(caplog):
    report = made()
    report.prepare(Request("d1"))

    def save():
        raise RuntimeError("disk full")

    assert report.at_step_end(1, {"b": 1}, save=save) is False
    assert "disk full" in caplog.text
    assert body(report)["state"] == "training"
    assert "checkpoint" not in body(report)
    assert report.prepare(Request("d2"))
    assert report.checkpoint_due() == Request("d2")


def test_an_interrupt_in_save_is_not_swallowed():
    def save():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made().at_step_end(1, {"b": 1}, save=save, periodic=True)


def test_a_block_can_be_the_save():
    report = made()
    report.prepare(Request("d1", deadline=0.0))
    report.handshake._grace_seconds = 0.0
    with report.checkpointing(4, "/disk/4"):
        pass
    assert body(report)["checkpoint"]["uri"] == "/disk/4"
    with pytest.raises(ValueError, match="theirs"), report.checkpointing(5):
        raise ValueError("theirs")
    assert body(report)["checkpoint"]["step"] == 4


def test_done_only_if_the_block_ended_well():
    with made() as report:
        pass
    assert body(report)["state"] == "done"
    report = made()
    with pytest.raises(ValueError, match="theirs"), report:
        raise ValueError("theirs")
    assert body(report)["state"] == "training"


def test_a_tensor_is_not_read_in_the_loop():
    class Tensor:
        read = 0

        def detach(self):
            return self

        def __float__(self) -> float:
            Tensor.read += 1
            return 2.5

    report = made()
    report.loss(Tensor())
    report.step(1, {"b": 1})
    assert Tensor.read == 0
    assert body(report)["observations"][0]["metrics"] == {"loss": 2.5}


def test_settings_come_from_the_environment(monkeypatch):
    for name, value in {"JOB": "env-job", "HOOK_PORT": "0", "TOKEN": "t"}.items():
        monkeypatch.setenv(f"SCALEAHEAD_{name}", value)
    with Reporter() as report:
        assert report.job == "env-job"
        assert report.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(("job", "rank"), [(None, "0"), ("job", "3")])
def test_without_a_job_or_on_another_rank_it_does_nothing(monkeypatch, job, rank):
    monkeypatch.delenv("SCALEAHEAD_JOB", raising=False)
    monkeypatch.setenv("RANK", rank)
    saved = []
    with Reporter(job, hook_port=0) as report:
        report.step(1, {"b": 1})
        assert report.at_step_end(2, save=lambda: saved.append(1), periodic=True)
        assert (report.url, report.checkpoint_due(), report.hold()) == (None, None, "nothing")
        assert body(report)["observations"] == []
    assert saved == [1]


def test_a_forked_worker_reports_nothing():
    report = made(hook_port=0)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        report.step(1, {"b": 1})
        os.write(write, str(len(report.buffer)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"0"
    os.close(read)
    os.close(write)
    report.close()


def test_every_process_is_a_new_run():
    code = "from scaleahead import Reporter; print(Reporter('j', usage=dict).run)"
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }
    assert len(runs) == 2


def test_a_process_that_does_not_close_still_ends():
    code = "from scaleahead import Reporter; Reporter('j', hook_port=0).step(1, {'b': 1})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_metrics_known_later_join_the_step_reported_last():
    report = made()
    report.measured({"loss": 1.0})
    report.step(1, {"b": 1}, {"loss": 2.0})
    report.measured({"eval_loss": 3.0, "name": "x"})
    assert body(report)["observations"][0]["metrics"] == {"loss": 2.0, "eval_loss": 3.0}


def test_a_rest_is_no_part_of_the_next_steps_time():
    clock = Ticks()
    report = made(clock=clock)
    report.rest()
    report.step(1, {"b": 1})
    clock.now += 50
    report.rest()
    clock.now += 2
    report.step(2, {"b": 1})
    assert [o.get("step_seconds") for o in body(report)["observations"]] == [None, 2.0]


@pytest.mark.parametrize(("said", "seconds"), [("7200", 7200.0), ("0", 0.0), ("", 30.0), ("soon", 30.0), ("-1", 30.0)])
def test_the_user_says_how_long_a_saved_run_stands_still(monkeypatch, said, seconds):
    monkeypatch.setenv("SCALEAHEAD_GRACE_SECONDS", said)
    moments = iter([1000.0, 1100.0 + seconds - 0.1, 1100.0 + seconds])
    report = Reporter("job", usage=dict, wall=lambda: next(moments))
    report.prepare(Request("d", deadline=1100.0))
    report.checkpoint_due()
    report.saved("a", 1)
    assert report.hold() == "expired"
    assert next(moments, None) is None
    report.close()


def test_a_grace_of_the_programs_own_wins(monkeypatch):
    monkeypatch.setenv("SCALEAHEAD_GRACE_SECONDS", "7200")
    moments = iter([1000.0, 1105.0])
    report = Reporter("job", usage=dict, wall=lambda: next(moments), grace_seconds=5)
    report.prepare(Request("d", deadline=1100.0))
    report.checkpoint_due()
    report.saved("a", 1)
    assert report.hold() == "expired"
    report.close()
