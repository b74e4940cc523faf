"""The body of a hook's answer: what is refused whole, what is left out field by field."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.addresses import refused, wrong_url
from daemon.report import ReportRefused, examine, read
from daemon.types import USAGE, Checkpoint, Declared
from providers.types import Resources

NOW = datetime(2026, 11, 23, 10, 0, 5, tzinfo=UTC)

CONTRACT = """
{"protocol": 1, "job": "bert-large", "run": "9f3c...", "next": 1042,
 "observations": [{"seq": 1041, "step": 20800, "at": "2026-11-23T10:00:00Z", "total_steps": 90000,
   "hyperparameters": {"batch_size": 512, "seq_len": 256, "lr": 0.0003}, "metrics": {"loss": 2.31}, "loss_state": "ok",
   "step_seconds": 0.412, "usage": {"cpu_cores": 6.1, "gpu_util": 0.93, "gpu_memory_gib": 13.9, "memory_gib": 41.0, "network_mbps": 220, "disk_mbps": 80}}],
 "declared": [{"from_step": 30000, "hyperparameters": {"seq_len": 512}}],
 "checkpoint": {"id": "step-20000", "step": 20000, "seconds": 11.2, "uri": "s3://bucket/x"}, "state": "training"}
"""  # noqa: E501 - as the contract prints it


def envelope(**changes: Any) -> dict[str, Any]:
    return {"protocol": 1, "job": "j", "run": "r", "next": 0, "observations": [], **changes}


def dumped(**changes: Any) -> bytes:
    return json.dumps(envelope(**changes)).encode()


def first(**fields: Any) -> Any:
    report = read(dumped(observations=[{"seq": 0, "step": 1, **fields}]), "j", NOW)
    return report.observations[0], report.dropped


def test_the_contracts_example():
    report = read(CONTRACT.encode(), "bert-large", NOW)
    seen = report.observations[0]
    assert report.dropped == {}
    assert (report.run, report.next, report.state) == ("9f3c...", 1042, "training")
    assert (seen.seq, seen.step, seen.total_steps, seen.step_seconds) == (1041, 20800, 90000, 0.412)
    assert seen.at == datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
    assert seen.received_at == NOW
    assert set(seen.usage) == set(USAGE)
    assert report.declared == (Declared(30000, {"seq_len": 512.0}),)
    assert report.checkpoint == Checkpoint("step-20000", 20000, 11.2, "s3://bucket/x")


@pytest.mark.fault("D9")
@pytest.mark.parametrize("year", [2016, 2036])
def test_a_senders_clock_that_is_years_off_is_kept_beside_the_time_of_receipt(year: int):
    seen, dropped = first(at=f"{year}-11-23T10:00:00Z")
    assert (seen.at, seen.received_at) == (datetime(year, 11, 23, 10, 0, tzinfo=UTC), NOW)
    assert dropped == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b'{"protocol": 1, "next": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "not of protocol 1"),
        (dumped(protocol=2), "not of protocol 1"),
        (dumped(protocol="1"), "not of protocol 1"),
        (dumped(protocol=True), "not of protocol 1"),
        (dumped(job="k"), "another job's"),
        (dumped(job=None), "field job"),
        (dumped(run=""), "field run"),
        (dumped(run="a\nb"), "field run"),
        (dumped(next=-1), "field next"),
        (dumped(next="1"), "field next"),
        (dumped(observations={}), "field observations"),
        (b" " * 65537, "over 65536"),
    ],
)
def test_a_body_that_is_no_report_of_this_job(body: bytes, message: str):
    with pytest.raises(ReportRefused, match=message) as caught:
        read(body, "j", NOW)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (-0.1, "negative"),
        (1.6, "out_of_range"),
        (1e9, "out_of_range"),
        (10**30, "out_of_range"),
        (math.nan, "not_finite"),
        (math.inf, "not_finite"),
        ("0.5", "not_a_number"),
        (True, "not_a_number"),
        ([1], "not_a_number"),
        (None, "null"),
    ],
)
def test_a_usage_that_cannot_be_is_unknown(value: Any, reason: str):
    seen, dropped = first(usage={"gpu_util": value, "cpu_cores": 0})
    assert seen.usage == {"cpu_cores": 0.0}
    assert dropped == {reason: 1}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"usage": {"memory": 1.0}}, "unknown_usage"),
        ({"usage": [1]}, "not_a_mapping"),
        ({"metrics": "good"}, "not_a_mapping"),
        ({"metrics": {"a b<script>": 1.0}}, "bad_name"),
        ({"metrics": {"x": 1e300}}, "out_of_range"),
        ({"step_seconds": 0}, "out_of_range"),
        ({"step_seconds": -1.0}, "out_of_range"),
        ({"total_steps": 0}, "bad_total_steps"),
        ({"total_steps": 1.5}, "bad_total_steps"),
        ({"at": "yesterday"}, "bad_time"),
        ({"at": "2026-11-23T10:00:00"}, "bad_time"),
        ({"at": 5}, "bad_time"),
    ],
)
def test_a_field_that_is_wrong_is_left_out_and_counted(fields: dict[str, Any], reason: str):
    seen, dropped = first(**fields)
    assert dropped == {reason: 1}
    assert (dict(seen.metrics), dict(seen.usage), seen.step_seconds, seen.total_steps, seen.at) == (
        {},
        {},
        None,
        None,
        None,
    )


def test_many_names_are_cut():
    seen, dropped = first(metrics={f"m{number}": 1.0 for number in range(100)})
    assert len(seen.metrics) == 64
    assert dropped == {"too_many_keys": 36}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"metrics": {"loss": math.nan}}, "diverged"),
        ({"metrics": {"train/loss": math.inf}}, "diverged"),
        ({"loss_state": "diverged"}, "diverged"),
        ({"metrics": {"accuracy": math.nan}}, "ok"),
        ({"metrics": {"loss": None}}, "ok"),
    ],
)
def test_a_loss_that_is_not_finite_is_a_state(fields: dict[str, Any], state: str):
    seen, _ = first(**fields)
    assert seen.loss_state == state
    assert seen.metrics == {}


def test_a_strange_state_is_training_and_never_ready():
    report = read(dumped(state="READY"), "j", NOW)
    assert (report.state, report.dropped) == ("training", {"bad_state": 1})


def test_wrong_checkpoints_and_declarations_are_left_out():
    report = read(dumped(checkpoint={"id": 1, "step": 2}, declared=[{"from_step": -1}, 3], extra=1), "j", NOW)
    assert (report.checkpoint, report.declared) == (None, ())
    assert report.dropped == {"bad_checkpoint": 1, "bad_declared": 2, "unknown_key": 1}


def test_a_signed_address_of_a_checkpoint_is_kept_without_its_secret():
    report = read(
        dumped(checkpoint={"id": "c", "step": 2, "uri": "https://u:p@s3.example/x?sig=c4nary#c4nary"}), "j", NOW
    )
    assert report.checkpoint is not None
    assert report.checkpoint.uri == "https://s3.example/x"


def test_facts_bound_what_is_believed():
    usage = {"memory_gib": 47.0, "cpu_cores": 13.0, "gpu_memory_gib": 70.0}
    body = dumped(observations=[{"seq": 0, "step": 1, "usage": usage}])
    report = read(body, "j", NOW, Resources(8, 32, 2, "T4", 16.0))
    assert report.observations[0].usage == {"memory_gib": 47.0}
    assert report.dropped == {"out_of_range": 2}


def test_next_follows_what_is_there_so_that_nothing_is_skipped():
    rows = [{"seq": 3, "step": 1}, {"seq": 4, "step": "x"}]
    page = examine(dumped(next=90, observations=rows), "j", NOW)
    assert (page.report.next, page.more, page.job_next) == (5, True, 90)
    last = examine(dumped(next=5, observations=rows), "j", NOW)
    assert (last.report.next, last.more) == (5, False)
    assert read(dumped(next=7), "j", NOW).next == 7


def test_known_steps_of_the_same_run_are_dropped():
    rows = [{"seq": 0, "step": 9}, {"seq": 1, "step": 10}, {"seq": 2, "step": 11}]
    kept = examine(dumped(observations=rows), "j", NOW, last=("r", 10)).report
    assert [one.step for one in kept.observations] == [11]
    assert kept.dropped == {"backward_step": 1, "repeated_step": 1}
    assert len(examine(dumped(observations=rows), "j", NOW, last=("other", 10)).report.observations) == 3


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
rows = st.fixed_dictionaries(
    {"seq": st.integers(-2, 9) | anything, "step": st.integers(-2, 9) | anything},
    optional={
        name: anything | st.dictionaries(st.sampled_from([*USAGE, "loss", "lr"]), anything, max_size=4)
        for name in ("hyperparameters", "metrics", "usage", "step_seconds", "total_steps", "at", "loss_state")
    },
)


@given(st.lists(rows | anything, max_size=4), anything, anything, anything)
@settings(max_examples=100, deadline=None)
@pytest.mark.fault("D6")
def test_whatever_a_job_says_only_finite_values_in_range_come_through(
    observations: Any, declared: Any, checkpoint: Any, state: Any
):
    body = dumped(observations=observations, declared=declared, checkpoint=checkpoint, state=state)
    report = read(body, "j", NOW)
    steps = [one.step for one in report.observations]
    assert steps == sorted(set(steps))
    for one in report.observations:
        values = [*one.usage.values(), *one.metrics.values(), *one.hyperparameters.values()]
        assert all(type(value) is float and math.isfinite(value) for value in values)
        assert all(value >= 0 for value in one.usage.values())
        assert one.usage.get("gpu_util", 0) <= 1.5
        assert one.step_seconds is None or one.step_seconds > 0
    assert len(report.observations) + sum(report.dropped.values()) >= len(observations)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_anything_but_a_refusal(body: bytes):
    with pytest.raises(ReportRefused):
        read(body, "j", NOW)


@pytest.mark.parametrize(
    ("address", "is_refused"),
    [
        ("169.254.169.254", True),
        ("169.254.0.1", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("fd20:ce::254", True),
        ("100.100.100.200", True),
        ("168.63.129.16", True),
        ("::ffff:169.254.169.254", True),
        ("2002:a9fe:a9fe::1", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("::a9fe:a9fe", True),
        ("224.0.0.1", True),
        ("ff02::1", True),
        ("0.0.0.0", True),
        ("0.1.2.3", True),
        ("::", True),
        ("255.255.255.255", True),
        ("10.0.0.5", False),
        ("192.168.1.4", False),
        ("fd12::5", False),
        ("8.8.8.8", False),
        ("2001:4860:4860::8888", False),
        ("not an address", True),
    ],
)
def test_addresses(address: str, is_refused: bool):
    assert (refused(address, development=False) is not None) is is_refused
    assert (refused(address, development=True) is not None) is is_refused


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_loopback_is_for_development(address: str):
    assert refused(address, development=False) is not None
    assert refused(address, development=True) is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/",
        "file:///x",
        "h:80",
        "http://",
        "http://[::1",
        "http://h:x/",
        "http://h/a b",
        "http://169.254.169.254/",
    ],
)
def test_wrong_urls(url: str):
    said = wrong_url(url, development=True)
    assert said is not None
    assert url not in said


def test_good_urls():
    for url in ("http://10.0.0.5:8700/hook", "https://u:p@host.example/a?b=c", "http://[fd12::5]:80/"):
        assert wrong_url(url) is None
    assert wrong_url("http://127.0.0.1:8700/") is not None
