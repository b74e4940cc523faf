"""How to report frameworks and foreign programs: every snippet and command of the documents runs."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from api.demo.stage import free_port

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def snippet(word: str) -> str:
    text = (HOW_TO / "frameworks.md").read_text("utf-8")
    return next(b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if word in b)


def commands() -> list[str]:
    text = (HOW_TO / "any-program.md").read_text("utf-8")
    return re.findall(r"^scaleahead-run .*$", text, re.MULTILINE)


PROGRAM = """
import json
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
writer = EventFileWriter("runs")
writer.add_event(Event(wall_time=1e9, step=7, summary=Summary(value=[Summary.Value(tag="loss", simple_value=0.5)])))
writer.close()
print(json.dumps({"iteration": 7, "loss": 0.5}))
open("train.jsonl", "w").write(json.dumps({"step": 7, "loss": 0.5}) + "\\n")
"""

TOLD = """
import json, sys
import scaleahead.run, scaleahead.reporter
def close(self):
    print("TOLD", self.job, json.loads(self.body(-1))["observations"][-1]["step"], file=sys.stderr)
scaleahead.run._Onlooker.close = close
sys.exit(scaleahead.run.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", commands())
def test_a_foreign_program_is_reported_by_the_command_as_it_stands(tmp_path: Path, command: str):
    (tmp_path / "train.py").write_text(PROGRAM)
    words = shlex.split(command)[1:]
    words[words.index("python")] = sys.executable
    words[words.index("8700")] = "0"
    done = subprocess.run(
        [sys.executable, "-c", TOLD, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "TOLD old 7" in done.stderr


def test_the_document_has_a_command_for_each_source():
    assert [next(w for w in ("--jsonl", "--stdout", "--tensorboard") if w in c) for c in commands()] == [
        "--jsonl",
        "--stdout",
        "--tensorboard",
    ]


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["transformers", "lightning", "keras"])
def test_a_frameworks_snippet_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        space = {"transformers": _transformers, "lightning": _lightning, "keras": _keras}[name](tmp_path)
        exec(compile(snippet(f"scaleahead.{name}"), "frameworks.md", "exec"), space)
    callback = space.get("callback") or next(
        c
        for c in getattr(space["trainer"], "callbacks", None) or space["trainer"].callback_handler.callbacks
        if type(c).__name__ == "ScaleaheadCallback"
    )
    assert callback.reporter.handshake.state == "done"
    assert callback.reporter.errors == 0
    assert callback.reporter.buffer.newest.step == {"transformers": 3, "lightning": 30, "keras": 300}[name]


def _program(name: str) -> Any:
    place = Path(__file__).parents[2] / "api" / "client" / "tests" / "programs" / f"train_{name}.py"
    spec = importlib.util.spec_from_file_location(f"program_{name}", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _transformers(folder: Path) -> dict[str, Any]:
    program = _program("transformers")
    config = program.GPT2Config(vocab_size=61, n_positions=16, n_embd=8, n_layer=1, n_head=1)
    arguments = program.TrainingArguments(str(folder), max_steps=3, report_to=[], use_cpu=True, save_strategy="no")
    model = program.GPT2LMHeadModel(config)
    return {"Trainer": program.Trainer, "model": model, "arguments": arguments, "data": program.Counting()}


def _lightning(folder: Path) -> dict[str, Any]:
    import torch

    from scaleahead import Reporter

    program = _program("lightning")
    data = torch.utils.data.TensorDataset(torch.randn(16, 20), torch.randn(16, 1))
    module = program.Net(Reporter(""))
    module.validation_step = None
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}

    def trainer(**options: Any) -> Any:
        return program.Trainer(**options, **quiet)

    return {"Trainer": trainer, "module": module, "loader": torch.utils.data.DataLoader(data, batch_size=8)}


def _keras(folder: Path) -> dict[str, Any]:
    program = _program("keras")
    model = program.keras.Sequential([program.keras.Input((12,)), program.keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return {"model": model, "batch_at": program.batch_at}


RAY = """
import os, pathlib, sys, urllib.request
import ray, torch

def make_model():
    return torch.nn.Linear(3, 1)

def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)

def resume(model, optimizer, folder):
    def save(step):
        (pathlib.Path(DISK) / f"{step}-{os.environ['RANK']}").touch()
        return DISK
    return 3, save

def batches(done):
    # Steps 4 to 12; the daemon's request comes amidst them.
    for step in range(done + 1, 13):
        if step == 6 and os.environ["RANK"] == "0":
            asked = b'{"decision": "d1", "deadline": 0}'
            urllib.request.urlopen(f"http://127.0.0.1:{os.environ['SCALEAHEAD_HOOK_PORT']}/prepare", asked).close()
        yield torch.ones(4, 3)

def train_step(model, optimizer, batch):
    model(batch).sum().backward()
    optimizer.step()

DISK = sys.argv[1]
ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
"""


@pytest.mark.frameworks
def test_the_snippet_of_ray_train_saves_on_both_workers_at_one_step(tmp_path: Path):
    (tmp_path / "train.py").write_text(RAY + snippet("ray.train"))
    environ = {
        **os.environ, "SCALEAHEAD_HOOK_PORT": str(free_port()), "SCALEAHEAD_GRACE_SECONDS": "0", "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_TRAIN_V2_ENABLED": "1",
    }  # fmt: skip
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        [sys.executable, "train.py", str(tmp_path / "disk")],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    # Nothing is due at step 4; they agree at every tenth.
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["10-0", "10-1"]
