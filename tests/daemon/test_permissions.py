"""At the start the log names what the credentials lack, for what may be done and no more."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon.permissions import acts, tell_lacking
from daemon.store.open import open_store
from daemon.types import Job
from policies.types import Mode, Settings, Trust
from providers.base import Subject
from providers.clock import VirtualClock
from providers.errors import NotPermitted, ProviderError
from providers.types import LaunchRecipe, Target
from tests.daemon.test_operate import NOW

VM = Target("aws", "vm", "i-1", "us-east-1a")
RECIPE = LaunchRecipe("trainer")
LOOKED_AT, MOVED = Settings("looked-at", "deadline", "1"), Settings("moved", "deadline", "1", trust=Trust("auto"))
BERT = Job("bert", NOW, "moved", hook="http://127.0.0.1:1/", target=VM, recipe=RECIPE)


@dataclass
class Cloud:
    """A provider that answers what it is told to."""

    answer: list[str] = field(default_factory=list)
    error: ProviderError | None = None
    asked: list[Subject] = field(default_factory=list)
    more: list[str] = field(default_factory=list)

    def lacking(self, subjects: Sequence[Subject]) -> list[str]:
        self.asked += subjects
        if self.error is not None:
            raise self.error
        return self.answer

    def excess(self) -> list[str]:
        return self.more


class Book:
    """The two policies."""

    def settings(self) -> tuple[Settings, ...]:
        return LOOKED_AT, MOVED


def told(folder: Path, cloud: Cloud, *jobs: Job) -> list[str]:
    """Run the check and give what was logged, each as its level and words."""
    store = open_store(folder / "s.sqlite", VirtualClock(NOW))
    for job in jobs:
        store.jobs.add(job)
    try:
        with capture_logs() as logs:
            tell_lacking(store, Book(), {"aws": cloud, "plain": object()}, None)  # type: ignore[dict-item]
    finally:
        store.close()
    return [
        f"{one['log_level']} {one['event']} {one.get('missing') or one.get('excess') or one.get('error') or ''}".strip()
        for one in logs
    ]


def test_each_job_of_a_cloud_is_asked_for_as_far_as_its_policy_lets_it_be_moved(tmp_path: Path):
    cloud = Cloud()
    other = replace(BERT, name="elsewhere", target=replace(VM, provider="plain"))
    looked = replace(BERT, name="gpt", policy="looked-at", target=replace(VM, id="i-2"), recipe=None)
    logs = told(tmp_path, cloud, BERT, looked, other, replace(BERT, name="nowhere", target=None))
    assert cloud.asked == [Subject(VM, RECIPE, True), Subject(replace(VM, id="i-2"), None, False)]
    assert logs == ["info no permission is known to be missing"]


def test_what_is_missing_is_named_and_a_cloud_that_cannot_tell_is_too(tmp_path: Path):
    assert told(tmp_path, Cloud(["ec2:StopInstances on i-1"]), BERT) == [
        "warning permissions are missing - grant them, see deploy/iam ['ec2:StopInstances on i-1']"
    ]
    logs = told(tmp_path, Cloud(more=["compute.instances.setMetadata"]))
    assert logs[1:] == [
        "warning permissions are there that are never needed - take them away ['compute.instances.setMetadata']"
    ]
    failing = Cloud(error=NotPermitted("configure credentials"))
    assert told(tmp_path, failing) == ["warning permissions could not be checked configure credentials"]


@pytest.mark.parametrize(
    ("mode", "settings", "default", "expected"),
    [
        (None, MOVED, None, True), (None, LOOKED_AT, None, False), ("auto", LOOKED_AT, None, True),
        ("observe", MOVED, None, False), (None, None, "approve", True), (None, None, None, False),
        (None, replace(LOOKED_AT, trust=Trust(release="approve")), None, True),
    ],
)  # fmt: skip
def test_a_job_may_be_moved_by_its_own_mode_else_by_its_policys(
    mode: Mode | None, settings: Settings | None, default: Mode | None, expected: bool
):
    assert acts(replace(BERT, mode=mode), settings, default) is expected
