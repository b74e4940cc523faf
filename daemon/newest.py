"""Edge: keeping decisions, each once: one that only says again what the newest of its job says is counted."""

from dataclasses import dataclass
from datetime import datetime

import structlog

from daemon import turn
from daemon.look import Look
from daemon.store.base import Stale, Store, StoreError
from daemon.store.decisions import REPEATABLE
from daemon.types import Decision, DecisionStatus

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Gist:
    """A job's newest decision, as far as the next turn needs it."""

    id: str
    status: DecisionStatus
    offer: str
    version: str

    @classmethod
    def of(cls, decision: Decision) -> "_Gist":
        return cls(decision.id, decision.status, decision.choice.option.offer.id, decision.policy_version)

    def repeats(self, last: "_Gist") -> bool:
        same = (self.status, self.offer, self.version) == (last.status, last.offer, last.version)
        return same and self.status in REPEATABLE


class Newest:
    """The newest decision of each job, read once and then remembered. Every method may block."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, _Gist] = {}
        self._repeated: list[str] = []

    def keep(self, decision: Decision, look: Look) -> Decision | None:
        """Keep a decision, unless it is the newest one again; one that waits and no longer holds expires.

        Raises ``StoreError``.
        """
        name, fresh = decision.job, _Gist.of(decision)
        newest = self._known.get(name)
        if newest is None:
            newest = next((_Gist.of(last) for last in self._store.decisions.of(name, 1)), None)
        if newest is not None and newest.status == "waiting":
            if fresh.status == "waiting" and newest.offer == fresh.offer:
                self._known[name] = newest
                return None
            self.forget(name)
            try:
                self._store.decisions.mark(newest.id, "expired", "scaleahead", "waiting")
            except Stale:
                return None  # a person has just answered it; the next turn goes on from there
        elif newest is not None and fresh.repeats(newest):
            self._known[name] = newest
            self._repeated.append(newest.id)
            return None
        kept = self._store.decisions.add(turn.sealed(decision, look))
        self._known[name] = _Gist.of(kept)
        return kept if kept.id == decision.id else None

    def count(self, now: datetime) -> None:
        """Count the decisions that came again, all at once: a unit a job would take longer than the turn."""
        try:
            self._store.decisions.repeat(self._repeated, now)
        except StoreError as error:
            log.warning("repeated decisions could not be counted; trying again", error=str(error))
        else:
            self._repeated = []

    def forget(self, job: str) -> None:
        """Read a job's newest decision again: somebody has answered it, or another process may decide for it."""
        self._known.pop(job, None)
