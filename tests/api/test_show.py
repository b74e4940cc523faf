"""What the commands draw, where there is little to draw."""

from rich.text import Text

from api import show


def test_a_forecast_of_nothing_says_so_in_one_line() -> None:
    empty = {"steps": [100, 200], "quantiles": {}, "missing": "", "plan": [], "reason": "", "method": "recurrent"}
    drawn = show.forecast(empty, {"columns": {}}, None)
    assert isinstance(drawn, Text)
    assert "must be heard of first" in drawn.plain
    told = show.forecast({**empty, "missing": "the hook is silent"}, {"columns": {}}, None)
    assert isinstance(told, Text)
    assert told.plain == "nothing is foretold yet - a metric or usage must be heard of first; the hook is silent"
