"""Laws of ``act.advance`` in any world: it always ends, starts only what we stopped, stops nothing unsaved."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import turn
from daemon.act import (
    Ask,
    CloudView,
    Enter,
    GoOn,
    Patience,
    Perform,
    Proceed,
    Step,
    Wait,
    advance,
    enter,
    stage_seconds,
)
from daemon.types import CLOSED, Action, Checkpoint, JobStatus, Stage
from providers.errors import (
    Busy,
    Incompatible,
    NoCapacity,
    NotFound,
    NotPermitted,
    ProviderError,
    Throttled,
    Unavailable,
)
from providers.types import (
    Allocation,
    Grow,
    InPlace,
    Keep,
    Launch,
    LaunchRecipe,
    MachineState,
    Modify,
    Node,
    Notice,
    Offer,
    Price,
    Remove,
    Resize,
    Resources,
    Route,
    Same,
    Shrink,
    Start,
    Stop,
    Target,
)

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PATIENCE = Patience()
TARGET = Target("simulated", "vm", "vm-1", "us-east-1")


def offer(kind: str, memory: float) -> Offer:
    return Offer("aws", "us-east-1", kind, Resources(4, memory), Price(0.2, "a test", NOW))


OLD, NEW = offer("m5.xlarge", 16), offer("r5.xlarge", 32)


def action(**more: object) -> Action:
    made = Action(
        id="a1", decision="d1", job="bert", target=TARGET, old=OLD, new=NEW, route="in_place", stage="intended",
        opened_at=NOW, stage_at=NOW, deadline=NOW + timedelta(seconds=900), next_at=NOW, old_run="run-0",
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def view(state: MachineState = "running", on: Offer = OLD, wanted: Offer = NEW, **more: object) -> CloudView:
    route: Route = Same() if on.id == wanted.id else InPlace(("machine_type",))
    return replace(CloudView(Allocation(TARGET, state, on), route), **more)  # type: ignore[arg-type]


TRAINING = JobStatus(heard_at=NOW, run="run-0")


def test_a_checkpoint_is_asked_for_before_anything_is_stopped() -> None:
    assert advance(action(), view(), TRAINING, NOW, PATIENCE) == Enter("checkpointing")
    assert advance(action(stage="checkpointing"), view(), TRAINING, NOW, PATIENCE) == Ask()


@pytest.mark.parametrize("state", ["training", "checkpointing"])
@pytest.mark.fault("D15")
def test_a_checkpoint_from_before_the_request_does_not_count(state: str) -> None:
    job = replace(TRAINING, state=state, checkpoint=Checkpoint("c", 10), checkpoint_at=NOW - timedelta(seconds=1))  # type: ignore[arg-type]
    step = advance(action(stage="checkpointing", asked_at=NOW), view(), job, NOW, PATIENCE)
    assert not isinstance(step, Enter)


def test_a_ready_job_with_an_old_checkpoint_is_not_stopped() -> None:
    job = replace(TRAINING, state="ready", checkpoint=Checkpoint("c", 10), checkpoint_at=NOW - timedelta(seconds=1))
    step = advance(action(stage="checkpointing", asked_at=NOW), view(), job, NOW, PATIENCE)
    assert isinstance(step, Wait)


def test_a_killed_job_is_not_waited_for() -> None:
    here = view()
    assert here.allocation is not None
    killed = replace(here.allocation, notices=(Notice("out_of_memory", NOW + timedelta(seconds=5)),))
    step = advance(
        action(stage="checkpointing", asked_at=NOW), replace(here, allocation=killed), TRAINING, NOW, PATIENCE
    )
    assert isinstance(step, Enter)
    assert step.stage == "stopping"


@pytest.mark.fault("C6")
def test_a_call_whose_effect_is_not_visible_is_not_repeated_at_once() -> None:
    out = view(pending=Stop(TARGET), pending_since=NOW)
    stopping = action(stage="stopping", stopped_by_us=True)
    soon, late = NOW + timedelta(seconds=5), NOW + timedelta(seconds=31)
    assert isinstance(advance(stopping, out, TRAINING, soon, PATIENCE), Wait)
    assert advance(stopping, out, TRAINING, late, PATIENCE) == Perform(Stop(TARGET))


def test_after_a_takeover_a_stop_is_repeated_at_once_and_everything_else_waits_out_the_grace() -> None:
    """A stop must not wait, or the job goes on; anything else could meet the old owner's call on its way."""
    patience = Patience(repeat=1.0)
    early, late = NOW + timedelta(seconds=24.9), NOW + timedelta(seconds=25)
    stopping = action(stage="stopping", stopped_by_us=True)
    left = view(pending=Stop(TARGET), pending_since=NOW, inherited_at=NOW)
    assert advance(stopping, left, JobStatus(), early, patience) == Perform(Stop(TARGET))
    for stage in ("modifying", "starting", "rolling_back"):
        acting = action(stage=stage, stopped_by_us=True, stage_at=NOW, deadline=NOW + timedelta(seconds=900))
        left = view(
            "stopped", wanted=OLD if stage == "rolling_back" else NEW,
            pending=Stop(TARGET), pending_since=NOW, inherited_at=NOW,
        )  # fmt: skip
        step = advance(acting, left, JobStatus(), early, patience)
        assert step == Wait("a call of the owner before may still be on its way"), stage
        assert isinstance(advance(acting, left, JobStatus(), late, patience), Perform), stage


