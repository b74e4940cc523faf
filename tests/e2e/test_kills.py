"""A few of the runs of ``python -m tests.e2e.kills``, whose figures for a hundred are in ``docs/safety.md``."""

import random
from pathlib import Path

import pytest

from tests.e2e.kills import run


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_a_daemon_killed_at_random_loses_nothing_that_was_acknowledged(tmp_path: Path, number: int) -> None:
    found = run(tmp_path, random.Random(f"suite/{number}"))
    assert found.sound, found
    assert found.kills >= 2
