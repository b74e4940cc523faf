"""Edge: what one step of each framework's callback costs a training loop; needs ``make frameworks``.

The frameworks' own calls around it are left out: what is timed is the callback alone, with its hooks of one step.
"""

import importlib.util
import json
import os
import statistics
import tempfile
import time
import types
from collections.abc import Callable
from typing import Any

from scaleahead import Reporter

STEPS = 5000


def measure(steps: int = STEPS) -> dict[str, float | str]:
    """Time the hooks of a step, the median and the 99th of a hundred, in microseconds."""
    missing = [n for n in ("transformers", "lightning", "keras") if importlib.util.find_spec(n) is None]
    if missing:
        return {"left_out": f"{', '.join(missing)} not installed: make frameworks"}
    found: dict[str, float | str] = {}
    for name, prepared in (("transformers", _transformers), ("lightning", _lightning), ("keras", _keras)):
        with Reporter("bench", hook_port=0) as reporter:
            step = prepared(reporter)
            taken = sorted(_timed(step, number) for number in range(1, steps + 1))
            if reporter.errors:
                raise RuntimeError(f"{name}: the callback failed {reporter.errors} times")
        found[f"{name}_median_us"] = statistics.median(taken) * 1e6
        found[f"{name}_p99_us"] = taken[int(len(taken) * 0.99)] * 1e6
    return found


def _timed(step: Callable[[int], None], number: int) -> float:
    began = time.perf_counter()
    step(number)
    return time.perf_counter() - began


def _transformers(reporter: Reporter) -> Callable[[int], None]:
    import torch
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from scaleahead.transformers import ScaleaheadCallback

    callback = ScaleaheadCallback(reporter=reporter)
    arguments = TrainingArguments(tempfile.gettempdir(), report_to=[], use_cpu=True)
    state, control, model = TrainerState(), TrainerControl(), torch.nn.Linear(2, 2)
    optimizer, batch = torch.optim.SGD(model.parameters(), lr=0.1), {"input_ids": torch.zeros(8, 128, dtype=torch.long)}

    def step(number: int) -> None:
        state.global_step = number
        callback.on_step_begin(arguments, state, control, optimizer=optimizer)
        callback._see(model, (), batch)
        callback.on_step_end(arguments, state, control)

    return step


def _lightning(reporter: Reporter) -> Callable[[int], None]:
    import torch

    from scaleahead.lightning import ScaleaheadCallback

    callback = ScaleaheadCallback(tempfile.gettempdir(), reporter=reporter)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    outputs, batch = {"loss": torch.tensor(1.0)}, (torch.zeros(8, 20), torch.zeros(8, 1))
    trainer: Any = types.SimpleNamespace(global_step=0, world_size=1)

    def step(number: int) -> None:
        trainer.global_step = number
        callback.on_before_optimizer_step(trainer, None, optimizer)
        callback.on_train_batch_end(trainer, None, outputs, batch, number)

    return step


def _keras(reporter: Reporter) -> Callable[[int], None]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    from scaleahead.keras import ScaleaheadCallback

    callback = ScaleaheadCallback(tempfile.gettempdir(), reporter=reporter, batch_size=8)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    callback.set_model(model)

    def step(number: int) -> None:
        callback.on_train_batch_begin(number)
        callback.on_train_batch_end(number, {"loss": 1.0 / number})

    return step


if __name__ == "__main__":
    print(json.dumps(measure()))
