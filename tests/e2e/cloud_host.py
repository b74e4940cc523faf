"""A control host for tests whose clouds are emulated ones, in the test's own process."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from ruamel.yaml import YAML

from api.demo.stage import end
from daemon.store.base import Store
from daemon.store.open import open_store
from daemon.types import Job
from providers.clock import SystemClock
from tests.e2e.control_host import POLICY, ControlHost

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


class CloudHost(ControlHost):
    """A daemon with these providers. ``settings`` go over what its configuration says otherwise."""

    def __init__(
        self,
        directory: Path,
        providers: Mapping[str, Mapping[str, object]],
        policy: str = POLICY.replace("aws/us-east-1/m5.xlarge", "aws/*"),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(directory, policy)
        self._providers, self._settings = providers, settings or {}

    def __enter__(self) -> "CloudHost":
        config = {
            "port": self.port, "state_directory": str(self.directory), "policies": [str(self.policy)],
            "providers": {name: dict(one) for name, one in self._providers.items()}, "log": "json",
            "forecaster": "daemon.forecast.persist:Persist", "timing": {"turn_seconds": 1.0}, **self._settings,
        }  # fmt: skip
        with (self.directory / "config.yaml").open("w") as file:
            YAML().dump(config, file)
        return self

    def __exit__(self, *_: object) -> None:
        end(self.daemon)

    def keep(self, *jobs: Job) -> None:
        """Put jobs on record."""
        with opened(self) as store:
            for job in jobs:
                store.jobs.add(job)

    def add(self, **job: object) -> None:
        """Register a job."""
        status, answer = self.ask("POST", "/v1/jobs", job)
        assert status == 201, answer

    def decisions(self, job: str) -> list[dict[str, Any]]:
        """The decisions of a job, the newest first."""
        found: list[dict[str, Any]] = self.ask("GET", f"/v1/jobs/{job}/decisions")[1]["decisions"]
        return found


class Asking(Protocol):
    """An emulated cloud that asks before each mutation, and keeps what it heard against one."""

    ask: Callable[..., str | None] | None
    complaints: list[str]


@contextlib.contextmanager
def opened(host: ControlHost) -> Iterator[Store]:
    """Open the daemon's store beside it."""
    store = open_store(host.directory / "scaleahead.sqlite", SystemClock())
    try:
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def asked_for_intents(cloud: Asking, host: ControlHost) -> Iterator[None]:
    """Have the cloud ask before each mutation whether it is on record that it is being made."""
    with opened(host) as store:

        def ask(action: str, told: object) -> str | None:
            calls = [call for one in store.actions.unfinished() for call in store.actions.calls(one.id)]
            return None if any(call.state == "sent" for call in calls) else f"{action} without an intent: {told}"

        cloud.ask = ask
        try:
            yield
        finally:
            cloud.ask = None
    assert cloud.complaints == []


def no_step_is_lost(host: ControlHost, job: str) -> None:
    """Each run of a job begins right after the last step of the one before, and there were several."""
    with opened(host) as store:
        spans = store.runs.spans(job)
    assert len(spans) >= 2
    for before, after in pairwise(spans):
        assert after.first_step == before.last_step + 1
