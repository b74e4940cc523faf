"""The Terraform modules: well-formed, every name leads somewhere, and what they install is what the daemon takes."""

import re
import shutil
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import hcl2
import pytest
from lark.exceptions import LarkError
from ruamel.yaml import YAML

from daemon import config as configuration
from policies.config import load
from providers import registry

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "terraform"
CLOUDS = ("aws", "gcp")
LEVELS = {"read-only", "in-place", "replace"}
USER_DATA_BYTES = 16 * 1024
"""What EC2 takes at most."""


def plain(value: Any) -> Any:
    """Take the quotes off texts, as the parser leaves them on."""
    if isinstance(value, dict):
        return {plain(key): plain(one) for key, one in value.items() if key != "__is_block__"}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value[1:-1] if isinstance(value, str) and value.startswith('"') else value


def text(cloud: str) -> str:
    return "\n".join(path.read_text() for path in sorted((FOLDER / cloud).glob("*.tf")))


def parsed(cloud: str) -> dict[str, Any]:
    """Parse every file of a module; blocks of one kind come together."""
    found: dict[str, Any] = {}
    for path in sorted((FOLDER / cloud).glob("*.tf")):
        for kind, blocks in plain(hcl2.loads(path.read_text())).items():
            found.setdefault(kind, []).extend(blocks)
    return found


def variables(cloud: str) -> dict[str, Any]:
    return {name: body for one in parsed(cloud)["variable"] for name, body in one.items()}


def things(cloud: str, kind: str) -> dict[str, Any]:
    """Give resources or data as ``type.name``."""
    return {
        f"{sort}.{name}": body
        for one in parsed(cloud).get(kind, [])
        for sort, named in one.items()
        for name, body in named.items()
    }


def code(cloud: str) -> str:
    """Give the text without comments and without texts, but with what stands inside ``${...}`` of these."""
    bare = re.sub(r"^\s*#.*$", "", text(cloud), flags=re.MULTILINE)
    return re.sub(r'"(?:[^"\\]|\\.)*"', lambda m: " ".join(re.findall(r"\$\{([^}]*)\}", m[0])), bare)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_variable_is_described_and_used(cloud: str) -> None:
    known = variables(cloud)
    assert set(re.findall(r"\bvar\.(\w+)", code(cloud))) == set(known)
    for name, body in known.items():
        assert {"description", "type"} <= set(body), name
    for one in parsed(cloud)["output"]:
        for name, body in one.items():
            assert set(body) == {"description", "value"}, name


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_name_leads_to_something(cloud: str) -> None:
    prefix = {"aws": "aws", "gcp": "google"}[cloud]
    source = code(cloud)
    assert set(re.findall(rf"\bdata\.({prefix}_\w+\.\w+)", source)) == set(things(cloud, "data"))
    used = set(re.findall(rf"(?<!data\.)\b({prefix}_\w+\.\w+)\.\w+", source))
    assert used <= set(things(cloud, "resource"))
    (local,) = parsed(cloud)["locals"]
    assert set(re.findall(r"\blocal\.(\w+)", source)) == set(local)
    for path in re.findall(r'file\("\$\{path\.module\}/([^"]+)"', text(cloud)):
        for level in LEVELS if "${var.permissions}" in path else [""]:
            assert (FOLDER / cloud / path.replace("${var.permissions}", level)).is_file(), path


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_role_is_one_of_those_shipped_and_the_weakest_unless_told(cloud: str) -> None:
    body = variables(cloud)["permissions"]
    assert body["default"] == "read-only"
    (rule,) = body["validation"]
    assert set(re.findall(r'"([a-z-]+)"', rule["condition"])) == LEVELS
    assert {path.stem for path in (ROOT / "deploy" / "iam" / cloud).iterdir()} == LEVELS
    # A wildcard of actions, or a role of Google's own that can change machines, would void the files.
    assert not re.search(r"roles/(owner|editor|compute)", text(cloud))
    assert not re.search(r'Action\s*=\s*\["[^"]*\*', text(cloud))


