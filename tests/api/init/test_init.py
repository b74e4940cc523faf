"""``scaleahead init``: what it writes is what the daemon takes, and what it tries is only read."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.cli import run
from daemon import config as configuration
from policies.config import load
from providers import registry
from providers.clock import SystemClock
from providers.gcp import check as gcp_check
from tests.emulators import aws, gce

ROOT = Path(__file__).parents[3]
READS = {"aws": 12, "gcp": len(gcp_check.READS)}


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[aws.Emulator]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    emulator = aws.Emulator(SystemClock())
    emulator.start()
    yield emulator
    emulator.close()


@pytest.fixture
def google() -> Iterator[gce.Emulator]:
    emulator = gce.Emulator(SystemClock())
    emulator.start()
    yield emulator
    emulator.close()


def words(cloud: str, into: Path, *more: str, endpoint: str = "") -> list[str]:
    name = ["--region", "us-east-1"] if cloud == "aws" else ["--project", "test-project"]
    return ["init", cloud, *name, "--into", str(into), *(["--endpoint", endpoint] if endpoint else []), *more]


def is_sound(folder: Path, cloud: str, permissions: str = "read-only") -> None:
    """The daemon takes the configuration, its provider and its policy, and the permissions are those shipped."""
    suffix = {"aws": "json", "gcp": "yaml"}[cloud]
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "policies.yaml", f"iam-{permissions}.{suffix}"}
    read = configuration.read(str(folder / "config.yaml"), {})
    assert list(registry.connect_all(read.providers)) == [cloud]
    (policy,) = read.policies
    assert Path(policy) == folder / "policies.yaml"
    (rules,), problems = load(Path(policy).read_bytes(), policy)
    assert problems == ()
    assert rules.trust.of("change_machine") == "recommend"
    shipped = ROOT / "deploy" / "iam" / cloud / f"{permissions}.{suffix}"
    assert (folder / f"iam-{permissions}.{suffix}").read_bytes() == shipped.read_bytes()


def test_an_aws_account_is_set_up_and_only_read(
    amazon: aws.Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a folder" / "new"
    assert run(words("aws", folder, endpoint=amazon.url)) == 0
    is_sound(folder, "aws")
    told = capsys.readouterr()
    assert "AWS allows all of the 12 kinds of read that are made" in told.out
    assert f"next: scaleahead serve --config '{folder}/config.yaml'" in told.out
    assert told.err == ""
    assert len(amazon.calls) == READS["aws"]
    assert not {call.action for call in amazon.calls} & aws.MUTATIONS


def test_a_google_project_is_set_up_and_only_read(google: gce.Emulator, tmp_path: Path) -> None:
    assert run(words("gcp", tmp_path, "--permissions", "replace", endpoint=google.url)) == 0
    is_sound(tmp_path, "gcp", "replace")
    assert len(google.calls) == READS["gcp"]
    assert not {call.method for call in google.calls} & gce.MUTATIONS


def test_what_is_refused_is_named_and_the_same_command_goes_on(
    amazon: aws.Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amazon.fault(aws.Fault("DescribeSpot*", "UnauthorizedOperation", 403, times=2))
    asked = words("aws", tmp_path, "--json", endpoint=amazon.url)
    assert run(asked) == 1
    told = capsys.readouterr()
    reads = json.loads(told.out)["reads"]
    refused = {permission for permission, text in reads.items() if text is not None}
    assert refused == {"ec2:DescribeSpotInstanceRequests", "ec2:DescribeSpotPriceHistory"}
    assert told.err.count("\n") == 1
    for part in (*refused, "UnauthorizedOperation", str(tmp_path / "iam-read-only.json")):
        assert part in told.err
    is_sound(tmp_path, "aws")
    assert run(asked) == 0


def test_no_credentials_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert run(words("aws", tmp_path / "new")) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "AWS refuses every read" in told
    assert "configure credentials" in told


def test_a_cloud_that_cannot_be_asked_and_an_unknown_project_are_told(
    google: gce.Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    google.fault(gce.Fault("regions*", "notFound", 404))
    assert run(words("gcp", tmp_path, endpoint=google.url)) == 1
    assert "is the name right?" in capsys.readouterr().err
    assert run(words("gcp", tmp_path, "--force", endpoint="http://127.0.0.1:1")) == 1
    told = capsys.readouterr().err
    assert "Google Cloud cannot be asked" in told
    assert told.count("\n") == 1


def test_nothing_is_overwritten_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policies.yaml").write_text("mine")
    assert run(words("aws", tmp_path, "--no-check")) == 2
    told = capsys.readouterr().err
    advice = "name another folder with --into, or give --force"
    assert told == f"scaleahead: {tmp_path}/policies.yaml would be overwritten - {advice}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["policies.yaml"]
    assert (tmp_path / "policies.yaml").read_text() == "mine"
    assert run(words("aws", tmp_path, "--no-check", "--force")) == 0
    is_sound(tmp_path, "aws")
    assert run(words("aws", tmp_path, "--no-check")) == 0  # the same files again


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["aws", "--region", "us-est-1"], "there are for eu-west-1, us-east-1"),
        (["aws"], "Missing option '--region'"),
        (["gcp", "--project", "No Such"], "is no project id"),
        (["gcp", "--project", "test-project", "--permissions", "all"], "choose of in-place, read-only, replace"),
        (["gcp", "--project", "test-project", "--permissions", "../aws/replace"], "choose of"),
        (["azure"], "No such command 'azure'"),
        (["aws", "--region", "us-east-1", "--profile", ""], "needs region"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    asked: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = [] if asked == ["azure"] else ["--into", str(tmp_path / "new")]
    assert run(["init", *asked, *into]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.startswith("scaleahead: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(words("gcp", tmp_path / "file", "--no-check")) == 2
    assert "cannot be written" in capsys.readouterr().err
