"""The daemon's poller and the client's hook over real TLS, with a bearer token."""

import contextlib
import hmac
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.hook import HookError, trusting
from scaleahead import Reporter
from scaleahead.join import Asked
from tests.certificates import issue
from tests.daemon.test_hook import DEADLINE, INTERVAL, polling

TOKEN = "a-token-of-the-jobs-own"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    return issue(tmp_path)


@pytest.fixture
def report(files: tuple[Path, Path, Path]) -> Iterator[Reporter]:
    _, certificate, key = map(str, files)
    with Reporter("job", hook_port=0, token=TOKEN, certificate=certificate, key=key, usage=dict) as made:
        made.step(3, {"batch_size": 1})
        yield made


async def test_a_certificate_of_the_named_authority_is_believed(report: Reporter, files: tuple[Path, Path, Path]):
    assert report.url is not None
    assert report.url.startswith("https://127.0.0.1:")
    async with polling(trust=trusting(str(files[0]))) as (poller, ears):
        poller.add("job", report.url, token=TOKEN, interval=INTERVAL)
        await ears.until(lambda: bool(ears.reports.get("job")))
        assert ears.reports["job"][0].observations[0].step == 3
        await poller.prepare("job", "d1", DEADLINE, "growth")
        assert report.handshake.pending is not None
        await poller.proceed("job")
        assert report.handshake.pending is None


@pytest.mark.fault("D13")
async def test_a_certificate_that_nobody_vouches_for_is_not(report: Reporter):
    async with polling() as (poller, ears):
        poller.add("job", str(report.url), token=TOKEN, interval=INTERVAL)
        await ears.until(lambda: bool(ears.silences.get("job")))
        assert ears.silences["job"][0].startswith("tls:")
        with pytest.raises(HookError, match="certificate"):
            await poller.prepare("job", "d1", DEADLINE, "growth")
    assert report.handshake.pending is None


@pytest.mark.fault("D13")
async def test_without_the_token_nothing_is_told(report: Reporter, files: tuple[Path, Path, Path]):
    async with polling(trust=trusting(str(files[0]))) as (poller, ears):
        poller.add("job", str(report.url), token="another", interval=INTERVAL)
        await ears.until(lambda: bool(ears.silences.get("job")))
        assert ears.silences["job"][0].startswith("status_401")
        assert TOKEN not in "".join(ears.silences["job"])


def test_tokens_are_compared_in_constant_time(
    report: Reporter, files: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
):
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert Asked(str(report.url), TOKEN, str(files[0])).state() == "training"
    assert compared == [(f"Bearer {TOKEN}".encode(), f"Bearer {TOKEN}".encode())]


def test_plain_text_and_silence_hold_up_nobody(report: Reporter, files: tuple[Path, Path, Path]):
    port = int(str(report.url).rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert b"HTTP" not in plain.recv(100)
        assert Asked(str(report.url), TOKEN, str(files[0])).state() == "training"
        assert silent.fileno() >= 0


def test_where_the_certificate_cannot_be_read_nothing_is_served_in_the_clear(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with (
        caplog.at_level(logging.WARNING),
        Reporter("job", hook_port=0, certificate=str(tmp_path / "none.pem"), usage=dict) as report,
    ):
        assert report.url is None
    assert "training goes on unseen" in caplog.text
