"""The configuration: what it takes, and one clear line for what it does not."""

from pathlib import Path

import pytest

from daemon.config import Config, ConfigError, read


def test_defaults_bind_loopback_and_keep_state_at_home(tmp_path: Path) -> None:
    config = read(None, {})
    assert (config.host, config.port) == ("127.0.0.1", 8642)
    assert config.database_url.startswith("sqlite:///")
    assert config.directory.name == "scaleahead"
    assert not config.development


def test_a_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"port: 9000\nstate_directory: {tmp_path}\ntiming: {{poll_seconds: 10.0}}\n")
    config = read(str(path), {"SCALEAHEAD_PORT": "9001", "SCALEAHEAD_FORECASTER": "a:B"})
    assert config.port == 9001
    assert config.forecaster == "a:B"
    assert config.timing.poll_seconds == 10.0
    assert config.directory == tmp_path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot: 1\n", "prot"),
        ("port: 99999\n", "port"),
        ("port: '8642'\n", "port"),
        ("timing: {poll_seconds: -1.0}\n", "timing.poll_seconds"),
        ("timing: {poll_seconds: .nan}\n", "timing.poll_seconds"),
        ("- a list\n", "mapping"),
        ("port: [\n", "YAML"),
        ("development: yess\n", "development"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_field(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(str(path), {})
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_wrong_port_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read(str(tmp_path / "none.yaml"), {})
    with pytest.raises(ConfigError, match="SCALEAHEAD_PORT"):
        read(None, {"SCALEAHEAD_PORT": "many"})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().port = 1  # type: ignore[misc]
