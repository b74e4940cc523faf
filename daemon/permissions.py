"""Edge: at the start, ask each cloud which permissions it lacks for the jobs on record, and say so in the log.

Only what the policies let us do is asked for: looking for all jobs, changes for those that may be moved.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import structlog

from daemon.store.base import Store, StoreError
from daemon.types import Job
from policies.types import ActionKind, Mode, Settings
from providers.base import Bounded, Permitted, Provider, Subject
from providers.errors import ProviderError

log = structlog.get_logger()

_KINDS: tuple[ActionKind, ...] = ("change_machine", "attach_gpu", "resize_group", "release")
_ACTS: tuple[Mode, ...] = ("approve", "auto")


class Book(Protocol):
    """What is needed of the policies: their settings in force."""

    def settings(self) -> Sequence[Settings]:
        """List them."""


def tell_lacking(store: Store, book: Book, providers: Mapping[str, Provider], default: Mode | None) -> None:
    """Log what each cloud's credentials lack, and have needlessly. Blocks; never raises for a cloud or database."""
    try:
        jobs = store.jobs.all()
    except StoreError as error:
        log.warning("the jobs could not be read to check permissions for", error=str(error))
        return
    settings = {one.name: one for one in book.settings()}
    for name, provider in providers.items():
        if not hasattr(provider, "lacking"):
            continue
        subjects = [
            Subject(job.target, job.recipe, acts(job, settings.get(job.policy), default))
            for job in jobs
            if job.target is not None and job.target.provider == name
        ]
        try:
            lacking = cast(Permitted, provider).lacking(subjects)
        except ProviderError as error:
            log.warning("permissions could not be checked", provider=name, error=str(error))
            continue
        if lacking:
            log.warning("permissions are missing - grant them, see deploy/iam", provider=name, missing=list(lacking))
        else:
            log.info("no permission is known to be missing", provider=name, targets=len(subjects))
        if hasattr(provider, "excess"):
            _tell_excess(name, cast(Bounded, provider))


def _tell_excess(name: str, provider: Bounded) -> None:
    try:
        excess = provider.excess()
    except ProviderError as error:
        log.warning("needless permissions could not be looked for", provider=name, error=str(error))
        return
    if excess:
        log.warning("permissions are there that are never needed - take them away", provider=name, excess=list(excess))


def acts(job: Job, settings: Settings | None, default: Mode | None) -> bool:
    """Whether anything may be done to a job's target, now or after a person's word."""
    if job.mode is not None:
        return job.mode in _ACTS
    if settings is None:
        return default in _ACTS
    return any(settings.trust.of(kind) in _ACTS for kind in _KINDS)
