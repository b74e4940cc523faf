"""What all pictures share: they are written, empty panels are left out, and what is missing is one line."""

import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from api import plot
from api.client_http import Failure


@pytest.mark.parametrize(("name", "begins"), [("p.png", b"\x89PNG"), ("p.svg", b"<?xml"), ("p.pdf", b"%PDF")])
def test_a_picture_is_written_and_the_library_left_as_it_was(tmp_path: Path, name: str, begins: bytes):
    before = dict(mpl.rcParams)
    with plot.panels(tmp_path / name, 1, 2, "a title") as axes:
        axes[0].plot([1, 2], [3, 4])
        figure = axes[0].figure
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert len(figure.axes) == 1
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(("name", "words"), [("p.jpeg", "end it in .png"), ("none/p.png", "folder that is not there")])
def test_a_name_that_cannot_be_is_said_before_any_work(tmp_path: Path, name: str, words: str):
    with pytest.raises(Failure, match=words):
        plot.check(tmp_path / name)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "p.png").mkdir()
    with pytest.raises(Failure, match="cannot be written"), plot.panels(tmp_path / "p.png", 1, 1, "t") as axes:
        axes[0].plot([1, 2], [3, 4])


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Failure, match=r"scaleahead-daemon\[plot\]") as told:
        plot.check(tmp_path / "p.png")
    assert told.value.status == 2
