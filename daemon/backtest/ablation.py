"""Edge: the shipped forecaster with parts taken out, to measure what each is worth."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from daemon.backtest.shockwave import Regimes
from daemon.forecast.calibrate import Calibration
from daemon.forecast.curve import Curves
from daemon.forecast.ensemble import Parts, shipped
from daemon.forecast.schedule import Schedules
from daemon.forecast.usage import Usages

PARTS = ("recurrent", "calibration", "online", "shockwave-schedules")
"""What can be left out; ``online`` is a matter of how a backtest goes on, and leaves the parts as they are.

``shockwave-schedules`` takes the schedules' part out and puts Shockwave's predictor in its place.
"""


def parts(folder: Path | None, without: Sequence[str]) -> Parts:
    """Load the trained parts but for those named (of ``PARTS``); closed forms stand in for the recurrent ones."""
    found = shipped(folder)
    if "recurrent" in without:
        found = replace(
            found, schedules=Schedules(None), curves=Curves(None), usages=Usages(None), reason="closed_form: asked for"
        )
    if "calibration" in without:
        found = replace(found, calibration=Calibration())
    if "shockwave-schedules" in without:
        found = replace(found, schedules=Regimes())
    return found
