"""Hook protocol 1, over a real socket on loopback."""
# ruff: noqa: ANN001, ANN003 - shipped beside the client; these types say nothing a reader needs

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from scaleahead import Reporter


def used():
    return {"memory_gib": 41.0, "cpu_cores": 6.1, "gpu_util": float("nan")}


@pytest.fixture
def report():
    with Reporter("bert", total_steps=90, hook_port=0, usage=used, every_seconds=0, clock=lambda: 0.0) as made:
        yield made


def ask(report, path="/", method="GET", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", int(report.url.rpartition(":")[2]), timeout=10)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        data = response.read()
        assert response.getheader("Location") is None
        assert len(data) <= 64 * 1024
        return response.status, json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    finally:
        connection.close()


def page(report, after=0):
    status, body = ask(report, f"/?after={after}")
    assert status == 200
    return body


def test_a_reply_is_as_the_contract_has_it(report):
    report.declare(30, seq_len=512)
    report.step(20, {"batch_size": 512, "lr": 3e-4}, {"loss": 2.31}, step_seconds=0.412)
    report.saved("step-20", 20, "s3://bucket/20", 11.2)
    body = page(report)
    assert {k: body[k] for k in ("protocol", "job", "run", "state")} == {
        "protocol": 1,
        "job": "bert",
        "run": report.run,
        "state": "training",
    }
    assert body["declared"] == [{"from_step": 30, "hyperparameters": {"seq_len": 512.0}}]
    assert body["checkpoint"] == {"id": "step-20", "step": 20, "seconds": 11.2, "uri": "s3://bucket/20"}
    (entry,) = body["observations"]
    assert body["next"] == entry["seq"] + 1
    assert entry.pop("at").endswith("Z")
    assert entry == {
        "seq": entry["seq"],
        "step": 20,
        "total_steps": 90,
        "hyperparameters": {"batch_size": 512.0, "lr": 3e-4},
        "metrics": {"loss": 2.31},
        "loss_state": "ok",
        "step_seconds": 0.412,
        "usage": {"memory_gib": 41.0, "cpu_cores": 6.1},
    }


def test_before_the_first_step_there_is_nothing_and_nothing_is_invented(report):
    body = page(report)
    assert (body["observations"], body["declared"], body["state"]) == ([], [], "training")
    assert "checkpoint" not in body
    assert body["next"] >= 0


def test_pages_stay_under_64_kib_and_miss_nothing(report):
    for step in range(3000):
        report.step(step, {f"hyper_{n}": step + n for n in range(20)}, {"loss": 1.0})
    seen, cursor, pages = [], 0, 0
    while True:
        body = page(report, cursor)
        if not body["observations"]:
            break
        pages += 1
        seen += [entry["step"] for entry in body["observations"]]
        cursor = body["next"]
    assert seen == list(range(3000))
    assert pages > 10


def test_many_declarations_do_not_crowd_out_the_observations(report):
    for step in range(2000):
        report.declare(step, **{"n" * 60 + str(k): 1.0 for k in range(3)})
    report.step(5, {"batch_size": 1})
    body = page(report)
    assert body["observations"][0]["step"] == 5
    assert body["declared"][0]["from_step"] == 5
    assert len(body["declared"]) <= 256


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_is_a_state(report, loss):
    report.step(1, {"batch_size": 1, "bad": loss}, {"loss": loss, "grad_norm": float("inf"), "accuracy": 0.5})
    body = page(report)
    (entry,) = body["observations"]
    assert (entry["loss_state"], entry["metrics"]) == ("diverged", {"accuracy": 0.5})
    assert entry["hyperparameters"] == {"batch_size": 1.0}
    assert body["state"] == "diverged"
    report.step(2, {"batch_size": 1}, {"loss": 1.0})
    assert page(report)["state"] == "training"


def test_the_handshake(report):
    report.step(7, {"batch_size": 1})
    asked = json.dumps({"decision": "d1", "deadline": "2099-01-01T00:00:00Z", "reason": "growth"})
    assert ask(report, "/prepare", "POST", asked)[0] == 202
    assert page(report)["state"] == "checkpointing"
    assert report.checkpoint_due().reason == "growth"
    report.saved("step-7", 7, None, 0.5)
    body = page(report)
    assert (body["state"], body["checkpoint"]) == ("ready", {"id": "step-7", "step": 7, "seconds": 0.5})
    assert report.checkpoint_due() is None
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(report.hold)
        assert ask(report, "/proceed", "POST", "{}")[0] == 202
        assert held.result(timeout=10) in ("proceed", "nothing")
    assert page(report)["state"] == "training"


def test_at_step_end_does_the_whole_handshake(report):
    assert ask(report, "/prepare", "POST", '{"decision": "d1"}')[0] == 202
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(report.at_step_end, 3, {"batch_size": 1}, save=lambda: "/disk/3")
        until = time.monotonic() + 10
        while page(report)["state"] != "ready" and time.monotonic() < until:
            pass
        body = page(report)
        assert body["checkpoint"]["uri"] == "/disk/3"
        assert body["observations"][-1]["step"] == 3
        assert not ended.done()
        ask(report, "/proceed", "POST")
        assert ended.result(timeout=10) is True


def test_done_answers_and_takes_no_more_requests(report):
    report.step(90, {"batch_size": 1})
    report.done()
    assert page(report)["state"] == "done"
    assert ask(report, "/prepare", "POST", '{"decision": "d"}')[0] == 409


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/etc/passwd", None, 404),
        ("GET", "/../../etc/passwd", None, 404),
        ("GET", "/prepare", None, 404),
        ("POST", "/", "{}", 404),
        ("POST", "/other/prepare", "{}", 404),
        ("PUT", "/", "{}", 501),
        ("DELETE", "/", None, 501),
        ("GET", "/?after=x", None, 400),
        ("GET", "/?after=" + "9" * 5000, None, 400),
        ("POST", "/prepare", "not json", 400),
        ("POST", "/prepare", "[1]", 400),
        ("POST", "/prepare", "[" * 9000, 400),
        ("POST", "/prepare", '{"decision": 5}', 400),
        ("POST", "/prepare", '{"decision": "d", "deadline": "soon"}', 400),
        ("POST", "/prepare", "x" * 20000, 413),
        ("GET", "/usage", None, 404),
        ("POST", "/usage", "[1]", 400),
        ("POST", "/usage", '{"rank": 0, "node": 0, "usage": {}}', 400),
    ],
)
def test_nothing_else_is_served(report, method, path, body, status):
    connection = http.client.HTTPConnection("127.0.0.1", int(report.url.rpartition(":")[2]), timeout=10)
    connection.request(method, path, body)
    assert connection.getresponse().status == status
    connection.close()
    assert report.checkpoint_due() is None
    assert page(report)["protocol"] == 1


def test_a_client_that_hangs_up_or_sends_nonsense_disturbs_nobody(report, capsys):
    port = int(report.url.rpartition(":")[2])
    for sent in (b"", b"\xff\xfe\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Le", b"A" * 70000):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(sent)
    assert page(report)["protocol"] == 1
    assert capsys.readouterr().err == ""


def test_a_token_is_asked_for():
    with Reporter("bert", hook_port=0, token="secret", usage=used) as report:
        assert ask(report)[0] == 401
        assert ask(report, Authorization="Bearer wrong")[0] == 401
        assert ask(report, "/prepare", "POST", '{"decision": "d"}')[0] == 401
        assert ask(report, "/proceed", "POST", "{}")[0] == 401
        assert ask(report, "/usage", "POST", "{}")[0] == 401
        assert ask(report, Authorization="Bearer secret")[0] == 200


def test_a_port_that_is_taken_is_logged_and_training_goes_on(report, caplog):
    other = Reporter("bert", hook_port=int(report.url.rpartition(":")[2]), usage=used)
    other.step(1, {"batch_size": 1})
    assert other.url is None
    assert "cannot listen" in caplog.text
    other.close()
