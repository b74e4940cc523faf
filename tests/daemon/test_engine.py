"""The engine against brute force, and its laws for any forecast."""

import itertools
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import engine
from daemon.engine import Candidate, Case, MoveCost, weigh
from daemon.speed import Speeds
from daemon.types import Forecast
from policies.types import DECILES, Safety, Settings
from providers.types import Offer, Price, Resources

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SETTINGS = Settings("default", "cost_per_progress", "v1", value_of_time_usd_per_hour=2.0)


def offer(name: str, usd: float, memory: float, cores: float = 4, **more: object) -> Offer:
    return Offer("aws", "us-east-1", name, Resources(cores, memory, **more), Price(usd, "test", NOW))  # type: ignore[arg-type]


def forecast(memory: np.ndarray, step_seconds: float = 10.0, deviation: float = 0.1, steps: int = 50) -> Forecast:
    m, k = memory.shape
    return Forecast(
        "job", NOW, 0, np.arange(1, k + 1) * steps, np.full(m, 1 / m),
        {"step_seconds": np.full((m, k), step_seconds), "usage.memory_gib": memory},
        {"usage.memory_gib": np.full((m, k), deviation)}, finish_step=k * steps,
    )  # fmt: skip


def growing(at: int = 8, k: int = 16, low: float = 10.0, high: float = 24.0) -> np.ndarray:
    return np.where(np.arange(k) >= at, high, low)[None].repeat(4, axis=0)


SMALL, MIDDLE, LARGE = offer("small", 0.2, 16), offer("middle", 0.3, 32), offer("large", 1.0, 64)


def case(memory: np.ndarray, current: Offer = SMALL, **more: object) -> Case:
    others = [Candidate(o) for o in (SMALL, MIDDLE, LARGE) if o.id != current.id]
    return replace(Case(forecast(memory), current, others, SETTINGS, NOW), **more)  # type: ignore[arg-type]


def test_plan_moves_to_the_cheapest_machine_that_fits_just_where_the_need_grows() -> None:
    found = weigh(case(growing()))
    assert [(move.offer, move.at_step) for move in found.plan] == [("aws/us-east-1/middle", 400)]
    lead = MoveCost().lead()
    assert found.plan[0].in_seconds == pytest.approx(400 * 10 - lead)


def test_staying_fits_until_the_growth_comes_inside_the_lead_time() -> None:
    far = weigh(case(growing(at=8))).options[0]
    soon = growing(at=1)  # in 300 s, and a move needs 375
    near = weigh(case(soon, forecast=forecast(soon, steps=30))).options[0]
    assert far.stays
    assert far.misfit < 0.001
    assert near.misfit > 0.99
    assert near.misfit_resource == "memory_gib"


def test_the_machine_that_fits_comes_before_the_cheaper_one_that_does_not() -> None:
    found = weigh(case(growing(at=0)))
    assert found.options[1].offer.id == MIDDLE.id
    assert found.options[1].misfit < 0.01


def test_memory_that_is_not_reported_never_shrinks_a_machine() -> None:
    silent = forecast(growing())
    silent = replace(silent, paths={"step_seconds": silent.paths["step_seconds"]}, deviations={})
    found = weigh(replace(case(growing(), current=MIDDLE), forecast=silent))
    by_id = {option.offer.id: option for option in found.options}
    assert by_id[SMALL.id].misfit == 1.0
    assert by_id[MIDDLE.id].misfit == 0.0
    assert by_id[LARGE.id].misfit == 0.0


def test_a_kill_raises_the_floor_for_good() -> None:
    found = weigh(case(growing(at=20), memory_floor_gib=16.016))
    assert found.options[0].misfit == 1.0


def test_a_job_on_gpus_is_never_offered_a_machine_without() -> None:
    gpu = offer("gpu", 1.0, 64, gpus=1, gpu_model="T4", gpu_memory_gib=16.0)
    found = weigh(replace(case(growing(), current=SMALL), current=gpu, candidates=[Candidate(LARGE)]))
    assert {option.offer.id: option.misfit for option in found.options}[LARGE.id] == 1.0


