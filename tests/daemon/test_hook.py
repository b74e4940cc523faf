"""The poller against a real hostile server: each fault by name, and a healthy job polled beside it."""

import asyncio
import math
import socket
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from daemon import hook as poller_module
from daemon.cadence import Cadence
from daemon.hook import HookError, NoRoute, Poller
from daemon.types import Report
from providers.clock import ScaledClock, SystemClock
from providers.types import Resources
from tests.daemon import hostile
from tests.daemon.hostile import HEALTHY_HOST, Behaviour, Server, body, healthy, row, saying, serving

INTERVAL = 0.02
TOTAL = 0.5
DEADLINE = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Ears:
    """What the poller was heard to say."""

    def __init__(self) -> None:
        self.reports: dict[str, list[Report]] = {}
        self.silences: dict[str, list[str]] = {}
        self.healthy_before: int | None = None
        self._changed = asyncio.Condition()

    async def report(self, job: str, report: Report) -> None:
        self.reports.setdefault(job, []).append(report)
        await self._tell()

    async def silence(self, job: str, why: str) -> None:
        self.silences.setdefault(job, []).append(why)
        if self.healthy_before is None:
            self.healthy_before = len(self.reports.get("good", ()))
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(true)

    def after(self, job: str) -> Callable[[], int]:
        return lambda: self.reports[job][-1].next if self.reports.get(job) else 0


@asynccontextmanager
async def polling(**more: Any) -> AsyncIterator[tuple[Poller, Ears]]:
    ears = Ears()
    more = {"development": True, "chance": Random(1), "total_seconds": TOTAL, "connect_seconds": TOTAL, **more}
    poller = Poller(SystemClock(), ears.report, ears.silence, **more)
    running = asyncio.create_task(poller.run())
    try:
        yield poller, ears
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def beside(behaviour: Behaviour, **more: Any) -> AsyncIterator[tuple[Server, Ears]]:
    """Poll a hostile hook with a healthy one beside it; at the end, check that the healthy one was undisturbed."""
    async with (
        serving(behaviour) as bad,
        serving(healthy("good"), HEALTHY_HOST) as good,
        polling(**more) as (poller, ears),
    ):
        poller.add("good", good.url, interval=INTERVAL, after=ears.after("good"))
        await ears.until(lambda: bool(ears.reports.get("good")))
        poller.add("bad", bad.url, interval=INTERVAL, after=ears.after("bad"))
        yield bad, ears
        heard = len(ears.reports["good"])
        await ears.until(lambda: len(ears.reports["good"]) > heard + 3)
        assert "good" not in ears.silences
        told = [one.seq for report in ears.reports["good"] for one in report.observations]
        assert told == list(range(len(told)))


async def silenced(behaviour: Behaviour, reason: str, **more: Any) -> tuple[Server, Ears]:
    async with beside(behaviour, **more) as (bad, ears):
        await ears.until(lambda: bool(ears.silences.get("bad")))
        assert ears.silences["bad"][0].split(":")[0] == reason
        assert "bad" not in ears.reports
        return bad, ears


async def heard(answer: bytes) -> Report:
    async with beside(saying(answer)) as (_, ears):
        await ears.until(lambda: bool(ears.reports.get("bad")))
        return ears.reports["bad"][0]


@pytest.mark.fault("D1")
async def test_hang():
    bad, ears = await silenced(hostile.hang, "timeout")
    assert ears.healthy_before is not None
    assert ears.healthy_before >= 5
    assert bad.most_open == 1


@pytest.mark.fault("D2")
async def test_drip():
    _, ears = await silenced(hostile.drip, "timeout")
    assert ears.healthy_before is not None
    assert ears.healthy_before >= 5


async def test_drip_of_the_head():
    await silenced(hostile.drip_head, "timeout")


@pytest.mark.fault("D3")
async def test_ten_gigabytes():
    bad, _ = await silenced(hostile.ten_gigabytes, "too_large")
    assert bad.sent < 32_000_000 * len(bad.requests)


