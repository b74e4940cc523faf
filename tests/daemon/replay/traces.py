"""Values: small traces for the tests of replay."""

from hypothesis import strategies as st

from daemon.replay.trace import Trace

HOUR = 3600.0


def trace(rows: list[list[float | None]], usd: list[float], ends: list[float] | None = None, **more: object) -> Trace:
    """Make a trace of one unit of progress a step; ``rows`` are seconds a step, one row an offer."""
    ends = ends or [HOUR * (s + 1) for s in range(len(rows[0]))]
    names = [f"aws/us-east-1/m{o}" for o in range(len(rows))]
    body = {
        "job": "made", "total_progress": ends[-1], "restart_seconds": 100, "checkpoint_every_seconds": 900,
        "boot_seconds": 200, "on_misfit": "crash",
        "offers": [{"offer": n, "gpus": 1, "gpu_memory_gib": 16, "gpu": "T4", "nodes": 1, "usd_per_hour": u}
                   for n, u in zip(names, usd, strict=True)],
        "segments": [{"to_progress": e, "hyperparameters": {"batch_size": s}, "progress_per_step": 1.0}
                     for s, e in enumerate(ends)],
        "step_seconds": dict(zip(names, rows, strict=True)),
    }  # fmt: skip
    return Trace.model_validate(body | more)


SECONDS = st.one_of(st.none(), st.floats(0.05, 5.0))


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    segments, others = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    rows: list[list[float | None]] = [[draw(SECONDS) for _ in range(segments)] for _ in range(others)]
    rows.append([draw(st.floats(0.05, 5.0)) for _ in range(segments)])
    usd = [draw(st.floats(0.2, 40.0)) for _ in rows]
    return trace(rows, usd)
