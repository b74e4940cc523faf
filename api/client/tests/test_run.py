"""``scaleahead-run``: a program that knows nothing of it, over real processes and the real hook."""
# ruff: noqa: ANN001, ANN002, ANN003 - shipped beside the client; these types say nothing a reader needs

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

PROGRAM = """
import json, sys, time
steps = int(sys.argv[1])
with open(sys.argv[2], "a") as log:
    for step in range(1, steps + 1):
        print(json.dumps({"step": step, "loss": 1 / step, "lr": 0.5}), file=log, flush=True)
if steps > 2:
    print("waiting", flush=True)
    sys.stdin.read()
sys.exit(steps)
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "train.py").write_text(PROGRAM)
    begun = []

    def run(*command, **options):
        command = [sys.executable, "-m", "scaleahead.run", *map(str, command)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environ = {n: v for n, v in os.environ.items() if not n.startswith("SCALEAHEAD_")}
        begun.append(subprocess.Popen(command, cwd=tmp_path, env=environ, **pipes, **options))
        return begun[-1]

    yield run
    for process in begun:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, path="", data=None):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", data, timeout=10) as reply:
        return json.loads(reply.read())


def program(steps):
    return "--", sys.executable, "train.py", steps, "log.jsonl"


def test_a_program_is_reported_and_never_asked_to_save(start):
    port = free_port()
    process = start("--job", "old", "--hook-port", port, "--total-steps", 9, "--jsonl", "log.jsonl", *program(5))
    assert process.stdout.readline() == "waiting\n"
    until = time.monotonic() + 20
    while not (said := ask(port))["observations"] or said["observations"][-1]["step"] < 5:
        assert time.monotonic() < until
        time.sleep(0.02)  # a real process is waited for
    newest = said["observations"][-1]
    assert (said["job"], newest["total_steps"]) == ("old", 9)
    assert newest["hyperparameters"] == {"lr": 0.5}
    assert newest["metrics"] == {"loss": 0.2}
    assert said["observations"][0]["usage"]["memory_gib"] > 0
    with pytest.raises(urllib.error.HTTPError, match="409"):
        ask(port, "prepare", b'{"decision": "d"}')
    process.stdin.close()
    assert process.wait(20) == 5


def test_signals_go_to_the_program_and_its_end_is_told(start):
    process = start("--job", "old", "--jsonl", "log.jsonl", *program(5))
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM


def test_what_is_printed_passes_through_and_is_read(start):
    code = "import json; print('begin'); print(json.dumps({'it': 1, 'loss': 2}))"
    process = start("--job", "old", "--stdout", "--step", "it", "--", sys.executable, "-c", code)
    assert process.communicate(timeout=20) == ('begin\n{"it": 1, "loss": 2}\n', "")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        (["--job", "j", "--stdout"], 2, "no program is named - put it after --"),
        (["--stdout", "--", "true"], 2, "no job is named - give --job NAME or set SCALEAHEAD_JOB"),
        (["--job", "j", "--", "true"], 2, "nothing to read is named"),
        (["--job", "j", "--stdout", "--", "no-such-program"], 127, "no-such-program cannot be run"),
    ],
)
def test_wrong_use_is_said_in_one_line(start, given, status, said):
    process = start(*given)
    _, error = process.communicate(timeout=20)
    assert process.returncode == status
    assert said in error.splitlines()[-1]