async def test_ten_gigabytes_in_chunks():
    before = resident()
    bad, _ = await silenced(hostile.endless_chunks, "too_large")
    assert bad.sent < 32_000_000 * len(bad.requests)
    assert resident() - before < 64 * 2**20


@pytest.mark.fault("D3")
async def test_gzip_bomb():
    bomb = hostile.gzip_bomb()
    before = resident()
    bad, _ = await silenced(bomb, "encoding_refused")
    assert resident() - before < 64 * 2**20
    assert "Accept-Encoding: identity" in bad.requests[0]


@pytest.mark.fault("D3")
async def test_two_hundred_thousand_headers():
    await silenced(hostile.many_headers, "bad_http")


async def test_one_header_of_ten_megabytes():
    await silenced(hostile.long_header, "bad_http")


@pytest.mark.fault("D4")
async def test_redirect_to_a_metadata_address():
    bad, _ = await silenced(hostile.redirect("http://169.254.169.254/latest/meta-data/"), "redirect_refused")
    assert all(request.startswith("GET /hook") for request in bad.requests)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "/elsewhere", "http://127.0.0.1:1/x"])
@pytest.mark.fault("D4")
async def test_redirect_to(target: str):
    await silenced(hostile.redirect(target), "redirect_refused")


async def test_another_protocol():
    await silenced(hostile.no_http, "bad_http")


async def test_hang_up():
    await silenced(hostile.hang_up, "bad_http")


async def test_a_server_error():
    await silenced(saying(b"oops", "500 Internal Server Error"), "status_500")


async def test_no_json():
    await silenced(saying(b"<html>"), "report_refused")


@pytest.mark.fault("D12")
async def test_another_jobs_id():
    _, ears = await silenced(saying(body("good", row(0))), "report_refused")
    assert "another job's" in ears.silences["bad"][0]


async def test_deep_json():
    await silenced(saying(b"[" * 60_000), "report_refused")


async def test_nan():
    answer = b'{"protocol":1,"job":"bad","run":"r","next":2,"observations":[{"seq":0,"step":1,"metrics":{"loss":NaN},"usage":{"gpu_util":Infinity,"memory_gib":1e999},"step_seconds":-Infinity},{"seq":1,"step":2}]}'  # fmt: skip  # noqa: E501
    report = await heard(answer)
    first = report.observations[0]
    assert (first.metrics, first.usage, first.step_seconds, first.loss_state) == ({}, {}, None, "diverged")
    assert report.dropped == {"not_finite": 4}
    assert report.observations[1].loss_state == "ok"


async def test_strings():
    report = await heard(body("bad", row(0, usage={"memory_gib": "12"}, step_seconds="fast", metrics={"loss": "low"})))
    assert report.observations[0].usage == {}
    assert report.dropped == {"not_a_number": 3}


@pytest.mark.fault("D7")
async def test_negative():
    report = await heard(body("bad", row(0, usage={"gpu_util": -0.5, "memory_gib": 2.0}), row(-1), row(2, -7)))
    assert report.observations[0].usage == {"memory_gib": 2.0}
    assert len(report.observations) == 1
    assert report.dropped == {"negative": 1, "bad_row": 1, "bad_step": 1}


@pytest.mark.fault("D8")
async def test_repeated_steps():
    report = await heard(body("bad", row(0, 5), row(0, 6), row(1, 5), row(2, 6)))
    assert [one.step for one in report.observations] == [5, 6]
    assert report.dropped == {"repeated_seq": 1, "repeated_step": 1}


@pytest.mark.fault("D8")
async def test_backward_steps():
    report = await heard(body("bad", row(0, 50), row(1, 40), row(2, 60)))
    assert [one.step for one in report.observations] == [50, 60]
    assert report.dropped == {"backward_step": 1}


