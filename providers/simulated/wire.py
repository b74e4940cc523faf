"""Values: how the vocabulary of the cloud is written as JSON and read back, strictly, and what can be asked by HTTP.

A dataclass is written as an object with its class name under ``is``; a time in ISO 8601 with its offset. Reading
refuses unknown and missing fields, wrong types, numbers that are not finite and times without an offset.
"""

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from providers import errors
from providers.errors import Invalid, ProviderError
from providers.simulated.state import Barrier, Fault, Group, Lag, Line, Machine, Quota, Record, Shortage, State
from providers.types import Allocation, Call, Notice, Offer, Operation, Route, Target

Json = dict[str, Any] | list[Any] | str | int | float | bool | None


def encode(value: object) -> Json:
    """Write a value as JSON. Raises ``TypeError`` for one of a kind that the vocabulary does not have."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} cannot be written: only finite numbers can")
            return value
        case datetime():
            return value.isoformat()
        case Mapping():
            return {str(key): encode(item) for key, item in value.items()}
        case list() | tuple():
            return [encode(item) for item in value]
        case _ if is_dataclass(value):
            plain: dict[str, Json] = {
                field.name: encode(getattr(value, field.name)) for field in fields(value) if field.init
            }
            return {"is": type(value).__name__, **plain}
        case _:
            raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def decode(kind: Any, data: Any, where: str = "") -> Any:
    """Read JSON as a type: a dataclass, a union of them, a tuple, list, mapping, literal or plain value.

    ``where`` is the path named in errors. Raises ``Invalid`` with that path. ``kind`` is a type form, which Python
    3.11 cannot type more narrowly.
    """
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(get_args(kind), data, where)
    if origin is Literal:
        if data in get_args(kind):
            return data
        raise Invalid(f"{where or 'value'} must be one of {', '.join(map(repr, get_args(kind)))}, not {data!r}")
    if origin in (tuple, list, Sequence):
        return _decode_items(origin, get_args(kind)[0], data, where)
    if origin is Mapping:
        _expect(isinstance(data, dict), "an object", data, where)
        item = get_args(kind)[1]
        return {key: decode(item, value, f"{where}.{key}") for key, value in data.items()}
    if is_dataclass(kind):
        return _decode_dataclass(kind, data, where)
    return _decode_plain(kind, data, where)


def _decode_items(origin: Any, item: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, list), "a list", data, where)
    items = [decode(item, value, f"{where}[{number}]") for number, value in enumerate(data)]
    return tuple(items) if origin is tuple else items


def _decode_union(kinds: Sequence[Any], data: Any, where: str) -> Any:
    if data is None and type(None) in kinds:
        return None
    classes = [kind for kind in kinds if is_dataclass(kind)]
    plain = [kind for kind in kinds if kind is not type(None) and not is_dataclass(kind)]
    if isinstance(data, dict) and classes:
        named = [kind for kind in classes if getattr(kind, "__name__", "") == data.get("is")]
        if not named and ("is" in data or len(classes) > 1):
            raise Invalid(f"{where or 'value'} has no known kind in 'is', but {data.get('is')!r}")
        return decode((named or classes)[0], data, where)
    _expect(len(plain) == 1, "an object" if classes else "another kind of value", data, where)
    return decode(plain[0], data, where)


def _decode_dataclass(kind: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, dict), "an object", data, where)
    if data.get("is", kind.__name__) != kind.__name__:
        raise Invalid(f"{where or 'value'} must be a {kind.__name__}, not a {data['is']}")
    hints = _hints(kind)
    known = {field.name: field for field in fields(kind) if field.init}
    strange = sorted(set(data) - set(known) - {"is"})
    if strange:
        raise Invalid(f"{where or kind.__name__} has no {', '.join(strange)} - it has {', '.join(known)}")
    lacking = [
        name
        for name, field in known.items()
        if name not in data and field.default is MISSING and field.default_factory is MISSING
    ]
    if lacking:
        raise Invalid(f"{where or kind.__name__} lacks {', '.join(lacking)}")
    given = [name for name in known if name in data]
    return kind(**{name: decode(hints[name], data[name], f"{where}.{name}".lstrip(".")) for name in given})


def _decode_plain(kind: Any, data: Any, where: str) -> Any:
    if kind is datetime:
        _expect(isinstance(data, str), "a time", data, where)
        try:
            time = datetime.fromisoformat(data)
        except ValueError:
            time = None
        _expect(time is not None and time.tzinfo is not None, "a time with its offset from UTC", data, where)
        return time
    if kind is float:
        number = isinstance(data, int | float) and not isinstance(data, bool) and math.isfinite(data)
        _expect(number, "a finite number", data, where)
        return float(data)
    if kind is int:
        _expect(isinstance(data, int) and not isinstance(data, bool), "a whole number", data, where)
        return data
    if kind in (str, bool, type(None)):
        _expect(data is None if kind is type(None) else isinstance(data, kind), f"a {kind.__name__}", data, where)
        return data
    raise TypeError(f"{where or 'value'}: nothing of kind {kind} can be read")


def _expect(good: bool, what: str, data: object, where: str) -> None:
    if not good:
        raise Invalid(f"{where or 'value'} must be {what}, not {str(data)[:60]!r}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def error_named(name: str) -> type[ProviderError]:
    """Find a class of ``providers.errors`` by its name. Raises ``Invalid`` for another."""
    found = getattr(errors, name, None)
    if isinstance(found, type) and issubclass(found, ProviderError):
        return found
    raise Invalid(f"{name!r} is not an error of a cloud - see providers/errors.py for their names")


@dataclass(frozen=True, slots=True)
class Method:
    """One method that can be called by HTTP: its arguments by name, its result, and whether it changes the cloud."""

    takes: Mapping[str, Any]
    gives: Any
    changes: bool = False


def methods() -> dict[str, Method]:
    """List what can be called by HTTP: the provider's own methods first, then those of the operator of the cloud."""
    return {
        "describe": Method({"target": Target}, Allocation),
        "offers": Method({"target": Target}, list[Offer]),
        "route": Method({"current": Allocation, "offer": Offer}, Route),
        "perform": Method({"call": Call, "token": str}, Operation, changes=True),
        "poll": Method({"operation": Operation}, Operation),
        "labelled": Method({"key": str, "value": str | None}, list[Allocation]),
        "bill": Method({"target": str}, list[Line]),
        "state": Method({}, State),
        "machine": Method({"machine": str}, Machine),
        "group": Method({"group": str}, Group),
        "records": Method({}, list[Record]),
        "add_machine": Method(
            {"machine": str, "offer": str, "labels": Mapping[str, str], "template": str}, Target, changes=True
        ),
        "notice": Method({"machine": str, "notice": Notice}, type(None), changes=True),
        "fault": Method({"fault": Fault}, type(None), changes=True),
        "shortage": Method({"shortage": Shortage}, type(None), changes=True),
        "relieve": Method({"offers": str}, type(None), changes=True),
        "quota": Method({"quota": Quota}, type(None), changes=True),
        "barrier": Method({"barrier": Barrier}, type(None), changes=True),
        "lag": Method({"lag": Lag}, type(None), changes=True),
        "reclaim": Method({"machine": str}, type(None), changes=True),
        "meddle": Method({"call": Call}, Operation, changes=True),
    }