def test_a_call_that_the_cloud_is_carrying_out_is_not_repeated_while_the_stage_lasts() -> None:
    out = view(pending=Stop(TARGET), pending_since=NOW, under_way=True)
    stopping = action(stage="stopping", stopped_by_us=True, deadline=NOW + timedelta(seconds=900))
    assert isinstance(advance(stopping, out, TRAINING, NOW + timedelta(seconds=600), PATIENCE), Wait)
    over = advance(stopping, out, TRAINING, NOW + timedelta(seconds=900), PATIENCE)
    assert isinstance(over, Enter)
    assert over.stage == "rolling_back"


def test_a_machine_someone_else_stopped_is_not_ours_to_start() -> None:
    step = advance(action(stage="stopping"), view("stopped"), TRAINING, NOW, PATIENCE)
    assert isinstance(step, Enter)
    assert step.stage == "cancelled"


def test_no_capacity_goes_back_to_the_old_machine() -> None:
    step = advance(
        action(stage="starting", stopped_by_us=True), view("stopped", NEW, fault=NoCapacity("none left")), TRAINING,
        NOW, PATIENCE,
    )  # fmt: skip
    assert isinstance(step, Enter)
    assert step.stage == "rolling_back"
    rolling = action(stage="rolling_back", stopped_by_us=True)
    assert advance(rolling, view("stopped", NEW, OLD), TRAINING, NOW, PATIENCE) == Perform(
        Modify(TARGET, OLD, "machine_type")
    )
    assert advance(rolling, view("stopped", OLD, OLD), TRAINING, NOW, PATIENCE) == Perform(Start(TARGET))


FAULTS: list[ProviderError | None] = [
    None, Throttled("slow down"), Unavailable("down"), NoCapacity("none"), Incompatible("no"), NotFound("gone"),
]  # fmt: skip


@given(st.data())
def test_every_action_ends_and_breaks_no_law_in_any_world(data: st.DataObject) -> None:
    """The cloud changes by its own will, forgets, refuses; the job answers or not; a person starts, stops, deletes."""
    now = NOW
    world: MachineState = "running"
    on = OLD
    acting = action(checkpoint_required=data.draw(st.booleans()))
    job = TRAINING
    for _ in range(6000):
        if acting.closed:
            break
        shown = data.draw(st.integers(0, 9)) > 0
        fault = data.draw(st.sampled_from(FAULTS)) if data.draw(st.integers(0, 9)) == 0 else None
        wanted = acting.old if acting.stage == "rolling_back" else acting.new
        seen = view(world, on, wanted, fault=fault)
        if not shown:
            seen = replace(seen, allocation=None, route=None)
        step = advance(acting, seen, job, now, PATIENCE)
        _check(acting, step, world, shown, job)
        acting, world, on = _apply(acting, step, world, on, now)
        job = _live(data, acting, job, world, now)
        if data.draw(st.integers(0, 60)) == 0:
            world = data.draw(st.sampled_from(["running", "stopped", "terminated"]))
        now += timedelta(seconds=data.draw(st.sampled_from([5, 60, 600])))
    assert acting.closed
    assert acting.stage in CLOSED


def _check(acting: Action, step: Step, world: MachineState, shown: bool, job: JobStatus) -> None:
    match step:
        case Perform(Start()):
            assert acting.stopped_by_us
        case Perform(Stop()):
            assert not acting.checkpoint_required or acting.checkpoint is not None
        case Perform(Modify()):
            assert acting.stopped_by_us
            assert world == "stopped"
        case Enter(stage="done"):
            assert shown


