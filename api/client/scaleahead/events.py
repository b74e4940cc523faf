"""Edge: what a program writes for others to read, followed as it grows: JSON lines, and TensorBoard's event files.

Of event files only scalars are read, in their two forms (``simple_value``, and a tensor of one float): the framing is
TensorFlow's ``TFRecord``, the messages are ``tensorflow.Event`` in protocol buffers.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_RECORD_BYTES = 16 * 1024 * 1024
MOST_LENGTH = 2**40
"""No record is so long: the file is damaged, and where the next one begins is not known."""
Row = dict[str, float]


class Lines:
    """A file of JSON lines: objects with numbers, one of them the step. Other lines are passed over."""

    def __init__(self, path: Path, step_name: str = "step") -> None:
        self._path, self._step_name, self._at = path, step_name, 0

    def read(self) -> Iterator[tuple[int, Row]]:
        """Give (step, numbers) of each whole line that was added since the last call."""
        try:
            with self._path.open("rb") as file:
                if self._path.stat().st_size < self._at:
                    self._at = 0
                file.seek(self._at)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self._at += len(line)
                    row = self.row(line)
                    if row is not None:
                        yield row
        except FileNotFoundError:
            return

    def row(self, line: bytes) -> tuple[int, Row] | None:
        """Read one line; ``None`` where it is no object with a step."""
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(said, dict):
            return None
        numbers = {str(n): float(v) for n, v in said.items() if type(v) in (int, float)}
        step = numbers.pop(self._step_name, None)
        return None if step is None or step != step or abs(step) > 1e15 else (int(step), numbers)


class EventFiles:
    """A folder of event files, with all below it; what appears later is read too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._at: dict[Path, int] = {}

    def read(self) -> Iterator[tuple[int, Row]]:
        """Give (step, scalars) of each whole record that was added since the last call."""
        for path in sorted(self._folder.rglob("events.out.tfevents.*")):
            with path.open("rb") as file:
                file.seek(self._at.get(path, 0))
                for record in _records(file):
                    self._at[path] = file.tell()
                    step, scalars = _event(record)
                    if scalars:
                        yield step, scalars


def _records(file: Any) -> Iterator[bytes]:
    # length, its checksum, data, its checksum; what is not whole yet is read at the next look
    while len(head := file.read(12)) == 12:
        (length,) = struct.unpack("<Q", head[:8])
        if length > MOST_LENGTH:
            return
        if length > MOST_RECORD_BYTES:
            file.seek(length + 4, 1)
            continue
        data = file.read(length + 4)
        if len(data) < length + 4:
            return
        yield data[:length]


def _event(record: bytes) -> tuple[int, Row]:
    step, scalars = 0, {}
    try:
        for number, value in _fields(record):
            if number == 2 and isinstance(value, int):
                step = value
            elif number == 5 and isinstance(value, bytes):
                for inner, entry in _fields(value):
                    if inner == 1 and isinstance(entry, bytes):
                        scalars.update(_scalar(entry))
    except (IndexError, struct.error, UnicodeDecodeError, ValueError):
        return step, {}
    return step, scalars


def _scalar(value: bytes) -> Row:
    tag, figure = "", None
    for number, given in _fields(value):
        if number == 1 and isinstance(given, bytes):
            tag = given.decode()
        elif number == 2 and isinstance(given, bytes) and len(given) == 4:
            (figure,) = struct.unpack("<f", given)
        elif number == 8 and isinstance(given, bytes):
            figure = _tensor(given)
    return {} if figure is None or not tag else {tag: figure}


def _tensor(tensor: bytes) -> float | None:
    """Read a tensor of one 32-bit float, by its content or its list of floats; ``None`` for any other."""
    kind, figure = 0, None
    for number, given in _fields(tensor):
        if number == 1 and isinstance(given, int):
            kind = given
        elif number in (4, 5) and isinstance(given, bytes) and len(given) == 4:
            (figure,) = struct.unpack("<f", given)
    return figure if kind == 1 else None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give (number, value) of a message's fields: whole numbers as such, all else as bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number without end")
