"""The dashboard in a real browser, over a real server of the fakes."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", shutil.which("chromium") or "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SHOTS = os.environ.get("SCALEAHEAD_SHOTS")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="there is no chromium - run make browser"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """A page, with every address it asked for and every error it met."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.asked: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda r: self.asked.append(r.url))
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    def open(self, place: str) -> Page:
        self.page.goto(self.url + "/" + place)
        return self.page

    def shoot(self, name: str) -> None:
        if SHOTS:
            self.page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


@pytest.fixture(params=[(1280, "light"), (400, "dark")], ids=["wide-light", "narrow-dark"])
def visit(request: pytest.FixtureRequest, chromium: Chromium, server: Any, world: Any) -> Iterator[Visit]:
    world.fill()
    width, scheme = request.param
    context = chromium.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme)
    made = Visit(context.new_page(), server.url)
    made.page.set_default_timeout(8000)
    yield made
    context.close()
    outside = [url for url in made.asked if urlsplit(url).hostname not in ("127.0.0.1", None)]
    assert outside == []


def fits(page: Page) -> bool:
    found: bool = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    return found


def test_fleet_shows_every_job_with_money_and_next_move(visit: Visit, request: pytest.FixtureRequest) -> None:
    page = visit.open("#token=sa_read")
    row = page.locator('tr[data-job="bert-large"]')
    row.wait_for()
    assert "token" not in page.url
    assert "$0.40" in row.inner_text()
    assert "waits for approval" in row.inner_text()
    assert "40 %" in row.inner_text()
    assert page.locator("#total-rate").inner_text() == "$0.80/h"
    assert page.locator("#jobs tr").count() == 3
    page.locator("#live", has_text="live").wait_for()
    assert fits(page)
    visit.shoot("fleet-" + request.node.callspec.id)
    assert visit.errors == []


def test_job_page_draws_band_capacity_and_log(visit: Visit, request: pytest.FixtureRequest) -> None:
    page = visit.open("#token=sa_read")
    page.locator('tr[data-job="bert-large"] a').click()
    page.locator("path#band").wait_for()
    capacity = page.locator("path#capacity").get_attribute("d") or ""
    assert capacity.count("H") >= 3, "the machine now and two planned ones"
    assert "M" in (page.locator("path#observed").get_attribute("d") or "")
    log = page.locator("#decisions li")
    assert log.count() == 2
    assert "no change, because" in log.nth(1).inner_text()
    log.nth(0).locator("summary").click()
    options = log.nth(0).locator("table.options")
    options.wait_for()
    assert "$7.50 an hour is above the policy's $4.00" in options.inner_text()
    assert fits(page)
    page.locator("#chart").focus()
    page.keyboard.press("ArrowRight")
    assert "small holds 8" in page.locator("#reading").inner_text()
    visit.shoot("job-" + request.node.callspec.id)
    page.locator("#column").select_option("metric.loss")
    page.locator('#chart[aria-label^="loss"]').wait_for()
    assert page.locator("path#capacity").count() == 0
    page.locator("#axis").select_option("time")
    page.locator("path#band").wait_for()
    visit.shoot("loss-" + request.node.callspec.id)
    assert visit.errors == []


def test_asks_for_a_token_once_and_approves(visit: Visit, world: Any, request: pytest.FixtureRequest) -> None:
    page = visit.open("#/jobs/bert-large")
    page.locator("#token").wait_for()
    visit.shoot("token-" + request.node.callspec.id)
    page.locator("#token").fill("wrong")
    page.keyboard.press("Enter")
    page.locator("#said", has_text="not known").wait_for()
    page.locator("#token").fill("sa_operate")
    page.keyboard.press("Enter")
    page.locator('[data-test="approve"]').click()
    page.locator("#decisions li .chip", has_text="approved").wait_for()
    assert world.store.decisions.kept["d-2"].status == "approved"
    assert world.store.decisions.kept["d-2"].by == "operate"
    page.reload()
    page.locator("path#band").wait_for()
    assert page.locator("#sign-in").is_hidden()


def test_reader_is_told_that_approving_needs_more(visit: Visit, world: Any) -> None:
    page = visit.open("#token=sa_read&/jobs/bert-large")
    page.locator('[data-test="approve"]').click()
    page.locator("#said", has_text="scope operate").wait_for()
    assert world.store.decisions.kept["d-2"].status == "waiting"


def test_hostile_texts_stay_texts(visit: Visit, world: Any, server: Any) -> None:
    from dataclasses import replace

    evil = '<img src=x onerror="window.hit=1"><script>window.hit=1<b>\r\n\x1b[31m'
    store, looks = world.store, world.loop.looks
    job = replace(store.jobs.kept["bert-large"], name=evil)
    store.jobs.kept[evil] = job
    look = looks["bert-large"]
    columns = {**look.history.columns, "metric." + evil: look.history.columns["metric.loss"]}
    store.telemetry.kept[evil] = replace(look.history, job=evil, columns=columns)
    looks[evil] = replace(look, job=job, history=store.telemetry.kept[evil])
    decision = store.decisions.kept["d-2"]
    choice = replace(decision.choice, reason=evil)
    store.decisions.kept["d-9"] = replace(decision, id="d-9", job=evil, choice=choice, by=evil)
    page = visit.open("#token=sa_read")
    page.locator("#jobs tr").nth(3).wait_for()
    page.locator("#jobs tr a", has_text="<img").click()
    page.locator("path#band").wait_for()
    page.locator("#decisions summary").first.click()
    page.locator("table.options").wait_for()
    assert page.evaluate("window.hit") is None
    assert page.locator("main img").count() == 0
    assert fits(page)


def test_news_arrives_and_polling_takes_over(visit: Visit, world: Any, server: Any) -> None:
    page = visit.open("#token=sa_read")
    page.locator("#live", has_text="live").wait_for()
    world.services.bus.close()
    page.locator("#live", has_text="polling").wait_for()
    world.loop.ready = False
    page.locator("#problems", has_text="the poller has not started").wait_for()
    visit.shoot("not-ready")


def test_reference_lists_the_routes(visit: Visit, request: pytest.FixtureRequest) -> None:
    page = visit.open("docs")
    page.locator(".route", has_text="/v1/plan").first.wait_for()
    page.locator("#find").fill("approve")
    assert page.locator(".route:visible").count() == 1
    page.locator(".route:visible summary").click()
    visit.shoot("docs-" + request.node.callspec.id)
    assert fits(page)
    assert visit.errors == []