def _apply(
    acting: Action, step: Step, world: MachineState, on: Offer, now: datetime
) -> tuple[Action, MachineState, Offer]:
    match step:
        case Enter():
            return enter(acting, step, now, PATIENCE), world, on
        case Proceed(why):
            return enter(acting, Enter("cancelled", why), now, PATIENCE), world, on
        case Ask():
            return replace(acting, asked_at=acting.asked_at or now), world, on
        case Perform(Stop()):
            return replace(acting, stopped_by_us=True), "stopped", on
        case Perform(Start()):
            return acting, "running" if world != "terminated" else world, on
        case Perform(Modify(offer=to)):
            return acting, world, to
        case _:
            return acting, world, on


def _live(data: st.DataObject, acting: Action, job: JobStatus, world: MachineState, now: datetime) -> JobStatus:
    if world != "running" or data.draw(st.integers(0, 3)) == 0:
        return job
    if acting.stopped_by_us:
        return replace(job, run="run-1", heard_at=now, state="training")
    if acting.asked_at is not None and data.draw(st.booleans()):
        return replace(job, state="ready", checkpoint=Checkpoint("c", 1), checkpoint_at=now, heard_at=now)
    return replace(job, heard_at=now)


@given(st.sampled_from(["checkpointing", "stopping", "modifying", "starting", "verifying", "rolling_back"]))
def test_every_stage_has_a_deadline(stage: str) -> None:
    assert 0 < stage_seconds(stage, PATIENCE) <= 3600  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", ["switching", "retiring"])
def test_an_old_machine_that_may_not_be_looked_at_is_not_gone(stage: Stage) -> None:
    """Credentials revoked in the middle: it still runs and still costs money."""
    unseen = CloudView(None, fault=NotPermitted("describe is not allowed"))
    replacing = action(stage=stage, route="replace", made=replace(TARGET, id="vm-2"))
    assert isinstance(advance(replacing, unseen, TRAINING, NOW, PATIENCE), Wait)
    late = advance(replacing, unseen, TRAINING, NOW + timedelta(hours=2), PATIENCE)
    assert isinstance(late, Enter)
    assert late.stage == "needs_human"
    gone = advance(replacing, replace(unseen, fault=NotFound("no such machine")), TRAINING, NOW, PATIENCE)
    assert isinstance(gone, Enter)
    assert gone.stage in ("verifying", "done")


@pytest.mark.fault("C16")
def test_a_group_that_did_not_grow_far_enough_gives_back_only_what_it_was_given() -> None:
    """Two nodes at work, a third came under a name that sorts before theirs, a fourth did not come."""
    nodes = tuple(Node(name, "running") for name in ("a-new", "b-old", "c-old"))
    group = replace(TARGET, kind="group")
    old, new = replace(OLD, nodes=2), replace(OLD, nodes=4)
    growing = action(stage="rolling_back", route="grow", target=group, old=old, new=new, nodes=("b-old", "c-old"))
    seen = CloudView(Allocation(group, "running", replace(OLD, nodes=3), nodes), Shrink(1))
    assert advance(growing, seen, TRAINING, NOW, PATIENCE) == Perform(Remove(group, ("a-new",)))


@pytest.mark.parametrize("left", [("b-old", "c-old"), ("b-old",)])
def test_a_group_that_did_not_grow_at_all_gets_its_old_size_back(left: tuple[str, ...]) -> None:
    """The cloud would go on trying to launch what it lacks, and bill for it once it comes."""
    group = replace(TARGET, kind="group")
    old, new = replace(OLD, nodes=2), replace(OLD, nodes=4)
    growing = action(stage="rolling_back", route="grow", target=group, old=old, new=new, nodes=("b-old", "c-old"))
    nodes = (*(Node(name, "running") for name in left), Node("d-new", "stopping"))
    seen = CloudView(Allocation(group, "pending", new, nodes), Shrink(2))
    assert advance(growing, seen, TRAINING, NOW, PATIENCE) == Perform(Resize(group, 2))


def test_a_group_whose_nodes_are_not_known_is_never_made_smaller_than_they_are() -> None:
    group = replace(TARGET, kind="group")
    old, new = replace(OLD, nodes=2), replace(OLD, nodes=4)
    growing = action(stage="rolling_back", route="grow", target=group, old=old, new=new)
    nodes = tuple(Node(name, "running") for name in ("a", "b", "c"))
    seen = CloudView(Allocation(group, "pending", new, nodes), Shrink(2))
    assert isinstance(advance(growing, seen, TRAINING, NOW, PATIENCE), Wait)
    assert isinstance(advance(growing, CloudView(None, Shrink(2)), TRAINING, NOW, PATIENCE), Wait)


