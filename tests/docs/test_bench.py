"""``make bench`` prints whatever its benchmarks give."""

import json
import sys
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as bench


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_figures_and_words_are_printed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(bench, "one", lambda name: {"seconds": 1234.5, "method": "recurrent"})
    monkeypatch.setattr(bench, "calibration", lambda: 0.1)
    monkeypatch.setattr(sys, "argv", ["bench", "first", *arguments])
    assert bench.main() == 0
    printed = capsys.readouterr().out
    if arguments:
        assert json.loads(printed)["benchmarks"] == {"first": {"seconds": 1234.5, "method": "recurrent"}}
    else:
        assert "1,234.500" in printed
        assert "recurrent" in printed


def test_every_benchmark_has_a_measure():
    folder = Path(bench.__file__).parent
    assert {"decisions", "forecast", "poller", "store", "sweep"} <= set(bench.names())
    assert [name for name in bench.names() if "\ndef measure(" not in (folder / f"{name}.py").read_text()] == []
