"""The registry: kinds of provider come from entry points, and what is wrong with one is said."""

import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from providers.errors import Invalid
from providers.registry import GROUP, connect_all, installed


def connect(name: str, options: Mapping[str, object]) -> SimpleNamespace:
    """Stand for a kind of provider: what it was given can be read back."""
    return SimpleNamespace(name=name, options=dict(options))


NOT_CALLABLE = "a string"


@pytest.fixture(autouse=True)
def _findable(monkeypatch: pytest.MonkeyPatch) -> None:
    # Test modules are not importable by name under importlib mode: entry points need a real module.

    monkeypatch.setitem(sys.modules, "a_plug_in", SimpleNamespace(connect=connect, text=NOT_CALLABLE))


def point(name: str, value: str = "a_plug_in:connect") -> EntryPoint:
    return EntryPoint(name, value, GROUP)


def test_the_built_in_cloud_is_an_entry_point_like_any_other() -> None:
    assert "simulated" in {found.name for found in installed()}


def test_each_provider_gets_its_name_and_options_but_kind() -> None:
    configured = {"main": {"kind": "cloud", "region": "us-east-1"}, "cloud": {}}
    found = connect_all(configured, [point("cloud"), point("other")])
    assert {name: (made.name, vars(made)["options"]) for name, made in found.items()} == {
        "main": ("main", {"region": "us-east-1"}),
        "cloud": ("cloud", {}),
    }
    assert connect_all({}, []) == {}


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([], "installed: none"),
        ([point("aws"), point("gcp")], "installed: aws, gcp"),
    ],
)
def test_an_unknown_kind_names_what_is_installed(points: list[EntryPoint], says: str) -> None:
    with pytest.raises(Invalid, match=f"'main' is of kind 'azure', which is not installed - {says}$"):
        connect_all({"main": {"kind": "azure"}}, points)


@pytest.mark.parametrize("value", ["no_such_module_at_all:connect", "a_plug_in:missing"])
def test_a_kind_that_cannot_be_imported_is_not_swallowed(value: str) -> None:
    with pytest.raises(Invalid, match=f"'main' cannot be loaded from {value}.*installed: cloud, good") as fault:
        connect_all({"main": {"kind": "cloud"}}, [point("cloud", value), point("good")])
    assert "\n" not in str(fault.value)
    assert isinstance(fault.value.__cause__, ImportError | AttributeError)


def test_a_broken_kind_that_nobody_configured_is_left_alone() -> None:
    found = connect_all({"good": {}}, [point("cloud", "no_such_module_at_all:connect"), point("good")])
    assert list(found) == ["good"]


def test_a_kind_installed_twice_is_refused() -> None:
    with pytest.raises(Invalid, match="installed twice"):
        connect_all({"cloud": {}}, [point("cloud"), point("cloud", "elsewhere:connect")])
    assert connect_all({"cloud": {}}, [point("cloud"), point("cloud")])


def test_a_kind_must_be_a_name_and_callable() -> None:
    with pytest.raises(Invalid, match="write the name of a kind"):
        connect_all({"main": {"kind": 3}}, [point("cloud")])
    with pytest.raises(Invalid, match="cannot be called"):
        connect_all({"cloud": {}}, [point("cloud", "a_plug_in:text")])


def test_what_a_provider_raises_when_it_connects_is_its_own() -> None:
    def refuse(name: str, options: Mapping[str, object]) -> SimpleNamespace:
        raise RuntimeError(f"no credentials for {name}")

    sys.modules["a_plug_in"].connect = refuse  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="no credentials for cloud"):
        connect_all({"cloud": {}}, [point("cloud")])
