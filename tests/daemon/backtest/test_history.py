"""History files: what is read, what is unknown, and what is refused with one clear line."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from daemon.backtest.history import HistoryError, read
from tests.daemon.backtest.runs import write

PLAIN = """job,group,step,elapsed_s,total_steps,metric.loss,hp.batch_size,note
a,g1,0,0,100,2.0,32,hello
b,g2,0,0,100,3.0,,x
a,g1,10,5,100,,32,
a,g1,20,12,100,nan,64,
b,g2,10,7,100,inf,,
"""


def test_csv_gives_runs_in_the_order_of_the_file(tmp_path: Path):
    first, second = read([write(tmp_path / "h.csv", PLAIN)])
    assert (first.job, first.group, second.job, second.group) == ("a", "g1", "b", "g2")
    assert first.step.tolist() == [0, 10, 20]
    assert first.columns["hp.batch_size"].tolist() == [32, 32, 64]
    assert np.isnan(first.columns["metric.loss"]).tolist() == [False, True, True]
    np.testing.assert_allclose(first.columns["step_seconds"], [np.nan, 0.5, 0.7])
    assert (first.diverged_row, second.diverged_row) == (-1, 1)
    assert "note" not in first.columns


def test_parquet_and_csv_read_alike(tmp_path: Path):
    table = pa.table({"job": ["a", "a", "a"], "step": [0, 1, 2], "metric.loss": [1.0, None, 0.5], "extra": ["x"] * 3})
    parquet.write_table(table, tmp_path / "h.parquet")
    one = read([tmp_path / "h.parquet"])[0]
    other = read([write(tmp_path / "h.csv", "job,step,metric.loss\na,0,1\na,1,\na,2,0.5\n")])[0]
    assert one.step.tolist() == other.step.tolist()
    np.testing.assert_array_equal(one.columns["metric.loss"], other.columns["metric.loss"])
    assert one.group == "h"


def test_steps_ascend_and_the_last_row_of_a_repeated_one_wins(tmp_path: Path):
    text = "job,step,metric.loss\na,20,2\na,0,9\na,10,5\na,10,4\na,,7\n"
    one = read([write(tmp_path / "h.csv", text)])[0]
    assert one.step.tolist() == [0, 10, 20]
    assert one.columns["metric.loss"].tolist() == [9, 4, 2]


def test_without_steps_the_seconds_stand_for_them_and_then_the_rows(tmp_path: Path):
    timed = read([write(tmp_path / "t.csv", "job,elapsed_s,usage.cpu_cores\na,0,1\na,5,2\na,10,3\n")])[0]
    bare = read([write(tmp_path / "b.csv", "job,metric.loss\na,1\na,2\n")])[0]
    assert timed.step.tolist() == [0, 5, 10]
    assert bare.step.tolist() == [0, 1]


def test_a_clock_set_back_leaves_the_step_time_unknown(tmp_path: Path):
    one = read([write(tmp_path / "h.csv", "job,step,elapsed_s\na,0,0\na,10,30\na,20,4\na,30,9\n")])[0]
    np.testing.assert_allclose(one.columns["step_seconds"], [np.nan, 3.0, np.nan, 0.5])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "run,step\nx,1\n", "has no column job"),
        ("b.csv", "job,step,metric.loss\nx,1,2\nx,2,two\n", "b.csv:3: column metric.loss holds 'two'"),
        ("c.csv", "job,step\nx,1\n,2\n", "c.csv:3: column job is empty"),
        ("d.csv", "job,step\nx,1,5\n", "d.csv:2 has 3 cells where the head has 2"),
        ("e.csv", "job,step,step\nx,1,5\n", "column step twice"),
        ("f.parquet", "not parquet", "is not Parquet"),
        ("g.csv", "", "has no column job"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(tmp_path: Path, name: str, text: str, words: str):
    with pytest.raises(HistoryError, match=r".") as caught:
        read([write(tmp_path / name, text)])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_binary_rubbish_and_missing_files_are_refused(tmp_path: Path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(HistoryError, match="neither Parquet nor CSV"):
        read([tmp_path / "x.csv"])
    with pytest.raises(HistoryError, match="is not a file"):
        read([tmp_path / "none.csv"])


def test_a_parquet_column_of_texts_is_refused(tmp_path: Path):
    parquet.write_table(pa.table({"job": ["a"], "metric.loss": ["low"]}), tmp_path / "h.parquet")
    with pytest.raises(HistoryError, match=r"column metric\.loss is of type"):
        read([tmp_path / "h.parquet"])
