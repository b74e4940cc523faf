"""What is made of a schedule that nobody declared: no look ahead, no kill, a plan of stages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.forecast.schedule import Schedules
from daemon.replay import oracle
from daemon.replay.cautious import Cautious
from daemon.replay.run import Persisting, Run, play
from daemon.replay.trace import Trace
from daemon.replay.world import World
from policies.cost_per_progress import CostPerProgress
from policies.reactive import Reactive
from policies.types import Settings
from tests.daemon.replay.traces import HOUR, trace, traces

RULES = Settings("replay", "cost_per_progress", "v")


@settings(max_examples=40, deadline=None)
@given(traces(), st.integers(0, 3), st.booleans())
def test_its_futures_are_whole(made: Trace, segment: int, told: bool) -> None:
    world = World(made, len(made.offers) - 1)
    eyes = Cautious(made, Schedules(None) if told else None)
    for s in range(min(segment + 1, len(made.segments))):
        world.progress, world.segment = float(([0.0, *made.ends])[s]) + 1.0, s
        found = eyes.future(world)
    assert found.probability.sum() == pytest.approx(1.0)
    assert found.pace.shape == (len(found.probability), len(found.ends), len(made.offers))
    assert np.isfinite(found.pace).all()
    assert (found.pace > 0).all()
    assert (np.diff(found.ends, prepend=world.progress) > 0).all()
    assert found.ends[-1] == made.total_progress
    assert not found.foreseen
    assert (found.misfit[..., -1] == 0).all()  # the last offer fits everything
    unfit = ~np.isfinite(made.pace()).all(axis=1)
    assert (found.misfit == unfit).all()


@settings(max_examples=15, deadline=None)
@given(traces(), st.lists(st.floats(0.2, 5.0), min_size=4, max_size=4))
def test_what_is_not_seen_yet_changes_nothing(made: Trace, stretch: list[float]) -> None:
    """Two jobs alike until the first change, whose later segments last otherwise, are treated alike until then."""
    parts = np.diff(made.ends, prepend=0.0)
    parts[1:] *= stretch[: len(parts) - 1]
    parts[1:] *= (made.total_progress - parts[0]) / max(parts[1:].sum(), 1e-9)
    ends = [*np.cumsum(parts)[:-1], made.total_progress]
    segments = [s.model_copy(update={"to_progress": float(end)}) for s, end in zip(made.segments, ends, strict=True)]
    other = made.model_copy(update={"segments": segments})
    runs = [Run(one, CostPerProgress(), Cautious(one), RULES) for one in (made, other)]
    assert runs[0].first == runs[1].first
    for run in runs:
        run.play()
    early = [[(x.hours, x.offer) for x in run.launches if x.progress < made.ends[0]] for run in runs]
    assert early[0] == early[1]


def test_it_uses_the_small_machine_while_that_is_good_and_leaves_when_the_change_is_seen() -> None:
    """The old way, one average over what may come, sat on the large machine from the start."""
    made = trace([[1.0, 4.0], [0.9, 0.9]], [1.0, 2.0], ends=[8 * HOUR, 16 * HOUR], on_misfit="accumulate")
    run = Run(made, CostPerProgress(), Cautious(made), RULES)
    found = run.play()
    assert run.first == 0
    assert [launch.offer for launch in run.launches] == [1]
    assert 8 * HOUR <= run.launches[0].progress <= 8 * HOUR + 31
    assert found.usd == pytest.approx(oracle.solve(made, 0.0).usd, rel=0.02)


def test_under_crash_it_stays_where_everything_fits_as_cheaply_as_whoever_takes_no_chance() -> None:
    made = trace([[1.0, None], [1.0, 1.0]], [1.0, 10.0], ends=[4 * HOUR, 5 * HOUR])
    found = play(made, CostPerProgress(), Cautious(made), RULES)
    assert (found.out_of_memory, found.moves) == (0, 0)
    assert found.usd == pytest.approx(oracle.solve(made, 0.0, unwarned=True).usd)
    assert found.usd > play(made, Reactive(), Persisting(made), RULES).usd * 1.02  # the price of no kill


def test_a_regular_ladder_is_foretold_by_the_schedule_head() -> None:
    """After two changes at even distances the next is expected at that distance, not anywhere."""
    made = trace([[1.0] * 4], [1.0], ends=[HOUR * (s + 1) for s in range(4)])
    batches = (8, 16, 32, 64)
    segments = [s.model_copy(update={"hyperparameters": {"batch_size": float(b), "seq_len": 128.0}})
                for s, b in zip(made.segments, batches, strict=True)]  # fmt: skip
    made = made.model_copy(update={"segments": segments})
    world, spreads = World(made, 0), []
    both = [Cautious(made), Cautious(made, Schedules(None))]
    for progress in np.arange(0.0, 2 * HOUR + 300, 300):
        world.progress, world.segment = float(progress), int(progress // HOUR)
        spreads = [one.future(world).pace[:, 0, 0].std() for one in both]
    assert spreads[1] < spreads[0] / 2
