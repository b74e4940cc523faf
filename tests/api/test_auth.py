"""Who may do what: every route with every scope."""

from dataclasses import replace

import pytest

from api.app import create_app
from api.auth import FAILURES, WINDOW_SECONDS, digest_of, first_token
from tests.api.conftest import Browser, World

READ, OPERATE, ADMIN = {"read", "operate", "admin"}, {"operate", "admin"}, {"admin"}
OBSERVE = {"observe", "operate", "admin"}

MATRIX = [
    ("GET", "/v1/jobs", READ),
    ("POST", "/v1/jobs", OPERATE),
    ("GET", "/v1/jobs/{name}", READ),
    ("PATCH", "/v1/jobs/{name}", OPERATE),
    ("DELETE", "/v1/jobs/{name}", OPERATE),
    ("POST", "/v1/jobs/{name}/observations", OBSERVE),
    ("GET", "/v1/jobs/{name}/forecast", READ),
    ("GET", "/v1/jobs/{name}/trajectories", READ),
    ("GET", "/v1/jobs/{name}/plan", READ),
    ("GET", "/v1/jobs/{name}/decisions", READ),
    ("GET", "/v1/jobs/{name}/history", READ),
    ("GET", "/v1/jobs/{name}/ledger", READ),
    ("GET", "/v1/decisions/{decision}", READ),
    ("GET", "/v1/decisions/{decision}/replay", READ),
    ("POST", "/v1/decisions/{decision}/approve", OPERATE),
    ("POST", "/v1/decisions/{decision}/reject", OPERATE),
    ("POST", "/v1/forecast", READ),
    ("POST", "/v1/plan", READ),
    ("GET", "/v1/policies", READ),
    ("PUT", "/v1/policies/{name}", ADMIN),
    ("POST", "/v1/policies:check", READ),
    ("POST", "/v1/policies:diff", READ),
    ("GET", "/v1/offers", READ),
    ("GET", "/v1/fleet", READ),
    ("GET", "/v1/events", READ),
    ("POST", "/v1/tokens", ADMIN),
    ("GET", "/metrics", READ),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
]


async def test_the_matrix_names_every_route(api: Browser):
    described = (await api.get("/openapi.json")).json()["paths"]
    there = {(verb.upper(), path) for path, operations in described.items() for verb in operations}
    assert {(verb, path) for verb, path, _ in MATRIX} == there


@pytest.mark.parametrize(("verb", "path", "allowed"), MATRIX, ids=[f"{v} {p}" for v, p, _ in MATRIX])
async def test_each_scope_opens_its_routes_and_no_other(
    api: Browser, world: World, verb: str, path: str, allowed: set[str] | None
):
    world.fill()
    asked = path.replace("{name}", "bert-large").replace("{decision}", "d-2")
    if path == "/v1/events":
        world.services.bus.close()  # the stream ends at once
    if allowed is None:
        assert (await api.call(verb, asked, token="")).status == 200
        return
    nobody = await api.call(verb, asked, token=" ")
    assert nobody.status == 401
    assert nobody.headers["www-authenticate"].startswith("Bearer")
    for scope, token in world.tokens.items():
        got = (await api.call(verb, asked, token=token)).status
        assert (got == 403) == (scope not in allowed), f"{scope} got {got}"
        assert got != 401


async def test_a_sender_pushes_for_its_own_job_only(api: Browser, world: World):
    world.fill()
    body = {"observations": []}
    assert (await api.post("/v1/jobs/bert-large/observations", body, token="sa_observe")).status == 200
    assert (await api.post("/v1/jobs/resnet-50/observations", body, token="sa_observe")).status == 403
    assert ("received", "resnet-50") not in world.loop.told


async def test_only_a_digest_is_kept(api: Browser, world: World):
    made = await api.post("/v1/tokens", {"name": "ci", "scopes": ["read", "observe:bert-large"]})
    token = made.json()["token"]
    assert digest_of(token) in world.store.tokens.kept
    assert token not in repr(world.store.tokens.kept) + repr(world.store.audit.entries)
    assert (await api.get("/v1/jobs", token=token)).status == 200
    assert (await api.post("/v1/tokens", {"name": "x", "scopes": ["root"]})).status == 422


async def test_guessing_is_slowed_down_and_leaves_a_trace(api: Browser, world: World):
    for _ in range(FAILURES):
        assert (await api.get("/v1/jobs", token="sa_guess")).status == 401
    stopped = await api.get("/v1/jobs", token="sa_other-guess")
    assert (stopped.status, stopped.headers["content-type"]) == (429, "application/problem+json")
    assert 0 < int(stopped.headers["retry-after"]) <= WINDOW_SECONDS + 1
    assert [(e[3], e[4]) for e in world.store.audit.entries] == [("tokens refused", "10.0.0.9")]
    assert (await api.get("/v1/jobs", token="sa_guess", address="10.0.0.10")).status == 401
    world.clock.advance(WINDOW_SECONDS + 1)
    assert (await api.get("/v1/jobs", token="sa_guess")).status == 401
    assert (await api.get("/v1/jobs", token="sa_read")).status == 200


async def test_a_good_token_is_not_locked_out_by_others_at_its_address(api: Browser):
    assert (await api.get("/v1/jobs", token="sa_read")).status == 200
    for _ in range(FAILURES + 1):
        await api.get("/v1/jobs", token="sa_guess")
    assert (await api.get("/v1/jobs", token="sa_guess")).status == 429
    assert (await api.get("/v1/jobs", token="sa_read")).status == 200


async def test_open_reading_is_for_this_host_under_its_own_name(world: World):
    world.fill()
    browser = Browser(create_app(replace(world.services, open_read=True)), None)
    here = {"headers": {"host": "127.0.0.1:8642"}, "address": "127.0.0.1"}
    assert (await browser.get("/v1/fleet", **here)).status == 200
    assert (await browser.call("DELETE", "/v1/jobs/bert-large", **here)).status == 403
    assert (await browser.get("/v1/fleet", headers={"host": "evil.example"}, address="127.0.0.1")).status == 401
    assert (await browser.get("/v1/fleet", headers=here["headers"], address="10.0.0.9")).status == 401
    assert (await browser.get("/v1/fleet", token="sa_wrong", **here)).status == 401


def test_the_first_token_is_made_once(world: World):
    world.store.tokens.kept.clear()
    token = first_token(world.store)
    assert token is not None
    assert world.store.tokens.scopes(digest_of(token)) == ("admin", ("admin",))
    assert first_token(world.store) is None
