"""``scaleahead demo`` as a person runs it: the figures, the page in a browser, a broken forecaster, a killed daemon."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

SECONDS = 120
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

# The capacity is drawn as M x,y H x L x,y ...: several heights mean that the machine has changed.
SEVERAL_HEIGHTS = """() => {
  const drawn = document.querySelector('#capacity')?.getAttribute('d') || '';
  return new Set([...drawn.matchAll(/,([0-9.]+)/g)].map((m) => m[1])).size > 1;
}"""


class Demo:
    """A running demonstration."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self._errors = directory / "stderr"
        self._output = directory / "stdout"
        with self._errors.open("wb") as errors, self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from api.cli import main; main()", "demo", "--headless", "--seconds",
                 str(SECONDS), "--json"],
                stdout=output, stderr=errors, env={**os.environ, **environment, "COLUMNS": "200"},
            )  # fmt: skip

    def url(self, seconds: float = 90) -> str:
        """Wait for the dashboard's address."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = re.search(r"dashboard: (http://\S+)", self.said())
            if found:
                return found.group(1)
            assert self.process.poll() is None, self.said()
            time.sleep(0.2)
        raise AssertionError(f"no address: {self.said()}")

    def said(self) -> str:
        return self._errors.read_text(errors="replace")

    def result(self) -> Any:
        assert self.process.wait(timeout=SECONDS + 120) == 0, self.said()
        return json.loads(self._output.read_text())

    def daemon(self) -> int:
        """Find the daemon among the demonstration's children."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                command = (entry / "cmdline").read_bytes()
            except (OSError, IndexError):
                continue
            if parent == self.process.pid and b"serve" in command:
                return int(entry.name)
        raise AssertionError("the demonstration has no daemon")


@contextmanager
def running(directory: Path, **environment: str) -> Iterator[Demo]:
    demo = Demo(directory, **environment)
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.send_signal(signal.SIGTERM)
            demo.process.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.browser
def test_the_demonstration_moves_ahead_and_its_page_shows_it(tmp_path: Path) -> None:
    with running(tmp_path) as demo:
        if shutil.which("chromium") is None:
            assert not os.environ.get("CI"), "chromium must be there in CI"
            pytest.skip("chromium is not installed: the page is not looked at (apt-get install chromium)")
        _look_at_the_page(demo.url(), Path(os.environ.get("SCALEAHEAD_SHOTS") or tmp_path))
        found = demo.result()

    model, cnn = found["jobs"]["language-model"], found["jobs"]["cnn"]
    assert model["finished"]
    for job in (model, cnn):
        assert job["out_of_memory"] == 0
        assert job["lost_steps"] == 0
        assert job["moved_before_need"] >= 1
        assert job["usd"] > 0
        assert 0 < job["forecast_error"] < 1
    assert model["twin"]["out_of_memory"] >= 1
    assert set(found["sources"]) >= {"usd", "hours", "out_of_memory", "moves", "lost_steps", "forecast_error"}


@pytest.mark.slow
def test_with_a_broken_forecaster_the_job_dies_and_a_killed_daemon_comes_back(tmp_path: Path) -> None:
    """No figure is scripted: when the forecast is the last value, the predicted job is killed as its twin is."""
    with running(tmp_path, SCALEAHEAD_FORECASTER="daemon.forecast.persist:Persist") as demo:
        demo.url()
        os.kill(demo.daemon(), signal.SIGKILL)
        found = demo.result()
    model = found["jobs"]["language-model"]
    assert model["out_of_memory"] >= 1
    assert found["facts"]["daemon_restarts"] == 1


def _look_at_the_page(url: str, shots: Path) -> None:
    asked: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_selector('tr[data-job="language-model"]', timeout=60_000)
        _wait_for_figures(page)
        page.screenshot(path=str(shots / "fleet.png"))
        page.click('tr[data-job="language-model"] a')
        page.wait_for_selector("path#band", state="attached", timeout=60_000)
        page.wait_for_selector("#decisions li", timeout=60_000)
        page.wait_for_function("() => (document.querySelector('#capacity')?.getAttribute('d') || '').length > 8")
        # The step of the capacity, once the job was moved: lines at more than one height.
        page.wait_for_function(SEVERAL_HEIGHTS, timeout=90_000)
        page.wait_for_timeout(300)
        page.screenshot(path=str(shots / "job.png"))
        assert page.inner_text("#decisions")
        browser.close()
    outside = [one for one in asked if not re.match(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:", one)]
    assert outside == []
    assert asked


def _wait_for_figures(page: Page) -> None:
    page.wait_for_function(
        "() => /\\d/.test(document.querySelector('tr[data-job=\"language-model\"]')?.innerText || '')", timeout=60_000
    )