def test_a_job_on_gpus_goes_back_to_a_machine_without_where_it_has_run() -> None:
    gpu = offer("gpu", 1.0, 64, gpus=1, gpu_model="T4", gpu_memory_gib=16.0)
    both = case(growing(), current=gpu, candidates=[Candidate(MIDDLE), Candidate(LARGE)])
    fits = {one.offer.id: one.misfit for one in weigh(replace(both, speeds=Speeds({MIDDLE.id: 4.0}))).options}
    assert fits[MIDDLE.id] < 0.001
    assert fits[LARGE.id] == 1.0


@pytest.mark.parametrize("first_step", [1, 400])
def test_a_move_must_pay_against_not_moving_and_not_against_moving_an_interval_later(first_step: int) -> None:
    """However short the first interval is: else the same move would be put off for ever, by one interval at a time."""
    flat = np.full((4, 16), 10.0)
    grid = np.array([first_step, *range(1000, 16_000, 1000)])
    told = replace(forecast(flat, steps=1000), steps=grid, finish_step=15_000)
    known = Speeds(observed={SMALL.id: 1.0, MIDDLE.id: 1.0})
    options = {o.offer.id: o for o in weigh(replace(case(flat, current=LARGE), forecast=told, speeds=known)).options}
    hours, small = 15_000 * 10 / 3600, options[SMALL.id]
    assert small.due_seconds == 0
    assert small.saving.quantile(0.2) > 0.8 * (1.0 - 0.2) * hours, "doubt about its speed takes some"
    assert options[LARGE.id].saving.mean == 0
    assert options[LARGE.id].usd.mean < (1.0 - 0.2) * hours, "its own figures hold the move that the plan makes next"


def test_a_move_ahead_of_need_saves_nothing_before_it_is_due() -> None:
    middle = next(option for option in weigh(case(growing(at=4))).options if option.offer.id == MIDDLE.id)
    assert middle.due_seconds is not None
    assert middle.due_seconds > 0
    assert middle.saving.quantile(0.2) < 0, "moving now only pays for the larger machine for longer"


def test_a_faster_machine_wins_only_while_its_dollars_per_progress_are_lower() -> None:
    speeds = Speeds(observed={LARGE.id: 0.25})
    flat = growing(at=99, k=64)
    patient = replace(SETTINGS, value_of_time_usd_per_hour=0.0)
    hurried = replace(SETTINGS, value_of_time_usd_per_hour=20.0)
    long_run = replace(case(flat), forecast=forecast(flat, steps=1000), speeds=speeds)
    assert weigh(replace(long_run, settings=hurried)).options[1].saving.mean > 0
    assert weigh(replace(long_run, settings=hurried)).options[1].offer.id == LARGE.id
    assert weigh(replace(long_run, settings=patient)).options[1].saving.mean < 0


def test_deadline_and_budget_are_chances_over_the_trajectories() -> None:
    memory = growing(at=99)
    f = forecast(memory)
    half = f.paths["step_seconds"].copy()
    half[:2] *= 3
    f = replace(f, paths={**f.paths, "step_seconds": half})
    hours = 800 * 10 / 3600
    found = weigh(replace(case(memory), forecast=f, deadline=NOW + timedelta(hours=hours * 2), budget_usd=0.1))
    assert found.options[0].late == pytest.approx(0.5)
    assert found.options[0].over_budget == 1.0


