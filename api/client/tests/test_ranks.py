"""Several ranks save at one step, and what is acknowledged is saved by all."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")


def ranks(folder, savers):
    """Run both ranks; give what each wrote."""
    program = Path(__file__).parent / "programs" / "agree.py"
    begun = [
        subprocess.Popen([sys.executable, program, folder, str(rank), str(savers)], stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    ends = [rank.communicate(timeout=90) for rank in begun]
    assert [rank.returncode for rank in begun] == [0, 0], ends
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


def test_two_ranks_save_at_one_step_and_only_what_both_saved_is_acknowledged(tmp_path):
    first, second = ranks(tmp_path, 2)
    # Asked before steps 2 and 7, agreed on at every fourth; the second time rank 1 cannot save.
    assert (first["told"], second["told"]) == ([4, 8], [4])
    assert first["acknowledged"] == [[4, ["4-0", "4-1"]]]
    assert first["steps"] == second["steps"] == 12
    # Three rows on each rank.
    assert first["sizes"] == [6.0]


def test_where_only_rank_0_can_save_it_waits_for_nobody(tmp_path):
    first, second = ranks(tmp_path, 1)
    assert (first["told"], second["told"]) == ([4, 8], [])
    assert first["acknowledged"] == [[4, ["4-0"]], [8, ["8-0"]]]
    assert first["steps"] == second["steps"] == 12


def test_alone_nothing_is_agreed_on():
    from scaleahead import Reporter, Request
    from scaleahead.ranks import Ranks, world_size

    reporter = Reporter("job", usage=dict)
    assert world_size() == 1
    assert Ranks().save(lambda: "place") == "place"
    assert not Ranks(10).due(reporter, 3)
    reporter.prepare(Request("d"))
    assert Ranks(10).due(reporter, 3)