def _shrinking(*nodes: Node, route: Route) -> Step:
    """Take a shrink from two nodes to one back, node b being the one that was to go."""
    group, two = replace(TARGET, kind="pool"), replace(OLD, nodes=2)
    going = action(
        stage="rolling_back", route="shrink", target=group, old=two, new=OLD, victims=("b",), nodes=("a", "b")
    )
    return advance(going, CloudView(Allocation(group, "running", two, nodes), route), TRAINING, NOW, PATIENCE)


def test_a_node_that_was_emptied_in_vain_takes_work_again_before_the_action_ends() -> None:
    staying, leaving = Node("a", "running"), Node("b", "running", leaving=True)
    assert _shrinking(staying, leaving, route=Same()) == Perform(Keep(replace(TARGET, kind="pool"), ("b",)))
    assert _shrinking(staying, leaving, route=Grow(2)) == Perform(Keep(replace(TARGET, kind="pool"), ("b",)))
    ended = _shrinking(staying, replace(leaving, leaving=False), route=Same())
    assert isinstance(ended, Enter)
    assert ended.stage == "rolled_back"


def test_a_job_may_take_as_long_to_save_as_its_owner_gives_it() -> None:
    long = enter(action(grace_seconds=7200.0), Enter("checkpointing"), NOW, PATIENCE)
    assert long.deadline == NOW + timedelta(seconds=7200)
    asked = replace(long, asked_at=NOW)
    late = NOW + timedelta(seconds=7100)
    assert isinstance(advance(asked, view(), replace(TRAINING, state="checkpointing"), late, PATIENCE), Wait)
    assert isinstance(
        advance(asked, view(), replace(TRAINING, state="checkpointing"), asked.deadline, PATIENCE), Proceed
    )
    assert enter(long, Enter("stopping"), NOW, PATIENCE).deadline == NOW + timedelta(seconds=PATIENCE.stopping)


def test_a_job_that_stood_still_goes_on_once_the_nodes_that_leave_are_gone() -> None:
    group, two = replace(TARGET, kind="group"), replace(OLD, nodes=2)
    shrunk = action(stage="verifying", route="shrink", target=group, old=two, new=OLD, victims=("b",))

    def seen(state: MachineState, job: JobStatus) -> Step:
        nodes = (Node("a", "running"), Node("b", state))
        return advance(shrunk, CloudView(Allocation(group, "running", OLD, nodes), Same()), job, NOW, PATIENCE)

    standing = replace(TRAINING, state="ready")
    assert isinstance(seen("running", standing), Wait)
    assert isinstance(seen("stopping", standing), Wait)
    assert seen("terminated", standing) == GoOn()
    assert isinstance(seen("terminated", TRAINING), Wait)


def test_only_the_machine_that_was_wanted_is_verified_once_it_runs() -> None:
    """Somebody may start it halfway through a change of several steps."""
    started = action(stage="starting", stopped_by_us=True)
    between = offer("c5.xlarge", 8)

    def came_to(on: Offer, route: Route, stage: Stage = "starting") -> Stage:
        step = advance(replace(started, stage=stage), CloudView(_on(on), route), TRAINING, NOW, PATIENCE)
        assert isinstance(step, Enter)
        return step.stage

    assert came_to(NEW, Same()) == "verifying"
    assert came_to(OLD, InPlace(("machine_type",))) == came_to(between, InPlace(("machine_type",))) == "rolling_back"
    assert came_to(OLD, Same(), "rolling_back") == "rolled_back"
    assert came_to(between, InPlace(("machine_type",)), "rolling_back") == "needs_human"


def _on(offer: Offer) -> Allocation:
    return Allocation(TARGET, "running", offer)


@pytest.mark.parametrize("stage", ["stopping", "modifying", "starting", "verifying", "rolling_back"])
def test_a_machine_that_is_gone_is_for_a_person_once_that_is_sure(stage: Stage) -> None:
    going = action(stage=stage, stopped_by_us=True)
    gone = CloudView(None, fault=NotFound("no such machine"))
    assert isinstance(advance(going, replace(gone, missed=2), TRAINING, NOW, PATIENCE), Wait)
    step = advance(going, replace(gone, missed=3), TRAINING, NOW, PATIENCE)
    assert isinstance(step, Enter)
    assert (step.stage, step.note) == ("needs_human", "there is no vm-1 any more")


