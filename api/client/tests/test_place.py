"""Where the newest whole checkpoint lies."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import pytest

from scaleahead.place import NOTE, Place, find, note


def test_the_newest_is_found_even_where_the_disk_has_moved(tmp_path):
    (tmp_path / "old").mkdir()
    for step in (5, 9):
        (tmp_path / "old" / f"step-{step}").write_text("weights")
        note(tmp_path / "old", step, tmp_path / "old" / f"step-{step}")
    (tmp_path / "old").rename(tmp_path / "new")
    assert find(tmp_path / "new") == Place(9, str(tmp_path / "new" / "step-9"))


@pytest.mark.parametrize("said", [None, "", "{", "[]", '{"step": 1}', '{"step": "x", "path": "a"}'])
def test_nothing_is_found_where_nothing_whole_is_noted(tmp_path, said):
    if said is not None:
        (tmp_path / NOTE).write_text(said)
    assert find(tmp_path) is None


def test_what_was_removed_is_not_found(tmp_path):
    (tmp_path / "step-5").write_text("weights")
    note(tmp_path, 5, tmp_path / "step-5")
    (tmp_path / "step-5").unlink()
    assert find(tmp_path) is None
