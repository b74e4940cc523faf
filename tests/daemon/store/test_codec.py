"""Pure decisions: every value that is kept comes back as it was."""

import json
import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from daemon.store.codec import CodecError, dumps, loads
from daemon.types import Action, CallRecord, Decision, Drift, Forecast, Job, JobStatus, Outcome, Report
from policies.types import Settings, Situation
from providers.types import Allocation, Call, Launch, Notice, Operation, Resources, Route, Stop, Target
from tests.daemon.store.values import NOW, decision

TIMES = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=30))]))
FREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | TIMES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.sampled_from(["$float", "$map", "$tuple"]), inner, max_size=3)
    ),
    max_leaves=6,
)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(codec=None), max_size=8),
    int: st.integers(),
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    datetime: TIMES,
    object: FREE,
    type(None): st.none(),
}


def anything(hint: Any) -> st.SearchStrategy[Any]:
    """Make values of a type hint; every field is drawn, those with a default too."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([anything(arg) for arg in args])
    if origin is np.ndarray:
        return arrays.arrays(get_args(args[1])[0], arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4))
    if origin is tuple and args[1:] == (...,):
        return st.lists(anything(args[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(anything, args))
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(hint, **{part.name: anything(hints[part.name]) for part in fields(hint) if part.init})
    return st.dictionaries(st.text(max_size=4), anything(args[1]), max_size=2)


KEPT = [
    Action,
    Allocation,
    CallRecord,
    Decision,
    Drift,
    Job,
    JobStatus,
    Outcome,
    Report,
    Settings,
    Situation,
    Call,
    Route,
]


@pytest.mark.parametrize("hint", KEPT, ids=lambda hint: getattr(hint, "__name__", "sum"))
def test_a_value_comes_back_as_it_was(hint: Any) -> None:
    @given(anything(hint))
    def holds(value: Any) -> None:
        written = dumps(hint, value)
        assert written.isascii()
        assert "\n" not in written
        read = loads(hint, written)
        assert read == value
        assert type(read) is type(value)
        assert dumps(hint, read) == written

    holds()


@given(anything(Forecast))
def test_a_forecast_comes_back_bit_for_bit(value: Forecast) -> None:
    read = loads(Forecast, dumps(Forecast, value))
    for part in fields(Forecast):
        before, after = getattr(value, part.name), getattr(read, part.name)
        if isinstance(before, dict):
            assert before.keys() == after.keys()
            pairs = [(before[name], after[name]) for name in before]
        else:
            pairs = [(before, after)]
        for one, other in pairs:
            if isinstance(one, np.ndarray):
                assert (one.dtype, one.shape) == (other.dtype, other.shape)
                np.testing.assert_array_equal(one, other)
            else:
                assert one == other


def test_single_precision_takes_half_the_room() -> None:
    single = np.random.default_rng(1).normal(size=(64, 32)).astype(np.float32)
    double = np.random.default_rng(1).normal(size=(64, 32))

    def room(array: Any) -> int:
        return len(dumps(object, array))

    assert room(single.astype(np.float64)) < 0.6 * room(double)


def test_arrays_may_be_written_to() -> None:
    read = loads(object, dumps(object, np.arange(3.0)))
    assert isinstance(read, np.ndarray)
    read[0] = 7.0  # torch warns of arrays that may not


def test_numbers_of_numpy_are_taken_for_what_they_stand_for() -> None:
    assert loads(dict[str, float], dumps(dict[str, float], {"a": np.float32(0.5)})) == {"a": 0.5}
    assert loads(object, dumps(object, {"a": np.int64(3), "b": np.bool_(True)})) == {"a": 3, "b": True}  # type: ignore[arg-type]


def test_what_is_not_finite_survives() -> None:
    read = loads(list[float], dumps(list[float], [float("nan"), float("inf"), float("-inf"), -0.0]))
    assert np.isnan(read[0])
    assert read[1:3] == [float("inf"), float("-inf")]
    assert str(read[3]) == "-0.0"


def test_a_choice_is_told_apart_by_kind() -> None:
    target = Target("aws", "vm", "i-1", "us-east-1a")
    assert json.loads(dumps(Call, Stop(target)))["kind"] == "Stop"


@dataclass(frozen=True)
class Older:
    name: str


@dataclass(frozen=True)
class Newer:
    name: str
    note: str = "none"


@dataclass(frozen=True)
class Kinded:
    kind: str


def test_a_field_that_was_not_there_takes_its_default_and_one_that_is_unknown_is_refused() -> None:
    assert loads(Newer, dumps(Older, Older("a"))) == Newer("a")
    with pytest.raises(CodecError, match="Older has no note"):
        loads(Older, dumps(Newer, Newer("a")))
    with pytest.raises(CodecError, match="Newer lacks name"):
        loads(Newer, "{}")


@pytest.mark.parametrize(
    ("hint", "value", "match"),
    [
        (Resources, Resources("4", 1.0), "cpu_cores: expected a number"),
        (Resources, Resources(True, 1.0), "cpu_cores: expected a number"),
        (Resources, Resources(1.0, 1.0, gpus=1.5), "gpus: expected a whole number"),
        (Operation, Operation("1", "aws", "gone"), "state: expected one of running, done, failed"),
        (Notice, Notice("maintenance", NOW.replace(tzinfo=None)), "at: expected a time with its zone"),
        (Call, Target("aws", "vm", "i-1", "x"), "expected one of Stop"),
        (Decision, decision(status=3), "status: expected one of"),
        (object, {1: 2}, "expected a mapping by text"),
        (object, {"a": {1, 2}}, "a: expected a value that JSON can hold"),
        (Stop | Kinded, Kinded("x"), "field named kind"),
        (int | str, 3, "no coding is known"),
        (tuple[int, int], (1, 2, 3), "a tuple of 2"),
    ],
)
def test_what_a_type_does_not_allow_is_not_written(hint: Any, value: Any, match: str) -> None:
    with pytest.raises(CodecError, match=match):
        dumps(hint, value)


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (float, "NaN"), (float, '"1"'), (int, "1.0"), (bool, "1"), (str, "1"), (datetime, '"today"'),
        (datetime, '"2026-11-23T10:00:00"'), (Launch, "[]"), (tuple[int, ...], "{}"), (dict[str, int], "[]"),
        (Call, '{"kind": "Explode"}'), (object, '{"$array": {"type": "<f8"}}'), (int, "{"), (type(None), "0"),
    ],
)  # fmt: skip
def test_what_a_type_does_not_allow_is_not_read(hint: Any, text: str) -> None:
    with pytest.raises(CodecError):
        loads(hint, text)