def test_nothing_is_let_in() -> None:
    group = things("aws", "resource")["aws_security_group.host"]
    assert "egress" in group
    assert "ingress" not in group
    instance = things("aws", "resource")["aws_instance.host"]
    assert instance["metadata_options"][0]["http_tokens"] == "required"
    assert instance["root_block_device"][0]["encrypted"] is True
    firewall = things("gcp", "resource")["google_compute_firewall.tunnel"]
    assert firewall["source_ranges"] == ["35.235.240.0/20"]
    assert firewall["allow"] == [{"protocol": "tcp", "ports": ["22"]}]
    assert "access_config" not in str(things("gcp", "resource")["google_compute_instance.host"]["network_interface"])


def given(cloud: str) -> dict[str, Any]:
    """Work out what the module gives to the installation, for an account and region of the test."""
    (local,) = parsed(cloud)["locals"]
    call = r'\$\{templatefile\("\$\{path\.module\}/\.\./install\.sh\.tftpl", (\{.*\})\)\}'
    found = re.fullmatch(call, local["install"])
    assert found is not None
    wanted = re.search(r"config = yamlencode\((.*?)\), policies = ", found[1])
    assert wanted is not None
    keys = set(re.findall(r"[{,] ?(\w+) = ", found[1].replace(wanted[1], "")))
    value = re.sub(r"\b(var\.project|data\.aws_region\.here\.\w+)", '"us-east-1"', wanted[1])
    return {"keys": keys, "config": plain(hcl2.loads(f"x = {value}\n"))["x"]}


def script(cloud: str) -> str:
    """Render the installation as Terraform's ``templatefile`` does."""
    written = StringIO()
    YAML(typ="safe", pure=True).dump(given(cloud)["config"], written)
    parts = {
        "pip_options": "--quiet",
        "config": written.getvalue(),
        "policies": (ROOT / "deploy/compose/policies/policies.yaml").read_text(),
        "constraints": (ROOT / "constraints.txt").read_text(),
        "unit": (ROOT / "deploy/systemd/scaleahead.service").read_text(),
        "package": "git+https://example.org/scaleahead@v1",
    }
    template = (FOLDER / "install.sh.tftpl").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", template)) == set(parts) == given(cloud)["keys"]
    return re.sub(r"\$\{(\w+)\}", lambda m: parts[m[1]], template)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_is_installed_is_what_the_daemon_takes(cloud: str, tmp_path: Path) -> None:
    whole = script(cloud)
    assert len(whole.encode()) < USER_DATA_BYTES
    subprocess.run(["bash", "-n"], input=whole, text=True, check=True, timeout=20)
    files = dict(re.findall(r"^cat > (\S+) <<'END_OF_FILE'\n(.*?)\nEND_OF_FILE$", whole, re.MULTILINE | re.DOTALL))
    assert len(files) == 4
    (tmp_path / "config.yaml").write_text(files["/etc/scaleahead/config.yaml"])
    read = configuration.read(str(tmp_path / "config.yaml"), {})
    assert list(read.policies) == ["/etc/scaleahead/policies.yaml"]
    assert read.host == "127.0.0.1"
    assert list(registry.connect_all(read.providers)) == [cloud]
    _, problems = load(files[read.policies[0]].encode(), "policies.yaml")
    assert problems == ()
    unit = files["/etc/systemd/system/scaleahead.service"]
    command = re.search(r"^ExecStart=(\S+)/bin/scaleahead .*--config (\S+)$", unit, re.MULTILINE)
    assert command is not None
    assert f"python3 -m venv {command[1]}\n" in whole
    assert command[2] in files


def test_they_are_in_terraforms_own_form() -> None:
    """Two spaces a level and no blanks at the end; with terraform there, the whole of its form."""
    for path in FOLDER.rglob("*.tf"):
        lines = path.read_text().split("\n")
        assert lines[-1] == ""
        level = 0
        for number, line in enumerate(lines, 1):
            level -= line.strip()[:1] in ("}", "]", ")")
            if line:
                assert len(line) - len(line.lstrip()) == 2 * level, f"{path}:{number}"
            assert line == line.rstrip(), f"{path}:{number}"
            level += line.rstrip()[-1:] in ("{", "[", "(")
    if shutil.which("terraform"):
        command = ["terraform", "fmt", "-check", "-diff", "-recursive", str(FOLDER)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("wrong", ['resource "a" "b" {\n  x =\n}\n', 'resource "a" "b" {\n  x = 1\n', "}\n"])
def test_the_parser_refuses_what_is_wrong(wrong: str) -> None:
    with pytest.raises(LarkError):
        hcl2.loads(wrong)
