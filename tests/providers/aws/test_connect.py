"""Options of the provider."""

from pathlib import Path

import pytest

from providers.aws.provider import Aws, connect
from providers.base import Inventory
from providers.errors import Invalid, NotPermitted
from providers.registry import connect_all
from providers.types import Target


def test_it_is_an_installed_kind():
    (found,) = connect_all({"aws": {"region": "us-east-1"}}).values()
    assert isinstance(found, Aws)
    labelled: Inventory = found
    assert labelled


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"region": "us-east-1", "contexts": {"research": 3}, "kubeconfig": "x"}, "contexts of provider 'aws' gives"),
        ({"region": "us-east-1", "contexts": {"research": "c"}}, "has contexts and no kubeconfig"),
        ({"region": "us-east-1", "contexts": {"research": "c"}, "kubeconfig": "/none"}, "/none: cannot be read"),
        ({"region": "us-east-1", "kubeconfig": "/none"}, "/none: cannot be read"),
        ({}, "needs region"),
        ({"region": 3}, "needs region"),
        (
            {"region": "us-east-1", "zone": "a"},
            "has no option zone - it has region, endpoint, profile, kubeconfig, contexts",
        ),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, object], text: str):
    with pytest.raises(Invalid, match=text):
        connect("aws", options)


def test_without_credentials_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    provider = connect("aws", {"region": "us-east-1"})
    with pytest.raises(NotPermitted, match="configure credentials for AWS"):
        provider.describe(Target("aws", "vm", "i-1", "us-east-1a"))
