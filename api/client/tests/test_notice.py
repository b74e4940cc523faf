"""Spot notices from an emulated metadata service end in an acknowledged checkpoint before the machine goes."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.client.tests.metadata import Metadata
from scaleahead import Reporter
from scaleahead.notice import GCE_NOTICE_SECONDS, LOOK_SECONDS, Notices, service

RATE = 200.0
"""How many seconds of these tests pass in one real one."""


@pytest.fixture
def metadata():
    service = Metadata()
    yield service
    service.close()


def wait(seen, seconds=20.0):
    until = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < until
        time.sleep(0.001)  # real threads are waited for


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_every_notice_ends_in_a_checkpoint_before_the_machine_goes(cloud):
    """Fifty runs a cloud: steps of up to 2 s, saves of up to 15 s, a notice of 30 s at a time of its own."""
    draw = random.Random(7)
    runs = [(draw.uniform(0.1, 2), draw.uniform(0.1, 15), draw.randrange(1, 6)) for _ in range(50)]
    with ThreadPoolExecutor(len(runs)) as threads:
        assert all(threads.map(lambda run: saves_in_time(cloud, *run), runs))


def saves_in_time(cloud, step_s, save_s, notice_at, rate=5.0):
    """Train until a checkpoint is acknowledged; say whether that was before the machine went."""
    origin = time.time()

    def wall():
        return origin + (time.time() - origin) * rate

    metadata = Metadata()
    report = Reporter("job", usage=dict, wall=wall)
    notices = Notices(report, cloud, url=metadata.url, wall=wall, every_seconds=LOOK_SECONDS / rate).start()
    step, ends, in_time = 0, float("inf"), False
    while step < 400 and report.handshake.checkpoint is None:
        step += 1
        time.sleep(step_s / rate)  # the scaled clock
        if step == notice_at:
            ends = wall() + 30
            metadata.reclaim(ends)
        report.step(step, {"batch_size": 8})
        if report.checkpoint_due() is not None:
            time.sleep(save_s / rate)
            report.saved(f"step-{step}", step, "/disk", save_s)
            in_time = wall() < ends
    assert report.handshake.state == "ready", "the loop would hold here"
    notices.close()
    report.close()
    metadata.close()
    return in_time
    assert metadata.refused == 0


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_notice_becomes_one_request_with_its_deadline(metadata, cloud):
    with Reporter("job", usage=dict) as report:
        notices = Notices(report, cloud, url=metadata.url, every_seconds=0.01).start()
        wait(lambda: metadata.asked > 1)
        assert report.checkpoint_due() is None
        metadata.reclaim(2_000_000_000.0)
        wait(lambda: report.checkpoint_due() is not None)
        asked = report.checkpoint_due()
        assert notices.seen == asked
        if cloud == "aws":
            assert asked.deadline == 2_000_000_000.0
            assert asked.reason == "EC2 says terminate at 2033-05-18T03:33:20Z"
        else:
            assert 0 < asked.deadline - time.time() <= GCE_NOTICE_SECONDS


def test_an_old_token_is_renewed(metadata):
    with Reporter("job", usage=dict) as report:
        Notices(report, "aws", url=metadata.url, every_seconds=0.01).start()
        wait(lambda: metadata.asked > 1)
        metadata.tokens = {"another"}
        wait(lambda: metadata.refused == 1)
        metadata.reclaim()
        wait(lambda: report.checkpoint_due() is not None)


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_service_that_is_away_or_talks_nonsense_is_asked_again(metadata, cloud, monkeypatch):
    said = iter([OSError("away"), "nonsense", "", "[]", '{"time": 5, "action": 1}'])
    asked = []

    def read(self, path, headers, method="GET"):
        answer = next(said, None)
        asked.append(path)
        if answer is None:
            monkeypatch.undo()
            return real(self, path, headers, method)
        if isinstance(answer, OSError):
            raise answer
        return answer

    real = Notices._read
    monkeypatch.setattr(Notices, "_read", read)
    metadata.reclaim()
    with Reporter("job", usage=dict) as report:
        Notices(report, cloud, url=metadata.url, every_seconds=0.001).start()
        wait(lambda: report.checkpoint_due() is not None)
    assert len(asked) >= 5


def test_looks_are_close_enough_together_to_see_a_notice_within_five_seconds():
    assert LOOK_SECONDS + 2 < 5  # 2 s is what one question may take


def test_an_unknown_cloud_is_said():
    with pytest.raises(ValueError, match="must be aws or gcp"):
        Notices(Reporter("job", usage=dict), "azure")


def test_the_metadata_service_is_where_the_clouds_own_libraries_look():
    assert service("aws", {}) == "http://169.254.169.254"
    assert service("gcp", {}) == "http://metadata.google.internal"
    assert service("aws", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://[fd00:ec2::254]"}) == "http://[fd00:ec2::254]"
    assert service("gcp", {"GCE_METADATA_HOST": "10.0.0.1:8080"}) == "http://10.0.0.1:8080"


def test_a_reporter_watches_where_the_environment_says_so(metadata, monkeypatch, caplog):
    monkeypatch.setattr("scaleahead.notice.EC2_URL", metadata.url)
    monkeypatch.setenv("SCALEAHEAD_SPOT", "aws")
    metadata.reclaim()
    with Reporter("job", usage=dict) as report:
        wait(lambda: report.checkpoint_due() is not None)
    monkeypatch.setenv("SCALEAHEAD_SPOT", "azure")
    Reporter("job", usage=dict).close()
    assert "it must be aws or gcp" in caplog.text
