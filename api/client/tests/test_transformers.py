"""Hugging Face's Trainer: declares, is asked to save, comes back at that very step, and ends with the same loss."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import pytest

from api.client.tests import moved

pytestmark = pytest.mark.frameworks


def test_a_trainer_is_moved_and_nothing_is_lost(tmp_path, tmp_path_factory):
    beside = moved.alone("train_transformers", tmp_path_factory.getbasetemp())
    said, after = moved.moved("train_transformers", tmp_path, 45)
    alone = beside.end()
    newest = said["observations"][-1]
    rates = {o["step"]: o["hyperparameters"].pop("lr") for o in said["observations"]}
    assert newest["total_steps"] == 160
    assert newest["hyperparameters"] == {"batch_size": 8.0, "seq_len": 16.0, "gradient_accumulation": 2.0}
    ahead = {entry["from_step"]: entry["hyperparameters"]["lr"] for entry in said["declared"]}
    assert len(ahead) > 8
    assert ahead[41] == pytest.approx(rates[41])
    assert said["checkpoint"]["step"] >= 45
    assert said["checkpoint"]["seconds"] < 60
    assert any("loss" in entry["metrics"] for entry in said["observations"])
    assert alone["first"] == 1
    assert after["first"] == said["checkpoint"]["step"] + 1
    assert after["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert (alone["errors"], after["errors"]) == (0, 0)


def test_nothing_is_saved_that_could_not_be_resumed_from(tmp_path, caplog):
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from scaleahead import Reporter, Request
    from scaleahead.transformers import ScaleaheadCallback, last_checkpoint

    reporter = Reporter("job", usage=dict)
    callback = ScaleaheadCallback(reporter=reporter)
    arguments = TrainingArguments(str(tmp_path), save_only_model=True, report_to=[], use_cpu=True)
    state, control = TrainerState(global_step=3, is_world_process_zero=True), TrainerControl()
    reporter.prepare(Request("d"))
    callback.on_step_end(arguments, state, control)
    assert not control.should_save
    callback.on_save(arguments, state, control)
    assert reporter.handshake.state == "checkpointing"
    assert last_checkpoint(tmp_path) is None
    assert reporter.errors == 0
