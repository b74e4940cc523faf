"""A small net under Keras, on the backend of ``KERAS_BACKEND``. Argument: a folder, also for what came of it."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import json
from pathlib import Path

import keras
import numpy as np

from api.client.tests.programs import reporting
from scaleahead.keras import Batches, ScaleaheadCallback

STEPS, EPOCH = 300, 40


def batch_at(place):
    random = np.random.default_rng(place)
    given = random.normal(size=(16 if place < 200 else 24, 12)).astype("float32")
    return given, (given[:, :3].prod(1, keepdims=True) + given[:, 4:5]).astype("float32")


def main(folder: str) -> None:
    keras.utils.set_random_seed(3)
    layers = keras.layers
    net = keras.Sequential([keras.Input((12,)), layers.Dense(32, "relu"), layers.Dropout(0.2), layers.Dense(1)])
    net.compile(keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(1e-2, STEPS)), "mse")
    reporter = reporting.reporter("net")
    data = Batches(batch_at)
    callback = ScaleaheadCallback(folder, reporter=reporter, total_steps=STEPS, data=data)
    done = callback.resume(net)
    options = {"validation_data": batch_at(10**6), "verbose": 0, "callbacks": [callback]}
    begun, left = done // EPOCH, -done % EPOCH
    if left:
        # The epoch that was begun is ended first, so that validations come where they would have come.
        net.fit(data, steps_per_epoch=left, initial_epoch=begun, epochs=begun + 1, **options)
        begun += 1
    net.fit(data, steps_per_epoch=EPOCH, initial_epoch=begun, epochs=-(-STEPS // EPOCH), **options)
    tests = [batch_at(10**7 + place) for place in range(8)]
    loss = net.evaluate(np.concatenate([x for x, _ in tests]), np.concatenate([y for _, y in tests]), verbose=0)
    first = json.loads(reporter.body(-1))["observations"][0]["step"]
    Path(folder, "result.json").write_text(json.dumps({"first": first, "loss": float(loss), "errors": reporter.errors}))


if __name__ == "__main__":
    main(str(reporting.folder()))
