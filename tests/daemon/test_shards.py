"""The shares of replicas, for every state they can be in, and whatever the order in which they act."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from daemon.shards import SHARDS, shard_of, share

NAMES = [f"replica {number}" for number in range(6)]
OWNERS = st.fixed_dictionaries({shard: st.sampled_from([*NAMES, ""]) for shard in SHARDS})
LIVING = st.sets(st.sampled_from(NAMES), min_size=1)


def test_the_shard_of_a_name_never_changes() -> None:
    """The fence of an older process and of a newer one must mean the same row."""
    assert [shard_of(name) for name in ("bert", "tiny", "fleet night")] == ["jobs-14", "jobs-09", "jobs-09"]


def test_names_spread_over_all_shards() -> None:
    counts = Counter(shard_of(f"job-{number}") for number in range(16_000))
    assert set(counts) == set(SHARDS)
    assert max(counts.values()) < 1200


@given(OWNERS, LIVING)
def test_nobody_takes_what_a_living_replica_owns_nor_gives_what_is_not_its_own(
    owners: dict[str, str], living: set[str]
) -> None:
    for me in living:
        part = share(me, owners, living)
        assert all(owners[shard] not in living for shard in part.take)
        assert all(owners[shard] == me for shard in part.surplus)
        assert not (part.take and part.surplus)


@given(OWNERS, LIVING, st.randoms(use_true_random=False))
def test_in_any_order_every_shard_is_owned_evenly_in_the_end_and_then_nothing_moves(
    owners: dict[str, str], living: set[str], dice: Random
) -> None:
    """Each gives one surplus shard at a turn, as one whose others are still worked on."""
    order = sorted(living)
    for _ in range(40):
        dice.shuffle(order)
        for me in order:
            part = share(me, owners, living)
            owners |= dict.fromkeys(part.take, me) | dict.fromkeys(part.surplus[:1], "")
    counts = Counter(owners.values())
    assert set(counts) <= living
    assert sum(counts.values()) == len(SHARDS)
    assert max(counts[name] for name in living) - min(counts[name] for name in living) <= 1
    for me in living:
        assert share(me, owners, living).take == share(me, owners, living).surplus == ()


@given(LIVING, st.sampled_from(NAMES))
def test_a_death_moves_only_what_the_dead_owned(living: set[str], dead: str) -> None:
    everyone = sorted(living | {dead})
    owners = {shard: everyone[place % len(everyone)] for place, shard in enumerate(SHARDS)}
    left = set(everyone) - {dead}
    for me in left:  # once each: no shard waits for a second beat
        part = share(me, owners, left)
        assert part.surplus == ()
        owners |= dict.fromkeys(part.take, me)
    assert not left or set(owners.values()) == left
