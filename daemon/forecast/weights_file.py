"""Edge: the weights on disk, with a checksum beside them and the previous ones kept."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
SHIPPED = Path(__file__).parent / "weights"
CURRENT = "recurrent"
PREVIOUS = "previous"
LARGEST_BYTES = 10 * 1024 * 1024


class WeightsError(Exception):
    """No weights can be used: go on with the closed forms (``weights=None``). ``str()`` is one line."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Tensors by name (``schedule.*``, ``curve.*``, ``usage.*``), and what is written about them.

    ``source`` is "current" or "previous"; ``reason`` says why the current ones were not taken, "" if they were.
    """

    tensors: Mapping[str, NDArray[Any]]
    meta: Mapping[str, str] = field(default_factory=dict)
    source: str = "current"
    reason: str = ""

    def part(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Give the tensors of one net with its prefix taken off. Raises ``WeightsError`` where there are none."""
        found = {
            name.removeprefix(prefix + "."): value
            for name, value in self.tensors.items()
            if name.startswith(prefix + ".")
        }
        if not found:
            raise WeightsError(f"the weights hold no net {prefix!r} - train them: python -m daemon.forecast.train")
        return found


def save(folder: Path, tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, str]) -> None:
    """Write weights, then their checksum; keep the old pair as previous, so that one of them always loads."""
    from safetensors.numpy import save as pack

    folder.mkdir(parents=True, exist_ok=True)
    packed = pack({name: np.ascontiguousarray(value) for name, value in tensors.items()}, _texts(meta))
    current = folder / f"{CURRENT}.safetensors"
    if current.exists():
        try:
            _checked(folder, CURRENT)
        except WeightsError:
            pass  # a corrupt file must not push out a good previous one
        else:
            _write(folder, PREVIOUS, current.read_bytes())
    _write(folder, CURRENT, packed)


def load(folder: Path | None = None) -> Weights:
    """Read the current weights, or the previous where those are missing or corrupt.

    Raises ``WeightsError``, naming both faults, where neither can be used.
    """
    place = folder or SHIPPED
    try:
        return _read(place, CURRENT, "current", "")
    except WeightsError as error:
        reason = str(error)
    try:
        return _read(place, PREVIOUS, "previous", reason)
    except WeightsError as error:
        raise WeightsError(f"{reason}; {error}") from error


def _texts(meta: Mapping[str, str]) -> dict[str, str]:
    return {"version": str(VERSION)} | {name: str(value) for name, value in meta.items()}


def _write(folder: Path, name: str, packed: bytes) -> None:
    for suffix, content in (
        ("safetensors", packed),
        ("sha256", f"{hashlib.sha256(packed).hexdigest()}  {name}.safetensors\n".encode()),
    ):
        fresh = folder / f".{name}.{suffix}.new"
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / f"{name}.{suffix}")


def _checked(folder: Path, name: str) -> bytes:
    path = folder / f"{name}.safetensors"
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise WeightsError(f"{path.name} is over {LARGEST_BYTES} bytes - train the weights again")
        packed = path.read_bytes()
        told = (folder / f"{name}.sha256").read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path.name} cannot be read ({type(error).__name__}) - train the weights again") from error
    if not told or hashlib.sha256(packed).hexdigest() != told[0]:
        raise WeightsError(f"{path.name} does not match its checksum - restore it or train the weights again")
    return packed


def _read(folder: Path, name: str, source: str, reason: str) -> Weights:
    from safetensors import SafetensorError
    from safetensors.numpy import load as unpack

    packed = _checked(folder, name)
    try:
        length = int.from_bytes(packed[:8], "little")
        meta = json.loads(packed[8 : 8 + length]).get("__metadata__", {})
        tensors = unpack(packed)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{name}.safetensors is not readable - train the weights again") from error
    if meta.get("version") != str(VERSION):
        raise WeightsError(f"{name}.safetensors is of version {meta.get('version')}, not {VERSION} - train it again")
    if not all(np.isfinite(value).all() for value in tensors.values()):
        raise WeightsError(f"{name}.safetensors holds values that are not finite - train the weights again")
    return Weights(tensors, meta, source, reason)
