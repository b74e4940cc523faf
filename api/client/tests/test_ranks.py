"""Several ranks save at one step, and what is acknowledged is saved by all."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")


def test_two_ranks_save_at_one_step_and_only_what_both_saved_is_acknowledged(tmp_path):
    program = Path(__file__).parent / "programs" / "agree.py"
    ranks = [
        subprocess.Popen([sys.executable, program, tmp_path, str(rank)], stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    ends = [rank.communicate(timeout=90) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], ends
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    # Asked before steps 2 and 7, agreed on at every fourth; the second time rank 1 cannot save.
    assert (first["told"], second["told"]) == ([4, 8], [4])
    assert first["acknowledged"] == [[4, ["4-0", "4-1"]]]
    assert first["steps"] == second["steps"] == 12
    # Three rows on each rank.
    assert first["sizes"] == [6.0]


def test_alone_nothing_is_agreed_on():
    from scaleahead import Reporter, Request
    from scaleahead.ranks import Ranks, together, world_size

    reporter = Reporter("job", usage=dict)
    assert world_size() == 1
    assert together(lambda: "place") == "place"
    assert not Ranks(10).due(reporter, 3)
    reporter.prepare(Request("d"))
    assert Ranks(10).due(reporter, 3)
