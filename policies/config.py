"""Pure decisions: a policy file's text in, checked settings or problems with line and column out.

The text is read as a stream of YAML events, so that tags, anchors, aliases, deep nesting and duplicate keys are refused
before anything is built. Scalars follow YAML 1.2, and what other versions would read as something else (``no``,
``1:30``) is refused instead of guessed.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from policies.base import Policy
from policies.kinds import Kinds, installed
from policies.schema import PolicyModel
from policies.types import Settings

LARGEST_BYTES = 256 * 1024
DEEPEST = 12
MOST_PROBLEMS = 20
TOO_DEEP = "nested too deeply - a policy needs no more than five levels"
FINITE = "write a number, or leave the key out for no limit"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_AMBIGUOUS = re.compile(r"(?i:y|n|yes|no|on|off)")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9]+(:[0-9]{1,2})+(\.[0-9]*)?")
_NOT_FINITE = re.compile(r"(?i:[-+]?\.?(nan|inf|infinity))")
_BRACKET = re.compile(r"[\[\]{}]")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a file, and where; lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


@dataclass(frozen=True, slots=True)
class Located:
    """A value of the file with the place of itself; mappings and lists hold located values."""

    value: Any
    line: int
    column: int
    keys: Mapping[str, "Located"] | None = None


class Wrong(Exception):
    """Text that no policy file may hold, and where."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column


def load(
    text: str | bytes, filename: str, kinds: Kinds | None = None
) -> tuple[tuple[Settings, ...], tuple[Problem, ...]]:
    """Read a policy file. With any problem no settings are given; the caller keeps what it had.

    ``kinds`` are the policies that may be named, by default those installed. Never raises for what the text holds.
    """
    known = installed() if kinds is None else kinds
    try:
        root = parse(text)
        bodies = _bodies(root)
    except Wrong as wrong:
        return (), (Problem(filename, wrong.line, wrong.column, wrong.message),)
    settings: list[Settings] = []
    problems: list[Problem] = []
    for name, body in bodies.items():
        found = _policy(name, body, known)
        if isinstance(found, Settings):
            settings.append(found)
        else:
            problems += (Problem(filename, one.line, one.column, one.message) for one in found)
    if problems:
        problems.sort(key=lambda problem: (problem.line, problem.column))
        return (), tuple(problems[:MOST_PROBLEMS])
    return tuple(settings), ()


def check_policy(name: str, body: Located, filename: str, kinds: Kinds) -> tuple[Problem, ...]:
    """Check the mapping of one policy by itself."""
    found = _policy(name, body, kinds)
    if isinstance(found, Settings):
        return ()
    return tuple(Problem(filename, one.line, one.column, one.message) for one in found)


def policy_of(kind: str, kinds: Kinds) -> Policy:
    """Make the policy of a kind. Raises ``ValueError`` with one line when the kind is unknown or broken."""
    if kind not in kinds:
        raise ValueError(f"no policy of kind {kind!r} is installed - {_hint(kind, kinds)}")
    try:
        made = cast(Callable[[], Policy], kinds[kind]())()
    except (ImportError, AttributeError, TypeError) as broken:
        raise ValueError(f"the policy kind {kind!r} cannot be loaded - mend its package: {broken}") from broken
    if not callable(getattr(made, "choose", None)) or not isinstance(getattr(made, "foresees", None), bool):
        raise ValueError(f"the policy kind {kind!r} is not a policy - its class needs choose() and foresees")
    return made


# The text as a tree of located values.


def parse(text: str | bytes) -> Located:
    """Read YAML into located plain values. Raises ``Wrong`` for everything a policy file must not hold."""
    stream = _clean(text)
    try:
        events = YAML(typ="safe", pure=True).parse(stream)
        return _document(iter(events))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = error.problem or error.context or "it cannot be read"
        raise Wrong(f"not YAML: {message} - {_mend(message)}", *where) from None
    except (YAMLError, ValueError) as error:
        raise Wrong(f"not YAML: {str(error).splitlines()[0]} - save it as plain text", 1, 1) from None


def _clean(given: str | bytes) -> str:
    if len(given) > LARGEST_BYTES or (isinstance(given, str) and len(given.encode(errors="replace")) > LARGEST_BYTES):
        raise Wrong("the file is larger than 256 KiB - split it into several files", 1, 1)
    try:
        text = given.decode("utf-8-sig") if isinstance(given, bytes) else given
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Wrong("the file is not UTF-8 text - save it as UTF-8", line, 1) from None
    depth = 0
    for found in _BRACKET.finditer(text):  # cheaper by far than letting the scanner look ahead through a bomb
        depth += 1 if found.group() in "[{" else -1
        if depth > 8 * DEEPEST:
            line_start = text.rfind("\n", 0, found.start())
            place = text.count("\n", 0, found.start()) + 1, found.start() - line_start
            raise Wrong(TOO_DEEP, *place)
    return text


