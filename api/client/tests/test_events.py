"""What a program writes, followed as it grows; event files against those that TensorBoard's own writer makes."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import random

import pytest

from scaleahead.events import EventFiles, Lines


def test_lines_are_read_as_they_are_ended(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = Lines(path)
    assert list(lines.read()) == []
    path.write_text(
        '{"step": 1, "loss": 2.5, "name": "x", "done": true}\nsomething else\n[1]\n{"loss": 1}\n{"step": 2, '
    )
    assert list(lines.read()) == [(1, {"loss": 2.5})]
    with path.open("a") as file:
        file.write('"loss": 2}\n{"step": NaN}\n')
    assert list(lines.read()) == [(2, {"loss": 2.0})]
    path.write_text('{"step": 3}\n')
    assert list(lines.read()) == [(3, {})]


@pytest.fixture
def written(tmp_path):
    writers = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto

    writer = writers.EventFileWriter(str(tmp_path / "run"))
    loss = Summary.Value(tag="train/loss", simple_value=2.5)
    rate = Summary.Value(tag="lr", tensor=TensorProto(dtype=1, float_val=[0.125]))
    packed = Summary.Value(tag="acc", tensor=TensorProto(dtype=1, tensor_content=b"\x00\x00\x80\x3f"))
    text = Summary.Value(tag="text", tensor=TensorProto(dtype=7, string_val=[b"words"]))
    writer.add_event(Event(wall_time=1e9, step=300, summary=Summary(value=[loss, rate, packed, text])))
    writer.add_event(Event(wall_time=1e9, step=2**40, summary=Summary(value=[loss])))
    writer.close()
    return next((tmp_path / "run").iterdir())


WANTED = [(300, {"train/loss": 2.5, "lr": 0.125, "acc": 1.0}), (2**40, {"train/loss": 2.5})]


def test_event_files_are_read_as_tensorboard_writes_them(written):
    assert list(EventFiles(written.parent.parent).read()) == WANTED


def test_a_file_that_grows_byte_by_byte_gives_the_same(written, tmp_path):
    whole = written.read_bytes()
    growing = tmp_path / "other" / written.name
    growing.parent.mkdir()
    growing.touch()
    files = EventFiles(growing.parent)
    seen = []
    for byte in range(len(whole)):
        with growing.open("ab") as file:
            file.write(whole[byte : byte + 1])
        seen += list(files.read())
    assert seen == WANTED


def test_a_damaged_file_never_raises(written):
    draw = random.Random(1)
    whole = written.read_bytes()
    for _ in range(300):
        bad = bytearray(whole)
        for _ in range(draw.randrange(1, 6)):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        written.write_bytes(bytes(bad))
        assert len(list(EventFiles(written.parent).read())) <= 3
