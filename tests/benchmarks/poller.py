"""Edge: polls per second of processor time, validation included, against hooks in another process."""

import asyncio
import json
import resource
import subprocess
import sys
import time
from random import Random

from daemon.cadence import Cadence
from daemon.hook import Poller
from daemon.types import Report
from providers.clock import SystemClock

JOBS = 2000
INTERVAL = 1.0
SECONDS = 6.0

SERVER = """
import asyncio, json, sys
from aiohttp import web

async def hook(request):
    after = int(request.query.get("after", -1))
    row = {"seq": after + 1, "step": 10 * (after + 1), "at": "2026-11-23T10:00:00Z", "total_steps": 90000,
           "hyperparameters": {"batch_size": 512, "seq_len": 256, "lr": 0.0003}, "metrics": {"loss": 2.31},
           "loss_state": "ok", "step_seconds": 0.412,
           "usage": {"cpu_cores": 6.1, "gpu_util": 0.93, "gpu_memory_gib": 13.9, "memory_gib": 41.0,
                     "network_mbps": 220, "disk_mbps": 80}}
    answer = web.json_response({"protocol": 1, "job": request.match_info["job"], "run": "r", "next": after + 2,
                                "observations": [row], "state": "training"})
    if sys.argv[1] == "close":
        answer.force_close()
    return answer

app = web.Application()
app.router.add_get("/{job}", hook)

async def main():
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def measure() -> dict[str, float]:
    """Measure 2,000 jobs on kept and on fresh connections; at 10,000 jobs every 30 s the connections are fresh."""
    kept, fresh = asyncio.run(_measure("keep")), asyncio.run(_measure("close"))
    return {
        "polls_per_cpu_second_fresh_connections": fresh,
        "polls_per_cpu_second_kept_connections": kept,
        "core_share_of_10000_jobs_every_30_s": 10_000 / 30 / fresh,
        "resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


async def _measure(way: str) -> float:
    server = subprocess.Popen([sys.executable, "-c", SERVER, way], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        port = int(await asyncio.to_thread(server.stdout.readline))
        return await _poll(port)
    finally:
        server.kill()
        server.wait()


async def _poll(port: int) -> float:
    following: dict[str, int] = {}
    silences: list[str] = []

    async def heard(job: str, report: Report) -> None:
        following[job] = report.next

    async def silent(job: str, why: str) -> None:
        silences.append(why)

    cadence = Cadence(Random(1), per_host=64)
    poller = Poller(SystemClock(), heard, silent, development=True, cadence=cadence)
    for number in range(JOBS):
        job = f"job{number}"
        url = f"http://127.0.0.1:{port}/{job}"
        poller.add(job, url, interval=INTERVAL, after=lambda name=job: following.get(name, 0))
    running = asyncio.create_task(poller.run())
    await asyncio.sleep(SECONDS / 3)
    began, polls = time.process_time(), poller.polls
    await asyncio.sleep(SECONDS)
    rate = (poller.polls - polls) / (time.process_time() - began)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    if len(silences) > poller.polls / 100:
        raise AssertionError(f"{len(silences)} of {poller.polls} polls failed: {silences[0]}")
    return rate


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
