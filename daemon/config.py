"""Edge: the daemon's configuration, from a YAML file and the environment (``SCALEAHEAD_*``, the environment wins)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


class ConfigError(Exception):
    """The configuration cannot be used. ``str()`` is one line that says what to mend."""


class Timing(BaseModel):
    """Intervals in seconds of the daemon's clock."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    poll_seconds: Seconds = 30.0
    turn_seconds: Seconds = 30.0
    look_seconds: Seconds = 5.0
    repeat_seconds: Seconds = 30.0
    lease_seconds: Seconds = 15.0
    forecast_seconds: Seconds = 10.0
    stop_seconds: Seconds = 30.0
    boot_seconds: Seconds = 120.0
    restart_seconds: Seconds = 60.0
    checkpoint_seconds: Seconds = 30.0
    restore_seconds: Seconds = 60.0
    patience: Annotated[float, Field(ge=0.1, le=100, allow_inf_nan=False)] = 1.0


class ClockScale(BaseModel):
    """A clock that runs faster than the host's: for a simulated cloud only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    rate: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 1.0
    origin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class Tls(BaseModel):
    """Certificate and key files, for an address other than loopback."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    certificate: str
    key: str


class Config(BaseModel):
    """Everything ``scaleahead serve`` can be told."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8642
    database: str = ""
    state_directory: str = ""
    policies: tuple[str, ...] | list[str] = ()
    providers: dict[str, dict[str, object]] = {}
    development: bool = False
    open_read: bool = False
    default_mode: Literal["observe", "recommend", "approve", "auto"] | None = None
    forecaster: str = "daemon.forecast.ensemble:Recurrent"
    refine_by_reward: bool = False
    timing: Timing = Timing()
    clock: ClockScale = ClockScale()
    tls: Tls | None = None
    hook_ca: str = ""
    log: Literal["json", "console"] = "console"
    record_days: Annotated[float, Field(ge=1, le=36500, allow_inf_nan=False)] = 90.0

    @property
    def directory(self) -> Path:
        """Where the database, the token file and the policy files live unless named otherwise."""
        if self.state_directory:
            return Path(self.state_directory).expanduser()
        base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return Path(base).expanduser() / "scaleahead"

    @property
    def database_url(self) -> str:
        """The store's URL."""
        return self.database or f"sqlite:///{self.directory / 'scaleahead.sqlite'}"


_FROM_ENVIRONMENT = ("host", "database", "state_directory", "log", "forecaster")


def read(path: str | None, environment: Mapping[str, str]) -> Config:
    """Read the configuration. Raises ``ConfigError`` with the file and the field that is wrong."""
    values: dict[str, object] = {}
    if path is not None:
        try:
            loaded = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}) - name an existing file") from None
        except (YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())[:160]})") from None
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(f"{path}: must be a mapping of settings, not a {type(loaded).__name__}")
        values.update(loaded or {})
    for name in _FROM_ENVIRONMENT:
        given = environment.get(f"SCALEAHEAD_{name.upper()}")
        if given:
            values[name] = given
    if environment.get("SCALEAHEAD_PORT"):
        values["port"] = _port(environment["SCALEAHEAD_PORT"])
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"{path or 'environment'}: {where}: {first['msg']}") from None


def _port(text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"SCALEAHEAD_PORT must be a number from 0 to 65535, not {text!r}")
    return int(text)