async def test_backward_steps_from_one_poll_to_the_next():
    steps = iter([100, 40, 120])

    async def behave(wire: hostile.Wire) -> None:
        after = int(wire.query.removeprefix("after=") or -1)
        await wire.answer(body("bad", row(after + 1, next(steps, 500 + after))))

    async with beside(behave) as (_, ears):
        await ears.until(lambda: len(ears.reports.get("bad", ())) >= 3)
        first, second, third = ears.reports["bad"][:3]
        assert (first.observations[0].step, second.observations, third.observations[0].step) == (100, (), 120)
        assert second.dropped == {"backward_step": 1}


@pytest.mark.fault("D7")
async def test_more_than_the_machine_has():
    async with (
        serving(saying(body("bad", row(0, usage={"memory_gib": 90.0, "cpu_cores": 7.0})))) as bad,
        polling() as (
            poller,
            ears,
        ),
    ):
        poller.add("bad", bad.url, interval=INTERVAL, facts=lambda: Resources(8, 32))
        await ears.until(lambda: bool(ears.reports))
        assert ears.reports["bad"][0].observations[0].usage == {"cpu_cores": 7.0}
        assert ears.reports["bad"][0].dropped == {"out_of_range": 1}


class Rebinding(AbstractResolver):
    """A name server that gives one address first and another ever after."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        address = self._addresses.pop(0) if len(self._addresses) > 1 else self._addresses[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@pytest.mark.fault("D5")
async def test_dns_rebinding():
    resolver = Rebinding(hostile.HOSTILE_HOST, "169.254.169.254")
    async with (
        serving(healthy("bad")) as bad,
        serving(healthy("good"), HEALTHY_HOST) as good,
        polling(resolver=resolver, name_seconds=0) as (poller, ears),
    ):
        poller.add("good", good.url, interval=INTERVAL, after=ears.after("good"))
        poller.add("bad", bad.url.replace(hostile.HOSTILE_HOST, "innocent.example"), interval=INTERVAL)
        await ears.until(lambda: bool(ears.silences.get("bad")))
        assert len(ears.reports["bad"]) == 1
        assert ears.silences["bad"][0] == "address_refused: it is a metadata address"
        assert "good" not in ears.silences


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "224.0.0.1"],
)
async def test_a_name_that_leads_to(address: str):
    async with polling(resolver=Rebinding(address), development=False) as (poller, ears):
        poller.add("bad", "http://innocent.example:8700/hook", interval=INTERVAL)
        await ears.until(lambda: bool(ears.silences))
        assert ears.silences["bad"][0].startswith("address_refused")


@pytest.mark.parametrize("host", ["2852039166", "0251.0376.0251.0376", "2130706433", "127.1"])
async def test_an_address_in_disguise(host: str):
    async with polling(development=False) as (poller, ears):
        poller.add("bad", f"http://{host}/", interval=INTERVAL)
        await ears.until(lambda: bool(ears.silences))
        assert ears.silences["bad"][0].split(":")[0] in ("address_refused", "bad_url")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://x/", "http://", "http://[::1", "http://169.254.169.254/", "nonsense"])  # fmt: skip  # noqa: E501
async def test_a_wrong_url(url: str):
    async with polling() as (poller, ears):
        poller.add("bad", url, interval=INTERVAL)
        await ears.until(lambda: bool(ears.silences))
        assert ears.silences["bad"][0].startswith("bad_url")


async def test_no_secret_in_what_is_said(capsys: pytest.CaptureFixture[str]):
    canary = "c4nary"
    said: list[str] = []
    for behaviour in (hostile.hang, hostile.no_http, hostile.hang_up, hostile.redirect("/"), saying(b"x", "404 No")):
        async with serving(behaviour) as bad, polling(total_seconds=0.1) as (poller, ears):
            host = bad.url.removeprefix("http://")
            poller.add("bad", f"http://u{canary}:p{canary}@{host}/{canary}?key={canary}", interval=INTERVAL)
            await ears.until(lambda heard=ears: bool(heard.silences))
            said += ears.silences["bad"]
            with pytest.raises(HookError) as caught:
                await poller.prepare("bad", "d1", DEADLINE, "moving")
            said += [str(caught.value), repr(caught.value)]
            assert canary in bad.requests[0]
            assert "Authorization: Basic" in bad.requests[0]
    for url in (f"ftp://u:{canary}@h/", f"http://127.0.0.2:1/?{canary}"):
        async with polling() as (poller, ears):
            poller.add("bad", url, interval=INTERVAL)
            await ears.until(lambda heard=ears: bool(heard.silences))
            said += ears.silences["bad"]
    assert canary not in " ".join(said) + "".join(capsys.readouterr())


async def test_a_token_goes_in_a_header():
    async with serving(healthy("good")) as good, polling() as (poller, ears):
        poller.add("good", good.url, token="t0ken", interval=INTERVAL)
        await ears.until(lambda: bool(ears.reports))
        assert "Authorization: Bearer t0ken" in good.requests[0]


async def test_at_most_two_in_flight_a_host():
    async with (
        serving(hostile.hang) as bad,
        serving(healthy("good"), HEALTHY_HOST) as good,
        polling() as (poller, ears),
    ):
        for number in range(20):
            poller.add(f"bad{number}", bad.url, interval=INTERVAL)
        poller.add("good", good.url, interval=INTERVAL, after=ears.after("good"))
        await ears.until(lambda: len(ears.silences) >= 4)
        assert bad.most_open == 2
        assert ears.healthy_before is not None
        assert ears.healthy_before >= 5


async def test_pages_are_followed():
    async def behave(wire: hostile.Wire) -> None:
        after = int(wire.query.removeprefix("after=") or -1)
        rows = [row(seq) for seq in range(after + 1, min(after + 4, 11))]
        await wire.answer(body("long", *rows, following=11))

    async with serving(behave) as server, polling() as (poller, ears):
        poller.add("long", server.url, interval=1000.0, after=ears.after("long"))
        await ears.until(lambda: sum(len(one.observations) for one in ears.reports.get("long", ())) >= 11)
        assert [one.seq for report in ears.reports["long"] for one in report.observations] == list(range(11))
        assert poller.polls == 4


async def test_endless_pages_are_bounded():
    async def behave(wire: hostile.Wire) -> None:
        after = int(wire.query.removeprefix("after=") or -1)
        await wire.answer(body("long", row(after + 1), following=10**9))

    async with beside(behave) as (_, ears):
        await ears.until(lambda: len(ears.reports.get("bad", ears.silences.get("bad", ()))) >= 1)

    async with serving(behave) as server, polling() as (poller, ears):
        poller.add("long", server.url, interval=1000.0, after=ears.after("long"))
        await ears.until(lambda: len(ears.reports.get("long", ())) >= poller_module.MOST_PAGES)
        poller.add("other", server.url, interval=1000.0)
        await ears.until(lambda: bool(ears.silences.get("other")))
        assert len(ears.reports["long"]) == poller_module.MOST_PAGES


async def test_a_new_run_is_told_from_its_start():
    run = ["r1"]

    async def behave(wire: hostile.Wire) -> None:
        after = int(wire.query.removeprefix("after=") or -1)
        has = 30 if run[0] == "r1" else 40
        await wire.answer(body("again", *(row(seq) for seq in range(after + 1, has)), run=run[0], following=has))

    async with serving(behave) as server, polling() as (poller, ears):
        poller.add("again", server.url, interval=INTERVAL, after=ears.after("again"))
        await ears.until(lambda: bool(ears.reports))
        run[0] = "r2"
        await ears.until(lambda: ears.reports["again"][-1].run == "r2")
        fresh = next(report for report in ears.reports["again"] if report.run == "r2")
        assert [one.seq for one in fresh.observations] == list(range(40))


async def test_what_could_not_be_kept_is_asked_for_again():
    kept: list[int] = []
    attempts: list[int] = []
    done = asyncio.Event()

    async def keep(job: str, report: Report) -> None:
        attempts.append(report.observations[0].seq)
        if len(attempts) == 2:
            raise OSError("disk full")
        kept.extend(one.seq for one in report.observations)
        if len(kept) >= 3:
            done.set()

    async with serving(healthy("good")) as good, polling() as (poller, _):
        poller.on_report = keep
        poller.add("good", good.url, interval=INTERVAL, after=lambda: kept[-1] + 1 if kept else 0)
        async with asyncio.timeout(10):
            await done.wait()
    assert attempts[:4] == [0, 1, 1, 2]
    assert kept[:3] == [0, 1, 2]


async def test_poll_now_and_remove():
    async with serving(healthy("good")) as good, polling() as (poller, ears):
        poller.add("good", good.url, interval=1000.0, after=ears.after("good"))
        await ears.until(lambda: len(ears.reports.get("good", ())) == 1)
        poller.poll_now("good")
        await ears.until(lambda: len(ears.reports["good"]) == 2)
        poller.remove("good")
        poller.poll_now("good")
        poller.add("other", good.url, interval=1000.0)
        await ears.until(lambda: bool(ears.silences))
        assert len(ears.reports["good"]) == 2


async def test_intervals_are_seconds_of_the_clock():
    """An hour's interval on a clock that runs 360,000 times as fast comes round every 10 ms."""
    ears = Ears()
    poller = Poller(ScaledClock(360_000, time.time()), ears.report, ears.silence, development=True)
    running = asyncio.create_task(poller.run())
    async with serving(healthy("good")) as good:
        poller.add("good", good.url, interval=3600.0, after=ears.after("good"))
        await ears.until(lambda: len(ears.reports.get("good", ())) >= 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_prepare_and_proceed():
    async with serving(saying(b"", "202 Accepted")) as server, polling() as (poller, _):
        poller.add("job", server.url + "/?a=b", interval=1000.0)
        await poller.prepare("job", "d1", DEADLINE, "moving to m5.large")
        await poller.proceed("job")
        posts = [request.split("\r\n")[0] for request in server.requests if request.startswith("POST")]
        assert posts == ["POST /hook/prepare?a=b HTTP/1.1", "POST /hook/proceed?a=b HTTP/1.1"]
        assert b'"decision": "d1", "deadline": "2026-11-23T12:00:00+00:00"' in server.bodies[0]


@pytest.mark.parametrize(
    ("behaviour", "kind", "reason"),
    [
        (saying(b"", "404 Not Found"), NoRoute, "no_route"),
        (saying(b"", "405 Method Not Allowed"), NoRoute, "no_route"),
        (saying(b"", "503 Busy"), HookError, "status_503"),
        (hostile.redirect("http://169.254.169.254/"), HookError, "redirect_refused"),
        (hostile.hang, HookError, "timeout"),
    ],
    ids=["404", "405", "503", "redirect", "hang"],
)
async def test_prepare_refused(behaviour: Behaviour, kind: type[HookError], reason: str):
    async with serving(behaviour) as server, polling() as (poller, _):
        poller.add("job", server.url, interval=1000.0)
        with pytest.raises(kind) as caught:
            await poller.prepare("job", "d1", DEADLINE, "moving")
        assert (type(caught.value), caught.value.reason) == (kind, reason)
        with pytest.raises(NoRoute):
            await poller.proceed("a job without a hook")


def test_the_contracts_limits():
    assert (poller_module.CONNECT_SECONDS, poller_module.TOTAL_SECONDS) == (2.0, 5.0)
    assert poller_module.LARGEST_BYTES == 65536


# The cadence alone, on a clock of its own.


def polls_in(
    cadence: Cadence, start: float, seconds: float, answer: Callable[[float], bool], takes: float
) -> list[float]:
    """Run the cadence for some virtual seconds; every poll takes ``takes`` and ends as ``answer`` says."""
    now, starts = start, []
    landing: deque[tuple[float, str, int, bool]] = deque()
    while now < start + seconds:
        while landing and landing[0][0] <= now:
            _, job, turn, ok = landing.popleft()
            cadence.landed(job, turn, ok, now)
        for job, turn in cadence.starts(now):
            starts.append(now)
            landing.append((now + takes, job, turn, answer(now)))
        now += 0.05
    return starts


@pytest.mark.fault("D14")
def test_recovery_of_ten_thousand_jobs_is_no_rush():
    jobs, interval = 10_000, 30.0
    normal = jobs / interval
    cadence = Cadence(Random(3), in_flight=10_000)
    for number in range(jobs):
        cadence.add(f"j{number}", f"h{number}", interval, 0.0)
    before = polls_in(cadence, 0.0, 90.0, lambda now: True, 0.05)
    out = polls_in(cadence, 90.0, 300.0, lambda now: False, 5.0)
    after = polls_in(cadence, 390.0, 300.0, lambda now: True, 0.05)
    a_second = Counter(math.floor(at) for at in (*before, *out, *after))
    assert max(a_second.values()) <= 1.2 * normal
    assert len(out) < 0.5 * normal * 300
    settled = sum(at >= 600 for at in after)
    assert settled == pytest.approx(normal * 90, rel=0.05)


@pytest.mark.fault("D1")
def test_a_host_that_hangs_takes_two_seats_only():
    cadence = Cadence(Random(1), in_flight=4)
    for number in range(50):
        cadence.add(f"bad{number}", "bad", 1.0, 0.0)
    cadence.add("good", "good", 1.0, 0.0)
    started = [job for at in range(200) for job, _ in cadence.starts(at / 10)]
    assert started[-1] == "good"
    assert len(started) == 3


@pytest.mark.fault("D11")
def test_a_failing_job_is_asked_less_often_and_a_recovered_one_as_before():
    cadence = Cadence(Random(1), jitter=0.0)
    cadence.add("a", "h", 10.0, 0.0)
    failing = polls_in(cadence, 0.0, 200.0, lambda now: False, 0.0)
    gaps = [round(later - sooner) for sooner, later in pairwise(failing)]
    assert gaps[:4] == [10, 20, 40, 40]
    healed = polls_in(cadence, 200.0, 100.0, lambda now: True, 0.0)
    assert round(healed[-1] - healed[-2]) == 10


def test_hastened_while_in_flight_is_asked_again():
    cadence = Cadence(Random(1))
    cadence.add("a", "h", 1000.0, 0.0)
    ((job, turn),) = cadence.starts(0.0)
    cadence.hasten(job, 0.1)
    assert cadence.starts(0.1) == []
    assert cadence.landed(job, turn, True, 0.2)
    assert [one for one, _ in cadence.starts(0.2)] == ["a"]


def test_removed_in_flight_frees_its_seat():
    cadence = Cadence(Random(1), per_host=1)
    cadence.add("a", "h", 10.0, 0.0)
    cadence.add("b", "h", 10.0, 0.0)
    ((job, turn),) = cadence.starts(0.0)
    cadence.remove(job)
    cadence.landed(job, turn, True, 0.1)
    assert [one for one, _ in cadence.starts(0.2)] == [{"a": "b", "b": "a"}[job]]


def resident() -> int:
    """Bytes of resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_a_process_that_outran_the_last_one_while_nobody_asked_is_heard_from_its_start():
    """A daemon that starts anew asks after what it knows of a process that is gone; the next one may be beyond it."""

    async def next_process(wire: hostile.Wire) -> None:
        after = int(wire.query.removeprefix("after=") or -1)
        await wire.answer(body("job", *(row(seq) for seq in range(8) if seq > after), run="second"))

    async with serving(next_process, HEALTHY_HOST) as job, polling() as (poller, ears):
        poller.add("job", job.url, interval=INTERVAL, after=lambda: 5, run=lambda: "first")
        await ears.until(lambda: bool(ears.reports.get("job")))
        assert [one.seq for one in ears.reports["job"][0].observations] == list(range(8))
