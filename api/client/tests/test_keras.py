"""Keras on each backend: declares, is asked to save, comes back at that very step, and ends with the same loss."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import pytest

from api.client.tests import moved

pytestmark = pytest.mark.frameworks


@pytest.mark.parametrize("backend", ["torch", "tensorflow", "jax"])
def test_a_fit_is_moved_and_nothing_is_lost(tmp_path, tmp_path_factory, backend):
    beside = moved.alone("train_keras", tmp_path_factory.getbasetemp(), KERAS_BACKEND=backend)
    said, after = moved.moved("train_keras", tmp_path, 45, KERAS_BACKEND=backend)
    alone = beside.end()
    seen = {entry["step"]: entry for entry in said["observations"]}
    assert seen[1]["total_steps"] == 300
    assert seen[1]["hyperparameters"] == {"batch_size": 16.0, "lr": pytest.approx(0.01)}
    assert seen[1]["metrics"]["loss"] > 0
    assert "val_loss" in seen[40]["metrics"]
    assert said["declared"][-1] == {"from_step": 282, "hyperparameters": {"lr": pytest.approx(9.8644e-05, rel=1e-3)}}
    assert said["checkpoint"]["step"] >= 45
    assert alone["first"] == 1
    assert after["first"] == said["checkpoint"]["step"] + 1
    assert after["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert (alone["errors"], after["errors"]) == (0, 0)