def test_a_node_that_somebody_else_empties_or_that_is_ending_is_not_kept() -> None:
    for other in (Node("c", "running", leaving=True), Node("b", "stopping", leaving=True)):
        ended = _shrinking(Node("a", "running"), other, route=Same())
        assert isinstance(ended, Enter)
        assert ended.stage == "rolled_back"


@pytest.mark.parametrize("fault", [Incompatible("a pod would be lost"), NotPermitted("no"), ProviderError("it failed")])
def test_a_change_of_size_that_is_refused_for_good_is_not_asked_for_again(fault: ProviderError) -> None:
    group, two = replace(TARGET, kind="pool"), replace(OLD, nodes=2)
    going = action(stage="resizing", route="grow", target=group, old=OLD, new=two, nodes=("a",))
    seen = CloudView(Allocation(group, "running", OLD, (Node("a", "running"),)), Grow(2), fault=fault)
    step = advance(going, seen, TRAINING, NOW, PATIENCE)
    assert isinstance(step, Enter)
    assert step.stage == "rolling_back"
    busy = advance(going, replace(seen, fault=Busy("another update")), TRAINING, NOW, PATIENCE)
    assert busy == Perform(Resize(group, 2))


def test_a_group_whose_way_back_is_not_known_is_not_counted_as_taken_back() -> None:
    """The pre-flight did not answer: the size may still be the new one, and nodes would come and cost money."""
    group = replace(TARGET, kind="group")
    growing = action(stage="rolling_back", route="grow", target=group, nodes=("a", "b"))
    unknown = CloudView(Allocation(group, "running", replace(NEW, nodes=3)), None, fault=Unavailable("no answer"))
    assert isinstance(advance(growing, unknown, TRAINING, NOW, PATIENCE), Wait)
    late = advance(growing, unknown, TRAINING, NOW + timedelta(hours=2), PATIENCE)
    assert isinstance(late, Enter)
    assert late.stage == "needs_human"


def test_a_launch_of_unknown_outcome_is_asked_again_whatever_the_old_machine_does() -> None:
    """Cancelling would leave a machine that nobody knows of, and that costs money."""
    launch = Launch(LaunchRecipe("t", {"scaleahead-action": "a1", "scaleahead-job": "bert"}), NEW, "scaleahead-a1")
    launching = action(stage="launching", route="replace", recipe=LaunchRecipe("t"))
    seen = CloudView(None, fault=NotFound("no such machine"), pending=launch, pending_since=NOW)
    assert advance(launching, seen, TRAINING, NOW + timedelta(seconds=31), PATIENCE) == Perform(launch)
    known = advance(launching, replace(seen, pending=None), TRAINING, NOW, PATIENCE)
    assert isinstance(known, Enter)
    assert known.stage == "cancelled"


@pytest.mark.parametrize(
    ("stage", "route"), [("stopping", "in_place"), ("stopping", "release"), ("switching", "replace")]
)
def test_a_job_that_went_on_after_its_checkpoint_is_not_stopped(stage: Stage, route: str) -> None:
    """Stops were refused until the job's own deadline had passed: what it did since would be lost."""
    saved = action(stage=stage, route=route, asked_at=NOW, checkpoint=Checkpoint("c", 1))
    step = advance(saved, view(), TRAINING, NOW, PATIENCE)
    assert isinstance(step, Enter)
    assert step.stage == "cancelled"
    ready = replace(TRAINING, state="ready")
    assert advance(saved, view(), ready, NOW, PATIENCE) == Perform(Stop(TARGET))
    out = view(pending=Stop(TARGET), pending_since=NOW)
    assert isinstance(advance(saved, out, TRAINING, NOW, PATIENCE), Wait)


def test_only_a_move_that_ends_with_the_return_shows_how_long_a_return_takes() -> None:
    closed = action(stage="done", checkpoint=Checkpoint("c", 1, 7.0))
    after = turn.moved(TRAINING, closed, NOW + timedelta(seconds=90))
    assert (after.restore_seconds, after.checkpoint_seconds) == (90.0, 7.0)
    known = replace(TRAINING, restore_seconds=90.0)
    assert turn.moved(known, replace(closed, route="replace"), NOW + timedelta(seconds=2)).restore_seconds == 90.0
