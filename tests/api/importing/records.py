"""Edge: small recorded runs as other tools leave them, written here."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

STARTED = 1_764_000_000.0


def csv_file(file: Path, rows: int = 20) -> Path:
    """A log with a user's own columns: a batch that doubles half way."""
    lines = ["run_name;user;Global Step;timestamp;train loss;bs;gpu mem (MB);epoch;note"]
    for row in range(rows):
        batch = 32 if row < rows // 2 else 64
        lines.append(f"lm;ann;{row * 10};{STARTED + row * batch / 8};{2 / (row + 1):.4f};{batch};{batch * 100};0;x")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def mlruns(folder: Path, rows: int = 12) -> Path:
    """MLflow's file store with one run, and one that was deleted."""
    for run, stage in (("a" * 32, "active"), ("b" * 32, "deleted")):
        place = folder / "7" / run
        for name in ("metrics", "params", "tags"):
            (place / name).mkdir(parents=True)
        (place / "meta.yaml").write_text(
            f"run_id: {run}\nrun_name: calm-owl\nuser_id: ann\nlifecycle_stage: {stage}\n"
            f"start_time: {int(STARTED * 1000)}\n"
        )
        points = [(int(1000 * (STARTED + 5 * row)), row) for row in range(rows)]
        (place / "metrics" / "loss").write_text("".join(f"{at} {1 / (row + 1)} {row * 10}\n" for at, row in points))
        (place / "metrics" / "system").mkdir()
        (place / "metrics" / "system" / "system_memory_usage_megabytes").write_text(
            "".join(f"{at} 4294.967296 {row * 10}\n" for at, row in points)
        )
        (place / "params" / "batch_size").write_text("32")
        (place / "params" / "optimizer").write_text("adam")
    (folder / "7" / "meta.yaml").write_text("experiment_id: '7'\nname: owls\nlifecycle_stage: active\n")
    return folder


def mlflow_database(file: Path) -> Path:
    """The tables of MLflow's SQLite store that hold runs, with the columns that MLflow gives them."""
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.executescript(
            """CREATE TABLE experiments (experiment_id INTEGER, name TEXT);
            CREATE TABLE runs (run_uuid TEXT, name TEXT, user_id TEXT, status TEXT, start_time BIGINT,
                lifecycle_stage TEXT, experiment_id INTEGER);
            CREATE TABLE metrics (key TEXT, value FLOAT, timestamp BIGINT, run_uuid TEXT, step BIGINT, is_nan BOOLEAN);
            CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
            INSERT INTO experiments VALUES (7, 'owls');"""
        )
        run = ("a" * 32, "calm-owl", "ann", "FINISHED", int(STARTED * 1000), "active", 7)
        opened.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)", run)
        opened.execute("INSERT INTO params VALUES ('batch_size', '32', ?)", ("a" * 32,))
        for row in range(6):
            lost = int(row == 3)
            figures = (
                "loss",
                0.0 if lost else 1 / (row + 1),
                int(1000 * (STARTED + 5 * row)),
                "a" * 32,
                row * 10,
                lost,
            )
            opened.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", figures)
    return file


def prometheus_file(file: Path, label: str = "training_job") -> Path:
    """The answer of a range query for two metrics of one job, one of them its step."""
    times = [STARTED + 15 * row for row in range(8)]
    series = [
        {"metric": {"__name__": name, label: "lm"}, "values": [[at, str(value(row))] for row, at in enumerate(times)]}
        for name, value in (
            ("train_step", lambda row: row * 20),
            ("process_resident_memory_bytes", lambda row: 2**30 * (1 + row)),
            ("train_loss", lambda row: "NaN" if row == 7 else 1 / (row + 1)),
        )
    ]
    file.write_text(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}}))
    return file


def event_files(folder: Path) -> Path:
    """TensorBoard's files of one run, with its hyperparameters."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "lm")) as writer:
        for row in range(10):
            writer.add_scalar("train/loss", 1 / (row + 1), row * 10, walltime=STARTED + 4 * row)
            writer.add_scalar("hp/batch_size", 32 if row < 5 else 64, row * 10, walltime=STARTED + 4 * row)
        writer.add_hparams({"learning_rate": 0.25, "optimizer": "adam"}, {"final": 0.1}, run_name=".")
    return folder
