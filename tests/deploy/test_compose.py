"""The compose file: its form, its settings, its command, and what its containers may do."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyCompose
from ruamel.yaml import YAML

from daemon import config as configuration
from policies.config import load
from tests.deploy import dockerfile

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
TEXT = (FOLDER / "compose.yaml").read_text()


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(TEXT)["services"][name]
    return found


def test_it_is_of_the_form_that_compose_takes() -> None:
    assert PyCompose.from_yaml(TEXT).service_names() == ["database", "daemon"]
    with pytest.raises(ValueError, match="read_onl"):
        PyCompose.from_yaml(TEXT.replace("read_only:", "read_onl:"))


def test_the_daemon_is_told_what_it_knows() -> None:
    daemon = service("daemon")
    given = {key: value for key, value in daemon["environment"].items() if key.startswith("SCALEAHEAD_")}
    assert set(given) <= {f"SCALEAHEAD_{name.upper()}" for name in configuration.Config.model_fields}
    read = configuration.read(str(FOLDER / "config.yaml"), {**dockerfile.environment(), **given})
    assert read.database_url.startswith("postgresql://scaleahead@database/")
    assert read.tls is not None
    # What the configuration names lies in what is mounted, and is not to be written.
    mounts = dict(volume.split(":", 1) for volume in daemon["volumes"])
    for path in (read.tls.certificate, read.tls.key, *read.policies):
        (target,) = (t for t in mounts.values() if path.startswith(t.removesuffix(":ro") + "/"))
        assert target.endswith(":ro")
    assert mounts["./config.yaml"].removesuffix(":ro") == daemon["command"][-1] == dockerfile.command()[-1]
    assert ["scaleahead", *daemon["command"]] == dockerfile.command()
    assert mounts["state"] == str(read.directory)


def test_the_shipped_policy_is_sound_and_only_recommends() -> None:
    (rules,), problems = load((FOLDER / "policies" / "policies.yaml").read_bytes(), "policies.yaml")
    assert problems == ()
    assert rules.trust.of("change_machine") == "recommend"


def test_the_daemon_may_do_no_more_than_it_needs() -> None:
    daemon = service("daemon")
    assert daemon["read_only"] is True
    assert daemon["cap_drop"] == ["ALL"]
    assert not {"privileged", "cap_add", "user", "devices", "network_mode", "pid"} & set(daemon)
    for name in ("daemon", "database"):
        assert "no-new-privileges:true" in service(name)["security_opt"]
        assert "latest" not in service(name)["image"]
    # Nothing but this host reaches it, and nothing but the daemon the database.
    assert all(port.startswith("127.0.0.1:") for port in daemon["ports"])
    assert "ports" not in service("database")
    assert service("database")["networks"] == ["inside"]
    assert YAML(typ="safe").load(TEXT)["networks"]["inside"]["internal"] is True


def test_no_password_is_in_it() -> None:
    for name in ("daemon", "database"):
        for key, value in service(name)["environment"].items():
            if "PASSWORD" in key:
                assert re.fullmatch(r"\$\{DATABASE_PASSWORD:\?[^}]+\}", value)


def test_the_database_is_waited_for() -> None:
    assert service("daemon")["depends_on"]["database"]["condition"] == "service_healthy"
    words = service("database")["healthcheck"]["test"]
    assert shlex.join(words[1:]) == "pg_isready --username=scaleahead --dbname=scaleahead"
