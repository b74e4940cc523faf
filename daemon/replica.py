"""Edge: which jobs this process works for: its lease, what it is busy with, and what other replicas have done.

Beside a SQLite file there is one process, and all jobs are its own. On PostgreSQL several share the jobs by shards: a
shard that is to go to another is not worked on any more, and given up once the work begun on it has ended.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

import structlog

from daemon.store.base import Busy, Lease, Store, StoreError

log = structlog.get_logger()

_T = TypeVar("_T")

BEATS = 6
"""Renewals in the length of a lease: what a dead owner held is taken over a sixth of it after it ran out, at most."""
Hear = Callable[[str, str], Awaitable[None]]
"""Hear of what was done, and to what, from the audit log."""


class Replica:
    """One process's part of the jobs."""

    def __init__(self, lease: Lease, store: Store) -> None:
        self._lease = lease
        self._store = store
        # A thread of its own: neither a slow sweep nor a store that is asked much may hold the lease up.
        self._renewer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lease")
        self._leaving: Set[str] = frozenset()
        self._at_work: Counter[str] = Counter()
        self._beaten = asyncio.Event()
        self._heard = 0

    @property
    def shared(self) -> bool:
        """Whether other replicas may work beside this one."""
        return self._lease.shared

    @property
    def shards(self) -> list[str]:
        """The shards held."""
        return sorted(self._lease.shards)

    @property
    def leads(self) -> bool:
        """Whether the store's chores are this process's."""
        return self._lease.leads

    def ours(self, job: str) -> bool:
        """Whether work may begin for a job."""
        shard = self._lease.shard_of(job)
        return shard in self._lease.shards and shard not in self._leaving

    def valid(self) -> bool:
        """Whether the lease has not run out by this process's own clock."""
        return self._lease.valid()

    @contextmanager
    def at_work(self, jobs: Iterable[str]) -> Iterator[None]:
        """Keep the shards of these jobs until the work on them has ended."""
        shards = {self._lease.shard_of(job) for job in jobs}
        self._at_work.update(shards)
        try:
            yield
        finally:
            self._at_work.subtract(shards)

    async def join(self, key: Callable[[str], str]) -> None:
        """Take the lease; jobs of one key stay together. Raises ``Conflict`` where another process holds all."""
        self._lease.group(key)
        if self._lease.shared:
            self._heard = await self._run(self._store.audit.last)
        await self._run(self._lease.acquire)

    async def hold(self, seconds: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Keep a lease of so many real seconds. Raises ``Stale`` when another has it: the process must end."""
        while True:
            await sleep(seconds / BEATS)
            try:
                await self._beat()
            except Busy as error:
                # Whether it is still ours is not known; every write of an action asks the fence, and refuses if not.
                log.warning("the lease could not be renewed; trying again", error=str(error))

    async def _beat(self) -> None:
        giving = frozenset(shard for shard in self._leaving if not self._at_work[shard])
        before = self.shards
        self._leaving = await self._run(lambda: self._lease.renew(giving=giving))
        if self.shards != before:
            log.info("the shards of this replica have changed", shards=self.shards)
        self._beaten.set()

    async def heed(self, hear: Hear, divide: Callable[[], Awaitable[None]]) -> None:
        """After each beat hear what was done through other replicas, and see to what is ours now."""
        while True:
            await self._beaten.wait()
            self._beaten.clear()
            try:
                await self._hear(hear)
                await divide()
            except StoreError as error:
                log.warning("what other replicas did cannot be read; trying again", error=str(error))

    async def _hear(self, hear: Hear) -> None:
        while entries := await asyncio.to_thread(self._store.audit.since, self._heard):
            for number, _, _, what, subject, _ in entries:
                await hear(what, subject)
                self._heard = number

    async def leave(self) -> None:
        """Let the lease go."""
        with suppress(StoreError):
            await self._run(self._lease.release)
        self._renewer.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._renewer, function)