def _document(events: Iterator[Any]) -> Located:
    root: Located | None = None
    for event in events:
        if isinstance(event, DocumentStartEvent) and root is not None:
            raise _wrong(event, "a second document - keep one document in a file")
        if isinstance(event, NodeEvent):
            root = _node(event, events, 0)
    if root is None or root.value is None:
        raise Wrong('the file is empty - begin it with "scaleahead: 1"', 1, 1)
    return root


def _wrong(event: Any, message: str) -> Wrong:
    return Wrong(message, event.start_mark.line + 1, event.start_mark.column + 1)


def _node(event: Any, events: Iterator[Any], depth: int) -> Located:
    line, column = event.start_mark.line + 1, event.start_mark.column + 1
    if isinstance(event, AliasEvent) or event.anchor is not None:
        raise _wrong(event, "anchors and aliases are not read - write the value out")
    if getattr(event, "tag", None) is not None:
        raise _wrong(event, f"the tag {event.tag} is not read - write a plain value")
    if depth > DEEPEST:
        raise _wrong(event, TOO_DEEP)
    if isinstance(event, ScalarEvent):
        return Located(_scalar(event), line, column)
    if isinstance(event, SequenceStartEvent):
        items: list[Located] = []
        while not isinstance(following := next(events), SequenceEndEvent):
            items.append(_node(following, events, depth + 1))
        return Located(items, line, column)
    return _mapping(event, events, depth)


def _mapping(event: MappingStartEvent, events: Iterator[Any], depth: int) -> Located:
    values: dict[str, Located] = {}
    keys: dict[str, Located] = {}
    while not isinstance(following := next(events), MappingEndEvent):
        if not isinstance(following, ScalarEvent):
            raise _wrong(following, "a key must be a plain word - write key: value")
        key = _node(following, events, depth + 1)
        word = key.value if isinstance(key.value, str) else following.value
        if word == "<<":
            raise _wrong(following, "merge keys are not read - write the values out")
        if word in keys:
            raise _wrong(
                following, f"the key {word!r} stands twice, first in line {keys[word].line} - keep one of them"
            )
        keys[word] = key
        value = _node(next(events), events, depth + 1)
        if value.value is None:  # an empty value stands, for YAML, where the next word begins
            value = Located(None, key.line, key.column)
        values[word] = value
    return Located(values, event.start_mark.line + 1, event.start_mark.column + 1, keys)


def _scalar(event: ScalarEvent) -> object:
    text: str = event.value
    if not event.implicit[0]:  # quoted or a block: a text, whatever it looks like
        return text
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise _wrong(event, f"{text} is not a finite number - {FINITE}")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise _wrong(event, f"{text} is not a finite number - {FINITE}")
    if _AMBIGUOUS.fullmatch(text):
        raise _wrong(
            event, f"{text} is read as yes or no by some and as a text by others - write true, false or quote it"
        )
    if _SEXAGESIMAL.fullmatch(text):
        raise _wrong(event, f"{text} is not a number - write it in the one unit the key names, or quote it")
    return text


# The tree as policies.


def _bodies(root: Located) -> Mapping[str, Located]:
    top = root.value
    if not isinstance(top, dict):
        raise Wrong('the file must be a mapping that begins with "scaleahead: 1"', root.line, root.column)
    for key, place in (root.keys or {}).items():
        if key not in ("scaleahead", "policies"):
            raise Wrong(f"unknown key {key!r} - {_hint(key, ('scaleahead', 'policies'))}", place.line, place.column)
    version = top.get("scaleahead")
    if version is None:
        raise Wrong('the key "scaleahead" is missing - begin the file with "scaleahead: 1"', root.line, root.column)
    if version.value != 1 or isinstance(version.value, bool):
        raise Wrong("this version of the file is not known - write scaleahead: 1", version.line, version.column)
    policies = top.get("policies")
    if policies is None or not isinstance(policies.value, dict) or not policies.value:
        place = policies or root
        raise Wrong("there are no policies - name at least one under policies:", place.line, place.column)
    found: dict[str, Located] = policies.value
    return found


