"""Values: histories to forecast from, plain and strange."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from daemon.types import Declared, History


def history(
    columns: dict[str, list[float] | NDArray[np.float64]],
    step: list[int] | NDArray[np.int64] | None = None,
    job: str = "job",
    total: int | None = None,
    declared: tuple[Declared, ...] = (),
    earlier: tuple[History, ...] = (),
) -> History:
    size = len(next(iter(columns.values()))) if columns else 0
    steps = np.arange(size, dtype=np.int64) * 10 if step is None else np.asarray(step, dtype=np.int64)
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    return History(job, steps, steps * 1.0, arrays, total_steps=total, declared=declared, earlier=earlier)


def ramp(levels: list[float], dwell: int, extra: int, total: int, every: int = 5, job: str = "ramp") -> History:
    """Give a run at its ``extra``-th step after the last of these levels began; all earlier dwells are ``dwell``."""
    now = dwell * (len(levels) - 1) + extra
    step = np.arange(0, now + 1, every)
    batch = np.array(levels)[np.minimum(step // dwell, len(levels) - 1)]
    return history({"hp.batch_size": batch}, step=step, total=total, job=job)


NUMBER = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, 2.0, 32.0, -1.0, 1e300, -1e300, 1e-300, float("nan")]),
)
COLUMN = st.sampled_from(
    ["hp.batch_size", "hp.seq_len", "hp.lr", "hp.layers", "metric.loss", "metric.accuracy", "usage.gpu_util", "usage.x"]
)


@st.composite
def strange(draw: st.DrawFn) -> History:
    size = draw(st.integers(0, 40))
    gaps = draw(st.lists(st.sampled_from([0, 1, 1, 10, 1000, 10**9]), min_size=size, max_size=size))
    step = np.cumsum(np.array(gaps, dtype=np.int64))
    columns = {}
    for name in draw(st.sets(COLUMN, max_size=4)):
        kind = draw(st.sampled_from(["any", "constant", "steps", "nothing", "one"]))
        if kind == "any":
            values = draw(st.lists(NUMBER, min_size=size, max_size=size))
        elif kind == "constant":
            values = [draw(NUMBER)] * size
        elif kind == "steps":
            values = [float(2 ** (place // draw(st.integers(1, 9)))) for place in range(size)]
        else:
            values = [float("nan")] * size
            if kind == "one" and size:
                values[draw(st.integers(0, size - 1))] = draw(NUMBER)
        columns[name] = np.array(values, dtype=np.float64)
    total = draw(st.sampled_from([None, 1, 100, 10**12]))
    declared = draw(st.sampled_from([(), (Declared(50, {"batch_size": 64.0, "other": float("nan")}),)]))
    return History(
        draw(st.sampled_from(["a", "b", ""])), step, step * 1.0, columns, total_steps=total, declared=declared
    )


def ahead(one: History, points: int = 12, reach: int | None = None) -> NDArray[np.int64]:
    """Give a grid of future steps, to the total where it is known."""
    now = int(one.step[-1]) if len(one) else 0
    last = now + (reach or max((one.total_steps or now + 500) - now, points))
    return np.unique(np.linspace(now + 1, last, points).astype(np.int64))
