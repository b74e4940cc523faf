"""The bounded buffer: what is thinned, what is kept, what is let go."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

from hypothesis import given, settings
from hypothesis import strategies as st

from scaleahead.buffer import Buffer, Sample, tidy


def sample(step, batch=1, *, seconds=1.0, usage=None, lr=0.1):
    return Sample(step, 0.0, {"batch_size": batch, "lr": lr}, {}, usage or {}, seconds, 1)


def fill(buffer, batches, gap=0.01):
    for step, batch in enumerate(batches):
        buffer.add(sample(step, batch), step * gap)
    return buffer.after(-1)[0]


def test_both_sides_of_a_change_are_kept_however_fast_the_steps():
    kept = fill(Buffer(every_seconds=1000), [1] * 50 + [2] * 50 + [4] * 5)
    assert [(s.step, s.hyperparameters["batch_size"]) for s in kept] == [
        (0, 1),
        (49, 1),
        (50, 2),
        (99, 2),
        (100, 4),
        (104, 4),
    ]


def test_merged_steps_keep_their_mean_time_and_their_highest_usage():
    buffer = Buffer(every_seconds=10)
    buffer.add(sample(0), 0)
    for step, (seconds, memory) in enumerate([(1.0, 5.0), (2.0, 9.0), (6.0, 4.0)], start=1):
        buffer.add(sample(step, seconds=seconds, usage={"memory_gib": memory}), step)
    last = buffer.after(-1)[0][-1]
    assert (last.step, last.seconds / last.steps, last.usage) == (3, 3.0, {"memory_gib": 9.0})


def test_a_peak_is_never_moved_over_a_change():
    buffer = Buffer(every_seconds=10)
    for step, batch in enumerate([1, 1, 1, 2, 2]):
        buffer.add(sample(step, batch, usage={"memory_gib": float(batch)}), step * 0.1)
    assert all(s.usage["memory_gib"] == s.hyperparameters["batch_size"] for s in buffer.after(-1)[0])


def test_a_learning_rate_that_always_moves_does_not_defeat_thinning():
    buffer = Buffer(every_seconds=1000)
    for step in range(1000):
        buffer.add(sample(step, lr=0.1 / (step + 1)), step * 0.01)
    assert len(buffer.after(-1)[0]) <= 4
    assert buffer.merged >= 990


def test_a_batch_change_under_a_moving_learning_rate_is_kept():
    buffer = Buffer(every_seconds=1000)
    for step in range(100):
        buffer.add(sample(step, 1 if step < 60 else 2, lr=0.1 / (step + 1)), step * 0.01)
    assert {59, 60} <= {s.step for s in buffer.after(-1)[0]}


def test_a_full_buffer_spans_the_whole_run_and_counts_what_it_lost():
    buffer = Buffer(capacity=64, every_seconds=0)
    kept = fill(buffer, [1] * 5000 + [2] * 5000)
    assert len(kept) <= 64
    assert kept[0].step == 0
    assert {4999, 5000} <= {s.step for s in kept}
    assert kept[-1].step == 9999
    assert buffer.dropped + buffer.merged + len(kept) == 10000


def test_what_was_fetched_goes_first_and_is_not_counted_as_lost():
    buffer = Buffer(capacity=10, every_seconds=0)
    fill(buffer, [1] * 10)
    _, end = buffer.after(-1)
    buffer.after(end)
    for step in range(10, 18):
        buffer.add(sample(step), step)
    assert buffer.dropped == 0
    assert [s.step for s in buffer.after(end)[0]] == list(range(10, 18))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 4]), st.floats(0, 0.5)), min_size=1, max_size=200),
    st.integers(2, 20),
    st.lists(st.integers(0, 199)),
)
def test_bounded_ascending_and_the_newest_is_always_there(steps, capacity, polls):
    buffer, now, cursor, seen = Buffer(capacity, 0.2), 0.0, 0, []
    for step, (batch, gap) in enumerate(steps):
        now += gap
        buffer.add(sample(step, batch), now)
        if step in polls:
            page, cursor = buffer.after(cursor)
            seen += [s.seq for s in page]
    assert len(buffer) <= capacity
    page, _ = buffer.after(cursor)
    seen += [s.seq for s in page]
    assert seen == sorted(set(seen))
    assert buffer.after(-1)[0][-1].step == len(steps) - 1


def test_next_and_the_last_seq_ask_for_the_same():
    buffer = Buffer(every_seconds=0)
    kept = fill(buffer, [1, 1, 1])
    _, end = buffer.after(-1)
    assert end == kept[-1].seq + 1
    buffer.add(sample(3), 9)
    assert [s.step for s in buffer.after(end)[0]] == [s.step for s in buffer.after(end - 1)[0]] == [3]


def test_a_cursor_of_another_run_starts_from_the_beginning():
    buffer = Buffer(every_seconds=0)
    fill(buffer, [1, 1])
    assert len(buffer.after(5000)[0]) == 2


def test_tidy_takes_numbers_and_leaves_the_rest():
    given_values = {"a": 1, "b": True, "c": "x", "d": None, 5: 1.0, "e" * 65: 1.0, "f": "2.5", "g": 10**400}
    assert tidy(given_values) == {"a": 1, "b": 1.0, "f": 2.5, "g": 10**400}
    assert len(tidy({str(n): n for n in range(100)})) == 32