def test_doubt_about_a_speed_must_be_paid_back_too() -> None:
    """The machine is known to be twice as fast, or twice as fast as far as the data sheets tell."""
    flat = growing(at=99, k=64)
    here, there = (
        offer(name, usd, 64, gpus=1, gpu_model=model, gpu_memory_gib=16.0)
        for name, usd, model in (("old", 1.0, "T4"), ("new", 1.5, "V100"))
    )
    seen = replace(
        case(flat, current=here), candidates=[Candidate(there)], forecast=forecast(flat, steps=1000),
    )  # fmt: skip
    guessed = weigh(seen).options[1]
    factor, doubt = seen.speeds.factors(here, [here, there])
    known = weigh(replace(seen, speeds=Speeds(observed={there.id: float(factor[1])}))).options[1]
    assert (doubt > 0).tolist() == [False, True]
    assert guessed.hours.quantile(0.5) == pytest.approx(known.hours.quantile(0.5), rel=0.2)
    assert guessed.saving.quantile(0.2) < known.saving.quantile(0.2) < guessed.saving.quantile(0.8)
    lone = replace(seen.forecast, probability=np.ones(1), paths={n: p[:1] for n, p in seen.forecast.paths.items()},
                   deviations={})  # fmt: skip
    one = weigh(replace(seen, forecast=lone)).options[1]
    assert one.saving.quantile(0.2) == pytest.approx(guessed.saving.quantile(0.2), rel=0.5)
    assert one.saving.quantile(0.2) < one.saving.mean


def test_where_speed_is_known_nothing_is_drawn() -> None:
    found = weigh(case(growing(at=99)))
    assert found.options[0].hours.deciles[0] == found.options[0].hours.deciles[-1]


def test_spot_is_charged_for_its_interruptions() -> None:
    cheap = replace(MIDDLE, buying="spot")
    seen = case(growing(at=99), current=LARGE, candidates=[Candidate(cheap)])
    lost = (seen.move.notice_seconds + seen.move.boot_seconds + seen.move.restore_seconds + 300) / 3600
    stay, spot = weigh(replace(seen, interrupted={cheap.id: 0.5})).options
    plain = weigh(replace(seen, candidates=[Candidate(MIDDLE)], interrupted={cheap.id: 0.5})).options[1]
    assert spot.stretch == pytest.approx(1 + 0.5 * lost)
    assert plain.stretch == stay.stretch == 1.0
    working, pause = plain.hours.mean - plain.pause_seconds / 3600, spot.pause_seconds / 3600
    assert spot.hours.mean == pytest.approx(working * spot.stretch + pause)
    assert spot.usd.mean > plain.usd.mean
    two = replace(cheap, nodes=2)
    both = weigh(replace(seen, candidates=[Candidate(two)], interrupted={two.id: 0.5})).options[1]
    assert both.stretch == pytest.approx(1 + lost), "each node of a group is taken back by itself"


def test_spot_that_one_runs_on_is_charged_as_well() -> None:
    here = replace(SMALL, buying="spot")
    calm, rough = (
        weigh(case(growing(at=99), current=here, candidates=[], interrupted={here.id: rate})) for rate in (0.0, 2.0)
    )
    assert rough.options[0].hours.mean == pytest.approx(calm.options[0].hours.mean * rough.options[0].stretch)
    assert rough.options[0].stretch > 1.0


def test_without_step_times_only_staying_is_known() -> None:
    empty = Forecast("job", NOW, 0, np.array([], dtype=np.int64), np.array([1.0]), {})
    found = weigh(replace(case(growing()), forecast=empty))
    assert [option.stays for option in found.options] == [True]


def _brute_force(c: Case) -> float:
    """The least objective over every sequence of offers, by trying each."""
    table = engine._tabulate(c, engine._machines(c))
    p = c.forecast.probability
    vot = c.settings.value_of_time_usd_per_hour
    hours = (p @ table.seconds)[:, None] * table.factor / 3600
    mean_misfit = np.einsum("m,mku->ku", p, table.misfit)[:, table.size]
    kill = c.move.notice_seconds + c.move.boot_seconds + c.move.restore_seconds + c.move.rework_seconds
    cost = hours * (table.usd_per_hour + vot) + mean_misfit * kill / 3600 * (table.usd_per_hour + vot)
    cost = np.where(mean_misfit > 0.01, cost + engine.DOES_NOT_FIT_USD * mean_misfit, cost)
    best = math.inf
    for path in itertools.product(range(len(table.offers)), repeat=cost.shape[0]):
        total, at = 0.0, 0
        for k, o in enumerate(path):
            if o != at:
                total += table.leave_usd[at] + table.enter[o]
                at = o
            total += cost[k, o]
        best = min(best, total)
    return best


