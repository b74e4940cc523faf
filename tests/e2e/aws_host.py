"""A control host for tests whose one provider is the emulated AWS."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from api.demo.stage import end
from daemon.store.open import open_store
from daemon.types import Job
from providers.clock import SystemClock
from tests.e2e.control_host import POLICY, ControlHost
from tests.emulators.aws import Emulator

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


class AwsHost(ControlHost):
    """A daemon pointed at the emulator. ``settings`` go over what its configuration says otherwise."""

    def __init__(
        self, directory: Path, cloud: Emulator, policy: str = POLICY.replace("aws/us-east-1/m5.xlarge", "aws/*"),
        settings: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(directory, policy)
        self._aws, self._settings = cloud, settings or {}

    def __enter__(self) -> "AwsHost":
        config = {
            "port": self.port, "state_directory": str(self.directory), "policies": [str(self.policy)],
            "providers": {"aws": {"region": "us-east-1", "endpoint": self._aws.url}}, "log": "json",
            "forecaster": "daemon.forecast.persist:Persist", "timing": {"turn_seconds": 1.0}, **self._settings,
        }  # fmt: skip
        with (self.directory / "config.yaml").open("w") as file:
            YAML().dump(config, file)
        return self

    def __exit__(self, *_: object) -> None:
        end(self.daemon)

    def keep(self, *jobs: Job) -> None:
        """Put jobs on record."""
        store = open_store(self.directory / "scaleahead.sqlite", SystemClock())
        for job in jobs:
            store.jobs.add(job)
        store.close()

    def add(self, **job: object) -> None:
        """Register a job."""
        status, answer = self.ask("POST", "/v1/jobs", job)
        assert status == 201, answer

    def decisions(self, job: str) -> list[dict[str, Any]]:
        """The decisions of a job, the newest first."""
        found: list[dict[str, Any]] = self.ask("GET", f"/v1/jobs/{job}/decisions")[1]["decisions"]
        return found
