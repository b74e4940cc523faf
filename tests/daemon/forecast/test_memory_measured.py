"""Memory foretold for sizes not seen, on the measured memory of small real models, and how that was measured."""

import numpy as np
import pytest

from daemon.forecast.memory import EDGE
from tests.benchmarks._small_models import Setting, Training
from tests.benchmarks.measure_memory import TABLE, machine, peak_bytes
from tests.benchmarks.memory_skill import NEXT, asked, curves, history, left_out, walks, with_edge

GRIDS = curves(TABLE)
FAMILIES = {curve[0] for curve in GRIDS}


def test_the_table_holds_whole_grids_of_every_family() -> None:
    assert {"transformer", "cnn", "lstm", "mlp"} == FAMILIES
    assert {curve[-1] for curve in GRIDS} == {"cpu", "cuda"}
    assert sum(len(grid) for grid in GRIDS.values()) >= 1300
    for curve, grid in GRIDS.items():
        assert len(grid) == len({b for b, _ in grid}) * len({n for _, n in grid})
        assert all(gib > 0 and seconds > 0 for gib, seconds in grid.values()), curve


@pytest.mark.parametrize(("device", "most"), [("cpu", 1.14), ("cuda", 1.22)])
def test_the_tail_covers_and_wastes_little_one_doubling_ahead(device: str, most: float) -> None:
    grids = {curve: grid for curve, grid in GRIDS.items() if curve[-1] == device}
    found = asked(grids, dict.fromkeys(FAMILIES, with_edge(EDGE)))
    ratio = found.memory["scaleahead"] / found.gib
    firm = found.shown >= 2
    near, alone = firm & (found.growth <= NEXT), found.shown == 1
    assert (ratio[near] >= 1.0).mean() >= 0.985
    assert ratio[near].mean() <= most
    assert (ratio[firm] >= 1.0).mean() >= 0.975
    assert (ratio[alone] >= 1.0).mean() >= 0.985, "of one size alone nothing is known, and that must be said"


def test_leaving_a_family_out_leaves_its_answers_out_of_the_choice() -> None:
    some = {
        curve: grid
        for curve, grid in GRIDS.items()
        if curve[2] in ("16", "48") and curve[3:] == ("float32", "0", "cpu")
    }
    plain = left_out(some)[1]["mlp"]
    bent = {
        curve: {at: (gib * at[0] ** 2 if curve[0] == "mlp" else gib, s) for at, (gib, s) in grid.items()}
        for curve, grid in some.items()
    }
    assert left_out(bent)[1]["mlp"] == plain


def test_a_walk_becomes_the_history_of_a_job() -> None:
    curve = next(one for one in GRIDS if one[0] == "transformer")
    walk = next(one for one in walks(curve, GRIDS[curve]) if one.kind == "by turns")
    told = history(walk, 3)
    assert sorted(set(told.columns["hp.batch_size"])) == sorted(set(walk.batch[:3]))
    assert told.columns["usage.memory_gib"][-1] == pytest.approx(walk.gib[2])
    assert (np.diff(walk.gib) >= 0).all()


def test_a_peak_holds_weights_moments_gradients_and_what_the_batch_adds() -> None:
    small, large = (Setting("mlp", "plain", 48, "float32", False, batch, 0) for batch in (16, 4096))
    model = Training(small, "cpu").model
    weights = sum(each.numel() * each.element_size() for each in model.parameters())
    _, low = peak_bytes(small, "cpu")
    _, high = peak_bytes(large, "cpu")
    assert 4 * weights <= low <= 5 * weights
    kept = 4096 * 4 * (64 + 48 + 4 * (192 + 192 + 48) + 256)
    assert kept <= high - 3 * weights <= 2 * kept


def test_the_machine_is_named() -> None:
    assert {"device", "machine", "torch", "measured_on", "how"} == set(machine("cpu"))