@given(
    st.lists(st.floats(1, 60), min_size=2, max_size=5),
    st.lists(st.floats(0.05, 5), min_size=3, max_size=3),
    st.floats(0, 20),
)
def test_the_programme_equals_brute_force(memory: list[float], prices: list[float], vot: float) -> None:
    offers = [offer(f"o{i}", price, size) for i, (price, size) in enumerate(zip(prices, (16, 32, 64), strict=True))]
    path = np.array(memory)[None].repeat(2, axis=0)
    c = Case(
        forecast(path), offers[0], [Candidate(o) for o in offers[1:]],
        replace(SETTINGS, value_of_time_usd_per_hour=vot), NOW,
    )  # fmt: skip
    table = engine._tabulate(c, engine._machines(c))
    value, follow = engine._programme(c, table)
    assert value[0, 0] == pytest.approx(_brute_force(c), rel=1e-9)
    assert follow.shape == (len(memory), 3)


@given(
    st.lists(st.floats(0.5, 100), min_size=3, max_size=8),
    st.floats(0.001, 100),
    st.floats(0.0, 5.0),
    st.floats(0.1, 0.9),
)
def test_options_are_sane_for_any_forecast(memory: list[float], seconds: float, deviation: float, cut: float) -> None:
    path = np.array(memory)[None].repeat(3, axis=0) * np.array([[0.8], [1.0], [1.2]])
    c = replace(case(path), forecast=forecast(path, seconds, deviation))
    found = weigh(c)
    assert found.options[0].stays
    assert len({option.offer.id for option in found.options}) == 3
    for option in found.options:
        assert 0 <= option.misfit <= 1
        assert 0 <= option.late <= 1
        assert list(option.objective.deciles) == sorted(option.objective.deciles)
        assert math.isfinite(option.objective.mean)

    # Cheaper prices never raise the best objective.
    def cheaper(o: Offer) -> Offer:
        assert o.price is not None
        return replace(o, price=replace(o.price, usd_per_hour=o.price.usd_per_hour * cut))

    cut_case = replace(c, current=cheaper(c.current), candidates=[Candidate(cheaper(x.offer)) for x in c.candidates])
    full, less = (
        engine._programme(one, engine._tabulate(one, engine._machines(one)))[0][0, 0] for one in (c, cut_case)
    )
    assert less <= full + 1e-9


@given(st.floats(1, 60), st.floats(1.0, 3.0))
def test_a_wider_margin_never_makes_a_misfit_less_likely(memory: float, factor: float) -> None:
    path = np.full((2, 4), memory)
    narrow = weigh(case(path))
    wide = weigh(case(path, margin_factor=factor, settings=replace(SETTINGS, safety=Safety())))
    for a, b in zip(
        sorted(narrow.options, key=lambda o: o.offer.id), sorted(wide.options, key=lambda o: o.offer.id), strict=True
    ):
        if memory * 1.08 <= a.offer.resources.memory_gib:
            assert b.misfit >= a.misfit - 1e-9


@given(st.integers(1, 9), st.integers(1, 5), st.booleans(), st.integers(0, 2**32 - 1))
def test_deciles_are_the_least_values_that_hold_their_mass(m: int, width: int, equal: bool, seed: int) -> None:
    chance = np.random.default_rng(seed)
    values = chance.integers(0, 4, (m, width)).astype(float)  # with ties
    probability = np.full(m, 1 / m) if equal else chance.dirichlet(np.ones(m))
    for column, spread in zip(values.T, engine._spreads(values, probability), strict=True):
        assert spread.mean == pytest.approx(probability @ column)
        for level, decile in zip(DECILES, spread.deciles, strict=True):
            holds = [v for v in column if probability[column <= v].sum() >= level - 1e-9]
            assert decile == min(holds)
        assert engine._early(column, probability) == spread.deciles[0]
