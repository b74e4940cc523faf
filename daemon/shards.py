"""Pure decisions: which shard a job is in, and which shards each of several replicas should own."""

import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

COUNT = 16
SHARDS = tuple(f"jobs-{number:02d}" for number in range(COUNT))


def shard_of(key: str) -> str:
    """Name the shard of a key; the same in every process and release, for the fence stands on it."""
    return SHARDS[zlib.crc32(key.encode()) % COUNT]


@dataclass(frozen=True, slots=True)
class Share:
    """What one replica is to do about its shards: take these free ones, and give those up when it has finished."""

    take: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()


def share(me: str, owners: Mapping[str, str], living: Collection[str]) -> Share:
    """Say what ``me``, one of the living replicas, is to take and to give up.

    ``owners`` names every shard's owner, "" for one that is free; an owner that does not live counts as none. Nobody
    takes what another living replica owns, so a newcomer waits until the others have given up its part. In the end
    the counts differ by one at most. The odd shards stay with those who own most, so that no shard moves for nothing.
    """
    held = Counter(owner for owner in owners.values() if owner in living)
    even, odd = divmod(len(owners), len(living))
    # Those who already own more than the even part come first to an odd shard; then whoever asks first.
    full = sorted((name for name in living if held[name] > even), key=lambda name: (-held[name], name))
    before_me = full.index(me) if me in full else len(full)
    quota = even + (before_me < odd)
    free = sorted(shard for shard, owner in owners.items() if owner not in living)
    mine = sorted(shard for shard, owner in owners.items() if owner == me)
    return Share(take=tuple(free[: max(0, quota - len(mine))]), surplus=tuple(mine[quota:]))
