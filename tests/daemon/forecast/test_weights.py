import json
from pathlib import Path

import numpy as np
import pytest

from daemon.forecast import curve_train, runs, train, usage_train
from daemon.forecast.schedule import Schedules
from daemon.forecast.weights_file import LARGEST_BYTES, SHIPPED, WeightsError, load, save
from tests.daemon.forecast.histories import ahead, ramp


def tensors(value: float) -> dict[str, np.ndarray]:
    return {"net.a": np.full((2, 3), value, dtype=np.float32)}


def test_what_is_saved_is_loaded(tmp_path: Path):
    save(tmp_path, tensors(1.5), {"note": "hand-made"})
    weights = load(tmp_path)
    assert (weights.part("net")["a"] == 1.5).all()
    assert weights.meta["note"] == "hand-made"
    assert (weights.source, weights.reason) == ("current", "")


@pytest.mark.parametrize("fault", ["flipped", "short", "empty", "missing", "no checksum", "huge"])
def test_a_corrupt_file_falls_back_to_the_previous_and_then_gives_up(tmp_path: Path, fault: str):
    save(tmp_path, tensors(1), {})
    save(tmp_path, tensors(2), {})
    assert load(tmp_path).part("net")["a"][0, 0] == 2
    spoil(tmp_path, "recurrent", fault)
    weights = load(tmp_path)
    assert weights.part("net")["a"][0, 0] == 1
    assert weights.source == "previous"
    assert "recurrent.safetensors" in weights.reason
    spoil(tmp_path, "previous", fault)
    with pytest.raises(WeightsError) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    assert "recurrent" in str(caught.value)
    assert "previous" in str(caught.value)


def spoil(folder: Path, name: str, fault: str) -> None:
    path = folder / f"{name}.safetensors"
    packed = bytearray(path.read_bytes())
    match fault:
        case "flipped":
            packed[-1] ^= 1
            path.write_bytes(packed)
        case "short":
            path.write_bytes(packed[:-4])
        case "empty":
            path.write_bytes(b"")
        case "missing":
            path.unlink()
        case "no checksum":
            (folder / f"{name}.sha256").unlink()
        case _:
            path.write_bytes(packed + bytes(LARGEST_BYTES))


def test_a_corrupt_file_never_pushes_out_a_good_previous(tmp_path: Path):
    save(tmp_path, tensors(1), {})
    save(tmp_path, tensors(2), {})
    spoil(tmp_path, "recurrent", "flipped")
    save(tmp_path, tensors(3), {})
    spoil(tmp_path, "recurrent", "flipped")
    assert load(tmp_path).part("net")["a"][0, 0] == 1


def test_values_that_are_not_finite_are_refused(tmp_path: Path):
    save(tmp_path, tensors(float("nan")), {})
    with pytest.raises(WeightsError, match="not finite"):
        load(tmp_path)


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(tmp_path, tensors(1), {})
    monkeypatch.setattr("daemon.forecast.weights_file.VERSION", 2)
    with pytest.raises(WeightsError, match="version 1, not 2"):
        load(tmp_path)


def test_the_shipped_weights_load_are_small_and_have_a_card():
    weights = load()
    assert (weights.source, weights.reason) == ("current", "")
    assert {name.split(".")[0] for name in weights.tensors} == {"schedule", "curve", "usage"}
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 1024 * 1024
    card = (SHIPPED / "CARD.md").read_text(encoding="utf-8")
    for word in ("Apache-2.0", "MIT", "CC-BY-4.0", "daemon.forecast.train"):
        assert word in card


def test_training_writes_weights_that_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve_train, "MADE_UP", 120)
    monkeypatch.setattr(curve_train, "LESSONS", 200)
    monkeypatch.setattr(usage_train, "STEPS", 4)
    source = tmp_path / "runs.csv"
    lines = ["job,group,owner,step,total_steps,hp.batch_size,metric.loss,usage.gpu_util"]
    for job in range(4):
        for step in range(40):
            lines.append(f"j{job},g{job % 2},o,{step},40,{16 if step < 20 else 32},{1 + 1 / (step + 1)},{step % 7 / 7}")
    source.write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "out"
    assert (
        train.main(["--history", str(source), "--out", str(out), "--minutes", "0", "--steps", "2", "--hold-out", "g1"])
        == 0
    )
    assert "80 %" in capsys.readouterr().out
    one = ramp([16, 32], 100, 20, 600)
    sample = Schedules(load(out)).sample([one], [ahead(one)], 8)[0]
    assert np.isfinite(sample.paths["hp.batch_size"]).all()


def test_a_history_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    odd = tmp_path / "odd.csv"
    odd.write_text(json.dumps({"a": 1}), encoding="utf-8")
    assert train.main(["--history", str(odd), "--out", str(tmp_path), "--minutes", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(runs.RunsError):
        runs.read(tmp_path / "none.parquet")
