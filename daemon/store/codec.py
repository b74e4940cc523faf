"""Pure decisions: frozen dataclasses to JSON text and back, exactly, by their type hints.

Strict both ways: what the hints do not allow is refused with the path to it. A sum type of dataclasses carries a
``kind`` tag with the class's name. Times are UTC in ISO form; floats that are not finite are the strings "nan", "inf"
and "-inf"; arrays are base64 of compressed bytes. A field that is missing takes its default, so that a value written
before the field existed can still be read; an unknown field is refused.
"""

import base64
import json
import math
import types
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Code = Callable[[Any], Any]
ODD_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class CodecError(ValueError):
    """A value that its type does not allow. ``str()`` is one line with the path to it."""


@dataclass(frozen=True, slots=True)
class Coder:
    """Two functions between a value and what ``json`` takes."""

    encode: Code
    decode: Code


def dumps(hint: Any, value: object) -> str:
    """Write a value of type ``hint`` as one line of ASCII JSON. Raises ``CodecError``."""
    return json.dumps(coder(hint).encode(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def loads(hint: type[T], text: str | bytes) -> T:
    """Read a value of type ``hint``. Raises ``CodecError``."""
    try:
        plain = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise CodecError(f"not JSON: {error}") from error
    return cast(T, coder(cast(Any, hint)).decode(plain))


@cache
def coder(hint: Any) -> Coder:
    """Make the coder of a type hint. Raises ``CodecError`` for a type that it does not know."""
    if hint is object or hint is Any:
        return Coder(_encode_free, _decode_free)
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _literal(args)
    if origin in (Union, types.UnionType):
        return _union(args)
    if origin is np.ndarray:
        return Coder(_encode_array, _decode_array)
    if origin is tuple:
        return _sequence(tuple, args[0]) if args[1:] == (...,) else _record(args)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(args[0], args[1])
    if isinstance(origin, type) and issubclass(origin, Collection):
        return _sequence(list if issubclass(origin, Sequence) else frozenset, args[0])
    if is_dataclass(hint) and isinstance(hint, type):
        return _product(hint)
    raise CodecError(f"no coding is known for {hint!r}")


def _no_constant(name: str) -> object:
    raise CodecError(f"{name} is not JSON")


def _refuse(expected: str, value: object) -> CodecError:
    return CodecError(f"expected {expected}, not {type(value).__name__} {str(value)[:60]!r}")


# Plain values. numpy's scalars are taken for what they stand for: models hand them on unawares.


def _encode_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _refuse("a text", value)
    return value


def _encode_whole(value: Any) -> int:
    if isinstance(value, np.integer):
        return int(value)
    if type(value) is not int:
        raise _refuse("a whole number", value)
    return value


def _encode_truth(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _refuse("true or false", value)
    return bool(value)


def _encode_number(value: Any) -> float | str:
    if isinstance(value, bool) or not isinstance(value, float | int | np.floating | np.integer):
        raise _refuse("a number", value)
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _decode_number(plain: Any) -> float:
    if type(plain) is float:
        return plain
    if type(plain) is int:
        return float(plain)
    if isinstance(plain, str) and plain in ODD_FLOATS:
        return ODD_FLOATS[plain]
    raise _refuse("a number", plain)


def _encode_time(value: Any) -> str:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _refuse("a time with its zone", value)
    return value.astimezone(UTC).isoformat()


def _decode_time(plain: Any) -> datetime:
    if not isinstance(plain, str):
        raise _refuse("a time", plain)
    try:
        return _utc(datetime.fromisoformat(plain))
    except ValueError as error:
        raise _refuse("a time", plain) from error


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment.astimezone(UTC)


def _nothing(value: Any) -> None:
    if value is not None:
        raise _refuse("nothing", value)


_PLAIN: dict[Any, Coder] = {
    str: Coder(_encode_text, _encode_text),
    int: Coder(_encode_whole, _encode_whole),
    bool: Coder(_encode_truth, _encode_truth),
    float: Coder(_encode_number, _decode_number),
    datetime: Coder(_encode_time, _decode_time),
    type(None): Coder(_nothing, _nothing),
}


# Values made of others.


def _literal(allowed: tuple[Any, ...]) -> Coder:
    def check(value: Any) -> Any:
        if value not in allowed:
            raise _refuse(f"one of {', '.join(map(str, allowed))}", value)
        return value

    return Coder(check, check)


def _union(members: tuple[Any, ...]) -> Coder:
    """Code ``X | None`` by null, and a sum of dataclasses by their names under ``kind``."""
    present = [member for member in members if member is not type(None)]
    if len(present) == 1:
        inner = coder(present[0])
        return Coder(
            lambda value: None if value is None else inner.encode(value),
            lambda plain: None if plain is None else inner.decode(plain),
        )
    if not all(is_dataclass(member) for member in present):
        raise CodecError(f"no coding is known for a choice between {', '.join(map(str, members))}")
    return _sum({member.__name__: (member, coder(member)) for member in present}, len(present) < len(members))


def _sum(named: Mapping[str, tuple[type, Coder]], optional: bool) -> Coder:
    for name, (member, _) in named.items():
        if any(part.name == "kind" for part in fields(cast(Any, member))):
            raise CodecError(f"{name} has a field named kind and cannot be told apart by one")

    def encode(value: Any) -> Any:
        if value is None and optional:
            return None
        found = named.get(type(value).__name__)
        if found is None or type(value) is not found[0]:
            raise _refuse(f"one of {', '.join(named)}", value)
        return {"kind": type(value).__name__, **found[1].encode(value)}

    def decode(plain: Any) -> Any:
        if plain is None and optional:
            return None
        if not isinstance(plain, dict) or plain.get("kind") not in named:
            raise _refuse(f"one of {', '.join(named)}", plain)
        return named[plain["kind"]][1].decode({key: part for key, part in plain.items() if key != "kind"})

    return Coder(encode, decode)


def _sequence(kind: type, hint: Any) -> Coder:
    inner = coder(hint)

    def encode(value: Any) -> list[Any]:
        if not isinstance(value, kind):
            raise _refuse(f"a {kind.__name__}", value)
        try:
            return [inner.encode(part) for part in cast(Collection[Any], value)]
        except CodecError:
            return [_at(number, inner.encode, part) for number, part in enumerate(cast(Collection[Any], value))]

    def decode(plain: Any) -> Any:
        if not isinstance(plain, list):
            raise _refuse("a list", plain)
        if hint is float and set(map(type, plain)) <= {float}:
            return kind(plain)
        try:
            return kind([inner.decode(part) for part in plain])
        except CodecError:
            return kind([_at(number, inner.decode, part) for number, part in enumerate(plain)])

    return Coder(encode, decode)


def _record(hints: tuple[Any, ...]) -> Coder:
    inner = [coder(hint) for hint in hints]

    def encode(value: Any) -> list[Any]:
        if not isinstance(value, tuple) or len(value) != len(inner):
            raise _refuse(f"a tuple of {len(inner)}", value)
        return [code.encode(part) for code, part in zip(inner, value, strict=True)]

    def decode(plain: Any) -> Any:
        if not isinstance(plain, list) or len(plain) != len(inner):
            raise _refuse(f"a list of {len(inner)}", plain)
        return tuple(code.decode(part) for code, part in zip(inner, plain, strict=True))

    return Coder(encode, decode)


def _mapping(key: Any, hint: Any) -> Coder:
    if key is not str:
        raise CodecError(f"the keys of a mapping must be texts, not {key!r}")
    inner = coder(hint)

    def encode(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise _refuse("a mapping by text", value)
        return {name: _at(name, inner.encode, part) for name, part in value.items()}

    def decode(plain: Any) -> dict[str, Any]:
        if not isinstance(plain, dict):
            raise _refuse("a mapping", plain)
        return {name: _at(name, inner.decode, part) for name, part in plain.items()}

    return Coder(encode, decode)


def _product(kind: type) -> Coder:
    """Code a dataclass as a mapping of its fields. They are looked up at first use: a type may hold itself."""
    own = [part for part in fields(cast(Any, kind)) if part.init]
    names = frozenset(part.name for part in own)
    needed = frozenset(part.name for part in own if part.default is MISSING and part.default_factory is MISSING)

    @cache
    def parts() -> list[tuple[str, Code, Code]]:
        hints = get_type_hints(kind)
        coders = [(part.name, coder(hints[part.name])) for part in own]
        return [(name, code.encode, code.decode) for name, code in coders]

    def encode(value: Any) -> dict[str, Any]:
        if type(value) is not kind:
            raise _refuse(f"a {kind.__name__}", value)
        try:
            return {name: code(getattr(value, name)) for name, code, _ in parts()}
        except CodecError:
            return {name: _at(name, code, getattr(value, name)) for name, code, _ in parts()}

    def decode(plain: Any) -> Any:
        if not isinstance(plain, dict):
            raise _refuse(f"a {kind.__name__}", plain)
        if plain.keys() != names:
            _check_names(kind.__name__, plain.keys() - names, needed - plain.keys())
        try:
            return kind(**{name: code(plain[name]) for name, _, code in parts() if name in plain})
        except CodecError:
            return kind(**{name: _at(name, code, plain[name]) for name, _, code in parts() if name in plain})

    return Coder(encode, decode)


def _check_names(kind: str, unknown: Collection[str], missing: Collection[str]) -> None:
    if unknown:
        raise CodecError(f"{kind} has no {', '.join(sorted(unknown))}")
    if missing:
        raise CodecError(f"{kind} lacks {', '.join(sorted(missing))}")


def _at(place: object, code: Code, value: Any) -> Any:
    try:
        return code(value)
    except CodecError as error:
        raise CodecError(f"{place}: {error}") from None


# Arrays. Bytes of equal rank are laid side by side, where neighbours on a path are alike and compress.


def _encode_array(value: Any) -> dict[str, Any]:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        raise _refuse("an array of numbers", value)
    stored = _narrowest(value)
    width = stored.dtype.itemsize
    ranked = np.frombuffer(stored.tobytes(), np.uint8).reshape(-1, width).T.tobytes()
    return {
        "type": value.dtype.newbyteorder("<").str,
        "stored": stored.dtype.str,
        "shape": list(value.shape),
        "data": base64.b64encode(zlib.compress(ranked, 1)).decode("ascii"),
    }


def _narrowest(value: NDArray[Any]) -> NDArray[Any]:
    """Halve the width of doubles that are single precision at heart, as a network's are; nothing is lost."""
    if value.dtype.itemsize == 8 and value.dtype.kind == "f":
        with np.errstate(over="ignore", under="ignore"):
            single = value.astype("<f4")
        if np.array_equal(single.astype("<f8"), value, equal_nan=True):
            return single
    return value.astype(value.dtype.newbyteorder("<"), copy=False)


def _decode_array(plain: Any) -> NDArray[Any]:
    if not isinstance(plain, dict) or plain.keys() != {"type", "stored", "shape", "data"}:
        raise _refuse("an array", plain)
    try:
        kind, stored = np.dtype(plain["type"]), np.dtype(plain["stored"])
        ranked = np.frombuffer(zlib.decompress(base64.b64decode(plain["data"], validate=True)), np.uint8)
        flat = np.frombuffer(ranked.reshape(stored.itemsize, -1).T.tobytes(), stored)
        return flat.reshape([int(length) for length in plain["shape"]]).astype(kind, copy=True)
    except (ValueError, TypeError, zlib.error) as error:
        raise CodecError(f"a damaged array: {error}") from error


# Values whose type is left open (``object``): JSON's own, and under a "$" what JSON has not.


def _encode_free(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, datetime):
        return {"$time": _encode_time(value)}
    if isinstance(value, tuple):
        return {"$tuple": [_encode_free(part) for part in value]}
    if isinstance(value, list):
        return [_encode_free(part) for part in value]
    if isinstance(value, np.ndarray):
        return {"$array": _encode_array(value)}
    if isinstance(value, Mapping):
        return _encode_free_mapping(value)
    raise _refuse("a value that JSON can hold", value)


def _encode_free_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    if not all(isinstance(name, str) for name in value):
        raise _refuse("a mapping by text", value)
    plain = {name: _at(name, _encode_free, part) for name, part in value.items()}
    return {"$map": list(map(list, plain.items()))} if len(plain) == 1 and next(iter(plain)).startswith("$") else plain


def _decode_free(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_decode_free(part) for part in plain]
    if not isinstance(plain, dict):
        return plain
    match list(plain.items()):
        case [("$float", word)]:
            return _decode_number(word)
        case [("$time", word)]:
            return _decode_time(word)
        case [("$tuple", parts)]:
            return tuple(_decode_free(part) for part in parts)
        case [("$array", parts)]:
            return _decode_array(parts)
        case [("$map", parts)]:
            return {name: _decode_free(part) for name, part in parts}
        case _:
            return {name: _decode_free(part) for name, part in plain.items()}
