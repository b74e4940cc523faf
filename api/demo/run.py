"""Edge: ``scaleahead demo``: set the stage, watch until every job is done or time is up, count, and clean up."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live

from api.demo import screen, summary
from api.demo.stage import BYTES_PER_GIB, CAST, RATE, Stage, StageError
from daemon.store.open import open_store
from providers.clock import ScaledClock
from providers.errors import ProviderError
from providers.simulated.remote import Remote

LOOK_SECONDS = 0.5
FORECAST_EVERY = 4


class Recorder:
    """What is seen during the demonstration that nothing else keeps: forecasts as they were shown, and ends of jobs."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.foretold: dict[str, list[summary.Foretold]] = {member.name: [] for member in CAST}
        self.ended: dict[str, datetime] = {}
        self.restarts = 0

    def jobs(self) -> list[dict[str, Any]]:
        """Read how the jobs stand, and note when one is done."""
        found: list[dict[str, Any]] = self._stage.get("/v1/fleet", {"jobs": []})["jobs"]
        for job in found:
            if job.get("training") == "done" and job["name"] not in self.ended:
                self.ended[job["name"]] = now(self._stage)
        return found

    def forecasts(self) -> None:
        """Keep the forecasts of memory as they are shown now."""
        for member in CAST:
            shown = self._stage.get(f"/v1/jobs/{member.name}/forecast?columns=usage.memory_gib", {})
            history = self._stage.get(f"/v1/jobs/{member.name}/history?columns=usage.memory_gib&rows=1", {})
            path = shown.get("quantiles", {}).get("usage.memory_gib", {}).get("p50")
            used = history.get("columns", {}).get("usage.memory_gib")
            if not path or not used or used[-1] is None or member.name in self.ended:
                continue
            known = [(s, v) for s, v in zip(shown["steps"], path, strict=True) if v is not None]
            one = summary.Foretold(
                int(shown["at_step"]), float(used[-1]), tuple(s for s, _ in known), tuple(v for _, v in known)
            )
            if not self.foretold[member.name] or self.foretold[member.name][-1].at_step < one.at_step:
                self.foretold[member.name].append(one)


def now(stage: Stage) -> datetime:
    """The demonstration's time."""
    return ScaledClock(RATE, stage.origin).now()


def run(seconds: float = 120.0, headless: bool = False, as_json: bool = False) -> int:
    """Run the demonstration; give the exit status. With ``as_json`` only the summary goes to standard output."""
    console = Console(stderr=as_json)
    console.print(screen.banner(seconds, RATE, BYTES_PER_GIB // 2**20))
    try:
        with Stage(seconds, os.environ) as stage:
            found = _play(stage, console, headless)
    except StageError as error:
        sys.stderr.write(f"scaleahead: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("scaleahead: the demonstration was ended early; nothing is left running\n")
        return 1
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2, default=str) + "\n")
    else:
        screen.closing(console, found)
    return 0


def _play(stage: Stage, console: Console, headless: bool) -> dict[str, object]:
    began = time.monotonic()
    stage.start_cloud()
    stage.start_daemon()
    stage.await_daemon()
    stage.register()
    console.print(f"[cyan]dashboard: {stage.url}[/cyan]")
    recorder = Recorder(stage)
    cloud = Remote(stage.cloud_url)
    with contextlib.ExitStack() as stack:
        live = None if headless else stack.enter_context(Live(console=console, refresh_per_second=4))

        def show(jobs: list[dict[str, Any]], left: float) -> None:
            if live is not None:
                live.update(_picture(stage, jobs, left))

        _watch(stage, recorder, show, began)
    return _count(stage, recorder, cloud)


def _watch(stage: Stage, recorder: Recorder, show: Callable[[list[dict[str, Any]], float], None], began: float) -> None:
    looks = 0
    while (left := stage.seconds - (time.monotonic() - began)) > 0:
        if stage.daemon_died():
            # Its jobs run on without it; a new one goes on where the store says.
            recorder.restarts += 1
            if recorder.restarts > 5:
                raise StageError(f"the daemon keeps ending: {stage.last_words('daemon')}")
            stage.start_daemon()
            stage.await_daemon()
        jobs = recorder.jobs()
        show(jobs, left)
        if looks % FORECAST_EVERY == 0:
            recorder.forecasts()
        if len(recorder.ended) == len(CAST):
            return
        looks += 1
        time.sleep(LOOK_SECONDS)


def _picture(stage: Stage, jobs: list[dict[str, Any]], left: float) -> Group:
    memory: dict[str, tuple[float, float]] = {}
    for job in jobs:
        history = stage.get(f"/v1/jobs/{job['name']}/history?columns=usage.memory_gib&rows=1", {})
        used = (history.get("columns", {}).get("usage.memory_gib") or [None])[-1]
        limits = [step["limits"].get("usage.memory_gib") for step in history.get("capacity", [])]
        if used is not None and limits and limits[-1] is not None:
            memory[job["name"]] = (float(used), float(limits[-1]))
    return screen.fleet(jobs, memory, stage.url, left)


def _count(stage: Stage, recorder: Recorder, cloud: Remote) -> dict[str, object]:
    clock = ScaledClock(RATE, stage.origin)
    store = open_store(stage.database, clock)
    end = clock.now()
    began = datetime.fromtimestamp(stage.origin, UTC)
    try:
        results = []
        for member in CAST:
            machine = cloud.machine(f"vm-{member.name}")
            evidence = summary.Evidence(
                name=member.name, foresees=member.twin_of is None, began_at=began,
                ended_at=recorder.ended.get(member.name, end), finished=member.name in recorder.ended,
                bill=cloud.bill(machine.id), notices=machine.notices,
                decisions=store.decisions.of(member.name, 500), spans=store.runs.spans(member.name),
                history=store.telemetry.histories([member.name], 5000)[member.name],
                foretold=recorder.foretold[member.name],
            )  # fmt: skip
            results.append(summary.result(evidence))
    except ProviderError as error:
        raise StageError(f"the simulated cloud does not answer any more: {error}") from None
    finally:
        store.close()
    twins = {member.name: member.twin_of for member in CAST if member.twin_of}
    facts = {
        "simulated_seconds_per_second": RATE, "mib_per_simulated_gib": BYTES_PER_GIB // 2**20,
        "daemon_restarts": recorder.restarts, "prices": "aws us-east-1 on-demand, price list of 2026-07-20",
    }  # fmt: skip
    return summary.assembled(results, twins, facts)