def _policy(name: str, body: Located, kinds: Kinds) -> Settings | list[Wrong]:
    if not _NAME.fullmatch(name):
        message = f"{name!r} is not a name for a policy - use letters, digits, dot, dash, at most 63"
        return [Wrong(message, body.line, body.column)]
    if not isinstance(body.value, dict):
        return [Wrong(f"the policy {name!r} must be a mapping of keys", body.line, body.column)]
    mine = {key: value for key, value in body.value.items() if key in PolicyModel.model_fields}
    others = {key: value for key, value in body.value.items() if key not in mine}
    try:
        model = PolicyModel.model_validate({key: plain(value) for key, value in mine.items()})
    except ValidationError as error:
        return [*_translate(error, body, PolicyModel), *_unknown(others, body, PolicyModel.model_fields)]
    try:
        chosen = policy_of(model.kind, kinds)
    except ValueError as error:
        place = body.value.get("kind", body)
        return [Wrong(str(error), place.line, place.column)]
    options = getattr(chosen, "options", None)
    if not (isinstance(options, type) and issubclass(options, BaseModel)):
        wrong = _unknown(others, body, PolicyModel.model_fields)
        return wrong or model.settings(name, _version(body))
    strange = {key: value for key, value in others.items() if key not in options.model_fields}
    if strange:
        return _unknown(strange, body, {**PolicyModel.model_fields, **options.model_fields})
    try:
        extra = options.model_validate({key: plain(value) for key, value in others.items()})
    except ValidationError as error:
        return list(_translate(error, body, options))
    return model.settings(name, _version(body), extra.model_dump())


def _unknown(others: Mapping[str, Located], body: Located, known: Mapping[str, object]) -> list[Wrong]:
    keys = body.keys or {}
    return [Wrong(f"unknown key {key!r} - {_hint(key, known)}", keys[key].line, keys[key].column) for key in others]


def plain(node: Located) -> Any:
    """Take the places off a located value."""
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [plain(value) for value in node.value]
    return node.value


def _version(body: Located) -> str:
    """Hash a policy's content: the same for other comments, order and spacing."""
    canonical = json.dumps(plain(body), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _mend(message: str) -> str:
    if "\\t" in message:
        return "indent with spaces, not with tabs"
    return "close every bracket and quote, and indent alike" if "expected" in message else "mend the text here"


def _hint(word: str, known: Sequence[str] | Mapping[str, object]) -> str:
    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"


def _translate(error: ValidationError, body: Located, model: type[BaseModel]) -> Iterator[Wrong]:
    for one in error.errors(include_url=False, include_context=True):
        path = [str(part) if isinstance(part, str) else part for part in one["loc"]]
        if one["type"] == "extra_forbidden":
            key = str(path[-1])
            place = _find(body, path[:-1])
            at = (place.keys or {}).get(key, place)
            yield Wrong(
                f"unknown key {'.'.join(map(str, path))!r} - {_hint(key, _fields(model, path[:-1]))}",
                at.line,
                at.column,
            )
            continue
        place = _find(body, path)
        yield Wrong(
            ": ".join([*([".".join(map(str, path))] if path else []), _say(one, place)]), place.line, place.column
        )


def _find(node: Located, path: Sequence[str | int]) -> Located:
    for part in path:
        if isinstance(node.value, dict) and str(part) in node.value:
            node = node.value[str(part)]
        elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            break
    return node


def _fields(model: type[BaseModel], path: Sequence[str | int]) -> Sequence[str]:
    """List the keys that a nested model knows, for the hint."""
    here: type[BaseModel] = model
    for part in path:
        field = here.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return list(here.model_fields)
        here = inner
    return list(here.model_fields)


def _say(error: Any, place: Located) -> str:
    """Say pydantic's error in the words of a policy file."""
    given = "an empty value" if place.value is None else f"{plain(place)!r}"
    match error["type"]:
        case "float_type" | "int_type" | "int_from_float" | "float_parsing" | "int_parsing":
            number = "a whole number" if error["type"].startswith("int") else "a number"
            digits = re.match(r"[-+]?[0-9.]+", place.value) if isinstance(place.value, str) else None
            mend = f"write {digits.group()} without a unit or quotes" if digits else f"write {number}"
            return f"{given} is not {number} - {mend}"
        case "finite_number":
            return f"{given} is not a finite number - {FINITE}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            bound = str(error["msg"]).removeprefix("Input should be ")
            return f"{given} must be {bound} - mend the figure, or leave the key out for the default"
        case "literal_error":
            return f"{given} must be {error['ctx']['expected']} - write one of them"
        case "string_type":
            return f"{given} is not a text - {'write one, or leave the key out' if place.value is None else 'quote it'}"
        case "list_type":
            return f"{given} is not a list - write it like [a, b]"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{given} is not a mapping of keys - write key: value in it"
        case "too_short" | "string_too_short":
            return f"{given} holds nothing - fill it, or leave the key out for the default"
        case "too_long" | "string_too_long":
            return f"it is too long - keep to {error['ctx']['max_length']}"
        case "missing":
            return "is missing"
        case _:
            return str(error["msg"]).removeprefix("Value error, ")
