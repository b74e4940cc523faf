"""The routes over the fakes: what goes in, what comes out, and every error as a problem."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import structlog
from openapi_spec_validator import validate

from policies.budget import Budget
from policies.types import Settings
from tests.api.conftest import Browser, World

PROBLEM = "application/problem+json"
JOB = {"name": "bert-large", "hook": "http://127.0.0.1:9000/observations", "total_steps": 90000}


async def test_a_job_is_registered_shown_changed_and_removed(api: Browser, world: World):
    made = await api.post("/v1/jobs", {**JOB, "target": {"provider": "aws", "kind": "vm", "id": "i-1", "zone": "a"}})
    assert made.status == 201
    assert made.headers["location"] == "/v1/jobs/bert-large"
    assert made.json()["policy"] == "default"
    assert made.json()["target"]["place"] == "a"
    changed = await api.call("PATCH", "/v1/jobs/bert-large", {"state": "paused", "hook": None, "budget_usd": 12.5})
    assert (changed.json()["state"], changed.json()["hook"], changed.json()["budget_usd"]) == ("paused", None, 12.5)
    assert changed.json()["total_steps"] == 90000
    assert (await api.call("DELETE", "/v1/jobs/bert-large")).status == 204
    assert (await api.get("/v1/jobs/bert-large")).status == 404
    assert [told for told, _ in world.loop.told] == ["registered", "changed", "removed"]
    assert [e[3] for e in world.store.audit.entries] == ["job registered", "job changed", "job removed"]
    assert {e[2] for e in world.store.audit.entries} == {"admin"}


async def test_a_hooks_token_is_kept_never_shown_and_not_told_to_another_hook(api: Browser, world: World):
    made = await api.post("/v1/jobs", {**JOB, "hook_token": "s3cret", "grace_seconds": 7200.0})
    assert made.json()["has_hook_token"] is True
    assert made.json()["grace_seconds"] == 7200
    kept = world.store.jobs.kept
    assert kept["bert-large"].hook_token == "s3cret"
    await api.call("PATCH", "/v1/jobs/bert-large", {"hook": JOB["hook"]})
    assert kept["bert-large"].hook_token == "s3cret"
    moved = await api.call("PATCH", "/v1/jobs/bert-large", {"hook": "https://10.0.0.9:9000/"})
    assert kept["bert-large"].hook_token is None
    assert moved.json()["has_hook_token"] is False
    await api.call("PATCH", "/v1/jobs/bert-large", {"hook": JOB["hook"], "hook_token": "an0ther"})
    assert kept["bert-large"].hook_token == "an0ther"
    shown = [await api.get(path) for path in ("/v1/jobs", "/v1/jobs/bert-large", "/v1/fleet")]
    assert not any("an0ther" in json.dumps(one.json()) for one in shown)
    assert "an0ther" not in repr(kept["bert-large"]) + json.dumps(world.store.audit.entries, default=str)
    assert (await api.post("/v1/jobs", {**JOB, "name": "b", "hook_token": "two words"})).status == 422


@pytest.mark.fault("A16")
async def test_a_job_in_the_middle_of_an_action_is_removed_after_it(api: Browser, world: World):
    world.fill()
    world.store.jobs.busy.add("bert-large")
    answer = await api.call("DELETE", "/v1/jobs/bert-large")
    assert answer.status == 202
    assert world.store.jobs.kept["bert-large"].state == "deleting"
    assert world.loop.told == [("changed", "bert-large")]
    assert (await api.call("PATCH", "/v1/jobs/bert-large", {"state": "paused"})).status == 409


@pytest.mark.parametrize(("kind", "answer"), [("vm", 201), ("group", 422), ("pool", 422)])
async def test_only_a_machine_that_can_be_stopped_is_taken_under_a_budget(
    api: Browser, world: World, monkeypatch: pytest.MonkeyPatch, kind: str, answer: int
):
    target = {"provider": "aws", "kind": kind, "id": "workers", "zone": "a"}
    assert (await api.post("/v1/jobs", {**JOB, "name": "free", "target": target})).status == 201
    held = (Settings("default", "budget", "v1"), Budget())
    monkeypatch.setattr(world.book, "get", lambda name: held)
    made = await api.post("/v1/jobs", {**JOB, "target": target})
    assert made.status == answer
    moved = await api.call("PATCH", "/v1/jobs/free", {"policy": "default"})
    assert moved.status == (422 if answer == 422 else 200)
    assert answer == 201 or "cannot be stopped with its disks kept - take" in made.json()["detail"]


async def test_an_idempotency_key_makes_one_job(api: Browser, world: World):
    key = {"Idempotency-Key": "k-1"}
    first = await api.post("/v1/jobs", JOB, headers=key)
    again = await api.post("/v1/jobs", JOB, headers=key)
    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body
    assert len(world.store.jobs.kept) == 1
    other = await api.post("/v1/jobs", {**JOB, "name": "other"}, headers=key)
    assert (other.status, other.headers["content-type"]) == (409, PROBLEM)
    assert (await api.post("/v1/jobs", JOB)).status == 409
    assert (await api.post("/v1/jobs", JOB, headers={"Idempotency-Key": "a b"})).status == 422


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": "evil\r\nX: y"}, "body.name"),
        ({"name": "<b>"}, "body.name"),
        ({"name": "../../etc"}, "body.name"),
        ({"owner": "a\x1b[31m"}, "body.owner"),
        ({"hook": "http://user:canary@host/x"}, "body.hook"),
        ({"hook": "file:///etc/passwd"}, "body.hook"),
        ({"budget_usd": float("nan")}, "body.budget_usd"),
        ({"budget_usd": "12"}, "body.budget_usd"),
        ({"total_steps": 1.5}, "body.total_steps"),
        ({"deadline": "2026-11-30T10:00:00"}, "body.deadline"),
        ({"deadline": 1700000000}, "body.deadline"),
        ({"surprise": 1}, "body.surprise"),
        ({"mode": "yolo"}, "body.mode"),
    ],
)
async def test_a_bad_registration_is_refused_with_its_field(
    api: Browser, world: World, change: dict[str, Any], where: str
):
    answer = await api.post("/v1/jobs", {**JOB, **change})
    assert (answer.status, answer.headers["content-type"]) == (422, PROBLEM)
    told = answer.json()
    assert told["errors"][0]["where"] == where
    assert told["detail"].isprintable()
    assert "canary" not in answer.body.decode()
    assert world.store.jobs.kept == {}


async def test_an_unknown_policy_is_refused_with_those_there_are(api: Browser):
    answer = await api.post("/v1/jobs", {**JOB, "policy": "none-such"})
    assert answer.status == 422
    assert "take one of: default" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/v1/jobs/none-such", 404),
        ("GET", "/v1/jobs/none-such/history", 404),
        ("GET", "/v1/jobs/none-such/ledger", 404),
        ("GET", "/v1/jobs/none-such/decisions", 404),
        ("POST", "/v1/jobs/none-such/observations", 404),
        ("GET", "/v1/decisions/none-such", 404),
        ("POST", "/v1/decisions/none-such/approve", 404),
        ("DELETE", "/v1/fleet", 405),
        ("GET", "/v1/offers?limit=x", 422),
        ("GET", "/v1/jobs/%0d%0aevil", 404),
    ],
)
async def test_every_error_is_a_problem(api: Browser, method: str, path: str, status: int):
    answer = await api.call(method, path)
    told = answer.json()
    assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM)
    assert (told["status"], told["type"][:15]) == (status, "urn:scaleahead:")
    assert told["detail"].isprintable()
    assert "\r" not in json.dumps(answer.headers)


async def test_a_fault_tells_nothing_of_the_inside(api: Browser, world: World, monkeypatch: pytest.MonkeyPatch):
    def broken() -> Any:
        raise RuntimeError("canary")

    monkeypatch.setattr(world.store.jobs, "all", broken)
    with structlog.testing.capture_logs() as logged:
        answer = await api.get("/v1/jobs")
    assert (answer.status, answer.headers["content-type"]) == (500, PROBLEM)
    assert "canary" not in answer.body.decode()
    assert [(entry["event"], entry["path"]) for entry in logged] == [("a request failed", "/v1/jobs")]


async def test_bodies_have_limits(api: Browser, world: World):
    world.fill()
    path = "/v1/jobs/bert-large/observations"
    assert (await api.post(path, b"x" * (64 * 1024 + 1))).status == 413
    chunked = await api.post(path, chunks=[b"x" * 40_000, b"x" * 40_000])
    assert (chunked.status, chunked.headers["content-type"]) == (413, PROBLEM)
    large = {"name": "n", "owner": "x" * 1_100_000}
    assert (await api.post("/v1/jobs", large)).status == 413
    chunked = await api.post("/v1/jobs", chunks=[b"x" * 600_000] * 2, headers={"content-type": "application/json"})
    assert chunked.status == 413
    deep = b"[" * 200_000
    assert (await api.post("/v1/plan", deep, headers={"content-type": "application/json"})).status in (400, 422)


async def test_a_pushed_report_is_taken(api: Browser, world: World):
    world.fill()
    body = {"protocol": 1, "observations": [{"seq": 1, "step": 10}, {"seq": 2, "step": 20}]}
    answer = await api.post("/v1/jobs/bert-large/observations", body)
    assert answer.json() == {"accepted": 2, "dropped": {"repeated": 1}, "next": 2}
    assert ("received", "bert-large") in world.loop.told
    refused = await api.post("/v1/jobs/bert-large/observations", b"no json")
    assert (refused.status, refused.headers["content-type"]) == (422, PROBLEM)


async def test_history_and_forecast_hold_what_the_chart_needs(api: Browser, world: World):
    world.fill()
    past = (await api.get("/v1/jobs/bert-large/history?columns=usage.memory_gib")).json()
    assert list(past["columns"]) == ["usage.memory_gib"]
    assert len(past["step"]) == len(past["at"]) == len(past["columns"]["usage.memory_gib"]) == 120
    assert past["columns"]["usage.memory_gib"][50] is None, "unknown stays unknown"
    assert past["capacity"][0]["limits"]["usage.memory_gib"] == 8
    assert past["declared"][0]["from_step"] == 3000
    ahead = (await api.get("/v1/jobs/bert-large/forecast?columns=usage.memory_gib")).json()
    band = ahead["quantiles"]["usage.memory_gib"]
    assert list(ahead["quantiles"]) == ["usage.memory_gib"]
    assert all(a <= b <= c for a, b, c in zip(band["p10"], band["p50"], band["p90"], strict=True))
    assert band["p10"][-1] < band["p90"][-1]
    assert [c["offer"][-6:] for c in ahead["capacity"]] == ["/small", "medium", "/small"]
    assert ahead["seconds"] == sorted(ahead["seconds"])
    finish = ahead["finish"]["seconds"]
    assert 0 < finish["p10"] < finish["p50"] < finish["p90"]


async def test_without_a_loop_the_store_answers(api: Browser, world: World):
    world.fill()
    look = world.loop.looks.pop("bert-large")
    world.store.telemetry.forecasts["bert-large"] = look.forecast
    ahead = (await api.get("/v1/jobs/bert-large/forecast")).json()
    pace = look.forecast.paths["step_seconds"]
    slowest = float((pace[-1] * [b - a for a, b in zip([2400, *ahead["steps"]], ahead["steps"], strict=False)]).sum())
    assert ahead["steps"]
    assert ahead["finish"]["seconds"]["p90"] == pytest.approx(slowest, rel=0.05)
    assert ahead["plan"] == []


async def test_trajectories_hold_everything_and_the_time_to_each_step(api: Browser, world: World):
    world.fill()
    forecast = world.loop.looks["bert-large"].forecast
    answer = (await api.get("/v1/jobs/bert-large/trajectories")).json()
    assert sum(one["probability"] for one in answer["trajectories"]) == pytest.approx(1)
    assert {name.partition(".")[0] for name in forecast.paths} >= {"hp", "metric", "usage", "step_seconds"}
    gaps = np.diff([answer["at_step"], *answer["steps"]])
    for one in answer["trajectories"]:
        assert one["paths"].keys() == forecast.paths.keys()
        assert one["seconds"] == pytest.approx(np.cumsum(one["paths"]["step_seconds"] * gaps), rel=1e-4)


async def test_a_job_never_heard_of_has_a_reason_in_place_of_a_forecast(api: Browser, world: World):
    world.fill()
    ahead = (await api.get("/v1/jobs/unheard/forecast")).json()
    assert ahead["steps"] == []
    assert "must be heard of first" in ahead["missing"]
    assert (await api.get("/v1/jobs/unheard/trajectories")).status == 404


async def test_decisions_tell_options_and_first_limits(api: Browser, world: World):
    world.fill()
    brief = (await api.get("/v1/jobs/bert-large/decisions")).json()["decisions"]
    assert [d["id"] for d in brief] == ["d-2", "d-1"]
    assert "options" not in brief[0]
    full = (await api.get("/v1/decisions/d-2")).json()
    assert [(o["taken"], o["limit"]) for o in full["options"]] == [
        (False, "memory"), (True, None), (False, "objective"), (False, "usd_per_hour"),
    ]  # fmt: skip
    assert full["forecast"]["memory_gib"] == {"p50": 12.0, "p99": None}


async def test_a_waiting_decision_is_approved_once(api: Browser, world: World):
    world.fill()
    assert (await api.post("/v1/decisions/d-2/approve")).json()["by"] == "admin"
    again = await api.post("/v1/decisions/d-2/reject")
    assert (again.status, world.store.decisions.kept["d-2"].status) == (409, "approved")


async def test_fleet_sums_and_pages(api: Browser, world: World):
    world.fill()
    fleet = (await api.get("/v1/fleet")).json()
    assert (fleet["usd_per_hour"], fleet["spent_usd"], fleet["total"]) == (0.8, 0.8, 3)
    assert [j["next"] and j["next"]["waiting"] for j in fleet["jobs"]] == [True, None, None]
    assert fleet["jobs"][2]["machine"] is None
    first = (await api.get("/v1/fleet?limit=2")).json()
    rest = (await api.get(f"/v1/fleet?limit=2&after={first['next']}")).json()
    assert [j["name"] for j in [*first["jobs"], *rest["jobs"]]] == ["bert-large", "resnet-50", "unheard"]
    world.store.decisions.kept.pop("d-2")
    planned = (await api.get("/v1/fleet?job=bert-large")).json()["jobs"][0]["next"]
    assert (planned["offer"], planned["in_seconds"]) == ("simulated/here/medium", 240)


async def test_offers_filter_and_page(api: Browser):
    every = (await api.get("/v1/offers")).json()
    assert (every["total"], every["next"]) == (5, None)
    unpriced = next(o for o in every["offers"] if o["machine_type"] == "unpriced")
    assert unpriced["usd_per_hour"] is None
    assert (await api.get("/v1/offers?priced=true")).json()["total"] == 4
    first = (await api.get("/v1/offers?limit=3")).json()
    second = (await api.get(f"/v1/offers?limit=3&after={first['next']}")).json()
    assert len(first["offers"] + second["offers"]) == 5
    assert (await api.get("/v1/offers?match=*/h*")).json()["total"] == 5
    assert (await api.get("/v1/offers?match=simulated/here/h*")).json()["total"] == 1


async def test_the_ledger_adds_up_and_says_what_is_not_known(api: Browser, world: World):
    world.fill()
    world.record()
    told = (await api.get("/v1/jobs/bert-large/ledger")).json()
    assert told["usd_by_reason"] == {"running": 0.4}
    assert told["attempts"] == [{"run": None, "began": "2026-11-23T09:00:00Z", "usd": 0.4}]
    ways = {one["way"]: one for one in told["estimates"]}
    assert ways["no_move"]["usd"]["mean"] == pytest.approx(0.4)
    assert ways["static_best"]["offer"] == "simulated/here/medium"
    assert ways["reactive"]["usd"] is None
    assert "Estimates" in told["basis"]
    bare = (await api.get("/v1/jobs/resnet-50/ledger")).json()
    assert {one["note"] for one in bare["estimates"]} == {"no decision with its record covers what was run"}


async def test_a_decision_is_replayed_from_its_record(api: Browser, world: World):
    world.fill()
    world.record()
    told = (await api.get("/v1/decisions/d-9/replay")).json()
    assert told["same"] is True
    assert told["chosen"] == "simulated/here/medium"
    assert (await api.get("/v1/decisions/d-1/replay")).json()["same"] is None
    assert (await api.get("/v1/decisions/none-such/replay")).status == 404


async def test_a_machine_let_go_is_shown_beside_the_options(api: Browser, world: World):
    world.fill()
    world.record()
    kept = world.store.decisions.kept["d-9"]
    gone = replace(kept.options[0], route="release", kind="release")
    choice = replace(kept.choice, option=gone, rejected=())
    world.store.decisions.kept["d-9"] = replace(kept, choice=choice)
    shown = (await api.get("/v1/decisions/d-9")).json()["options"]
    assert [(one["route"], one["taken"]) for one in shown] == [("stay", False), ("in_place", False), ("release", True)]


async def test_an_edited_policy_is_held_against_the_record(api: Browser, world: World):
    world.fill()
    world.record()
    edited = b'scaleahead: 1\npolicies:\n  default:\n    limits: {offers: {deny: ["*/medium"]}}\n'
    told = (await api.post("/v1/policies:diff?days=7", edited)).json()
    assert (told["decisions"], told["other"], len(told["differences"])) == (1, 0, 1)
    assert told["differences"][0]["after"] == "simulated/here/small"
    assert told["jobs"][0]["differs_at"] is not None
    refused = await api.post("/v1/policies:diff?file=p.yaml", b"scaleahead: 2")
    assert refused.status == 422
    assert refused.json()["detail"].startswith("p.yaml:1:13: ")


GOOD = "scaleahead: 1\npolicies:\n  cheap:\n    kind: cost_per_hour\n"


async def test_policies_are_checked_put_and_refused_with_their_line(api: Browser, world: World):
    assert (await api.post("/v1/policies:check", GOOD.encode())).json() == {
        "valid": True, "policies": ["cheap"], "problems": [],
    }  # fmt: skip
    bad = GOOD.replace("kind:", "kynd:")
    checked = (await api.post("/v1/policies:check?file=p.yaml", bad.encode())).json()
    assert not checked["valid"]
    assert checked["problems"][0].startswith("p.yaml:")
    refused = await api.call("PUT", "/v1/policies/cheap", bad.encode())
    assert refused.status == 422
    assert refused.json()["detail"].startswith("cheap.yaml:")
    assert "cheap" not in world.book.kept
    put = await api.call("PUT", "/v1/policies/cheap", GOOD.encode())
    assert put.json()["kind"] == "cost_per_hour"
    listed = (await api.get("/v1/policies")).json()
    assert [p["name"] for p in listed["policies"]] == ["cheap", "default"]
    assert (await api.post("/v1/policies:check", b"\xff\xfe")).status == 422


HISTORY = {
    "step": [10, 20, 30], "elapsed_s": [5, 10, 15], "columns": {"usage.memory_gib": [3.0, None, 3.2]},
    "total_steps": 900,
}  # fmt: skip


async def test_a_stateless_forecast_gives_weighted_trajectories(api: Browser):
    answer = (await api.post("/v1/forecast", {"history": HISTORY})).json()
    weights = [t["probability"] for t in answer["trajectories"]]
    assert sum(weights) == pytest.approx(1)
    assert all(len(t["paths"]["usage.memory_gib"]) == len(answer["steps"]) for t in answer["trajectories"])
    assert all(len(t["seconds"]) == len(answer["steps"]) for t in answer["trajectories"])
    for wrong in ({"step": [10, 20, 20]}, {"elapsed_s": [1]}, {"columns": {"x": [1.0]}}):
        assert (await api.post("/v1/forecast", {"history": {**HISTORY, **wrong}})).status == 422


async def test_a_stateless_plan_weighs_offers_of_the_request(api: Browser, world: World):
    mine = {
        "provider": "mine", "region": "r", "machine_type": "m", "usd_per_hour": 1.5,
        "resources": {"cpu_cores": 4, "memory_gib": 64},
    }  # fmt: skip
    asked = {"current": "simulated/here/small", "history": HISTORY, "offers": [mine, "simulated/here/large"]}
    answer = await api.post("/v1/plan", asked)
    assert answer.json()["chosen"] == "simulated/here/medium"
    job, status, history, made, current, offers, settings, spent = world.loop.asked[0]
    assert (job.total_steps, current.id, [o.id for o in offers], settings.name, spent) == (
        900, "simulated/here/small", ["mine/r/m", "simulated/here/large"], "default", 0.0,
    )  # fmt: skip
    assert made is None
    assert len(history) == 3
    assert status.heard_at is not None
    given = {
        "at_step": 30,
        "steps": [40, 50],
        "probability": [0.4, 0.6],
        "paths": {"usage.memory_gib": [[1, 2], [3, 4]]},
    }
    answer = await api.post("/v1/plan", {"current": mine, "forecast": given, "settings": GOOD})
    assert answer.status == 200
    assert world.loop.asked[1][3].paths["usage.memory_gib"].shape == (2, 2)
    assert world.loop.asked[1][6].name == "cheap"


@pytest.mark.parametrize(
    "wrong",
    [
        {"offers": ["no/such/offer"]},
        {"history": None},
        {"policy": "none-such"},
        {"settings": "scaleahead: 2"},
        {"policy": "default", "settings": GOOD},
        {"forecast": {"at_step": 3, "steps": [4], "probability": [0.5], "paths": {"a": [[1]]}}},
    ],
)
async def test_a_stateless_plan_refuses_what_it_cannot_weigh(api: Browser, wrong: dict[str, Any]):
    asked = {"current": "simulated/here/small", "history": HISTORY, **wrong}
    answer = await api.post("/v1/plan", {k: v for k, v in asked.items() if v is not None})
    assert (answer.status, answer.headers["content-type"]) == (422, PROBLEM)


async def test_health_and_readiness(api: Browser, world: World):
    assert (await api.get("/healthz", token="")).status == 200
    assert (await api.get("/readyz")).status == 200
    world.loop.ready = False
    answer = await api.get("/readyz")
    assert (answer.status, answer.headers["content-type"]) == (503, PROBLEM)
    assert "the poller has not started" in answer.json()["detail"]


async def test_metrics_name_no_job(api: Browser, world: World):
    world.fill()
    for name in ("bert-large", "resnet-50"):
        await api.get(f"/v1/jobs/{name}")
    await api.get("/v1/nothing/here")
    text = (await api.get("/metrics")).body.decode()
    assert 'scaleahead_requests_total{method="GET",route="/v1/jobs/{name}",status="200"} 2.0' in text
    assert 'scaleahead_jobs{state="active"} 3.0' in text
    assert "bert-large" not in text
    assert "nothing/here" not in text


async def test_metrics_count_the_jobs_that_fell_silent(api: Browser, world: World):
    world.fill()
    assert "scaleahead_jobs_silent 1.0" in (await api.get("/metrics")).body.decode()  # the one never heard of
    world.clock.advance(301)
    assert "scaleahead_jobs_silent 3.0" in (await api.get("/metrics")).body.decode()


async def test_pages_come_with_strict_headers_and_only_from_here(api: Browser):
    for path in ("/", "/docs", "/dashboard/main.js", "/v1/jobs", "/nope"):
        answer = await api.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
        page = answer.body.decode()
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert "<script>" not in page
        assert "https://" not in page
    assert (await api.get("/v1/jobs")).headers["cache-control"] == "no-store"
    assert (await api.get("/dashboard/../app.py")).status == 404
    assert (await api.get("/dashboard/%2e%2e/app.py")).status == 404


async def test_the_description_is_openapi_3_1(api: Browser):
    found = (await api.get("/openapi.json")).json()
    assert found["openapi"].startswith("3.1")
    validate(found)
    public = {p for p, ops in found["paths"].items() if not any("security" in o for o in ops.values())}
    assert public == {"/healthz", "/readyz"}
    wanted = {
        "/v1/jobs", "/v1/jobs/{name}", "/v1/jobs/{name}/observations", "/v1/jobs/{name}/forecast",
        "/v1/jobs/{name}/trajectories", "/v1/jobs/{name}/decisions", "/v1/jobs/{name}/history",
        "/v1/jobs/{name}/ledger", "/v1/forecast", "/v1/plan", "/v1/decisions/{decision}",
        "/v1/decisions/{decision}/approve", "/v1/decisions/{decision}/reject", "/v1/policies", "/v1/policies/{name}",
        "/v1/policies:check", "/v1/offers", "/v1/fleet", "/v1/events", "/metrics", "/healthz", "/readyz",
    }  # fmt: skip
    assert wanted <= set(found["paths"])


async def test_infinite_figures_become_unknown(api: Browser, world: World):
    world.fill()
    decision = world.store.decisions.kept["d-2"]
    endless = replace(decision.options[0], hours=replace(decision.options[0].hours, mean=float("inf")))
    world.store.decisions.kept["d-2"] = replace(decision, options=(endless, *decision.options[1:]))
    answer = await api.get("/v1/decisions/d-2")
    assert answer.json()["options"][0]["hours"]["mean"] is None
