"""Lightning: declares, is asked to save, comes back at that very step, and ends with the same loss."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import pytest

from api.client.tests import moved

pytestmark = pytest.mark.frameworks
EPOCH = 20


# Amidst an epoch, and at the last step of one (a validation, a scheduler's move and new random numbers follow).
@pytest.mark.parametrize("ask_at", [3 * EPOCH - 7, 3 * EPOCH])
def test_a_trainer_is_moved_and_nothing_is_lost(tmp_path, tmp_path_factory, ask_at):
    beside = moved.alone("train_lightning", tmp_path_factory.getbasetemp())
    said, after = moved.moved("train_lightning", tmp_path, None, ASK_AT=str(ask_at))
    alone = beside.end()
    seen = {entry["step"]: entry for entry in said["observations"]}
    assert seen[1]["total_steps"] == 300
    assert seen[1]["hyperparameters"] == {"batch_size": 8.0, "gradient_accumulation": 2.0, "lr": 0.01}
    assert seen[1]["metrics"]["loss"] > 0
    assert [step for step, entry in seen.items() if "val_loss" in entry["metrics"]][:2] == [EPOCH, 2 * EPOCH]
    assert [(d["from_step"], d["hyperparameters"]["lr"]) for d in said["declared"]] == [
        (1, 0.01),
        (101, 0.005),
        (201, 0.0025),
    ]
    assert said["checkpoint"]["step"] == ask_at
    assert alone["first"] == 1
    assert after["first"] == ask_at + 1
    assert after["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert (alone["errors"], after["errors"]) == (0, 0)
