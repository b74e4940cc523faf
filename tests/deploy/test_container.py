"""The container image: linted, without rights, built of all that it needs, and watched by a check that can tell."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from daemon import config as configuration
from tests.deploy import dockerfile
from tests.deploy.conftest import Served

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "container"


def tool(name: str) -> str:
    """Find a program of the dev extra beside the interpreter."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, f"{name} is missing - install the dev extra"
    return found


def test_the_linter_finds_nothing() -> None:
    ran = subprocess.run(
        [tool("hadolint"), str(dockerfile.DOCKERFILE)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_linter_can_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN sudo true\n")
    ran = subprocess.run([tool("hadolint"), str(tmp_path / "Dockerfile")], capture_output=True, timeout=60, check=False)
    assert ran.returncode != 0


def test_it_runs_as_nobody_with_rights_and_writes_its_state_only() -> None:
    stage = dockerfile.last_stage()
    words = dict(stage)
    user, _, group = words["USER"].partition(":")
    assert int(user) >= 10000
    assert int(group) >= 10000
    assert words["VOLUME"] == "/var/lib/scaleahead"
    assert [word for word, _ in stage[-6:]] == ["USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"]
    assert not [rest for word, rest in stage if word == "RUN" and re.search(r"\b(pip|apt|apk)\b", rest)]


def test_every_install_is_held_to_the_tested_versions() -> None:
    installs = [
        rest for word, rest in dockerfile.instructions() if word == "RUN" and " install " in rest and "pip" in rest
    ]
    assert len(installs) == 2
    assert all("-c constraints.txt" in one for one in installs)
    tested = re.search(r"^torch==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert tested is not None
    # The copy of the interpreter's version in a path is the base image's.
    base = re.findall(r"FROM python:(\d\.\d+)", dockerfile.DOCKERFILE.read_text())
    assert set(re.findall(r"lib/python(\d\.\d+)", dockerfile.DOCKERFILE.read_text())) <= set(base)


def test_its_environment_and_port_are_the_daemons() -> None:
    given = dockerfile.environment()
    known = {f"SCALEAHEAD_{name.upper()}" for name in configuration.Config.model_fields}
    assert {name for name in given if name.startswith("SCALEAHEAD_")} <= known
    read = configuration.read(None, given)
    assert str(read.directory) == "/var/lib/scaleahead"
    assert (read.host, read.log) == ("0.0.0.0", "json")
    assert dict(dockerfile.last_stage())["EXPOSE"] == str(read.port)
    assert alive().__dict__["SECONDS"] < 5


def copied(into: Path) -> Path:
    """Copy what the build stage copies, as the ignore file lets it."""
    for word, rest in dockerfile.instructions():
        if word == "FROM" and " AS " not in rest:
            break
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                place = into / (source if target == "./" else target)
                place.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / source).is_dir():
                    hidden = shutil.ignore_patterns("__pycache__", "*.egg-info", "client")
                    shutil.copytree(ROOT / source, place, ignore=hidden, symlinks=True)
                else:
                    shutil.copy(ROOT / source, place)
    return into


def test_the_build_gets_all_that_the_daemon_is_made_of(tmp_path: Path) -> None:
    """Only what is copied stands here: every module loads, and every data file that the package names is there."""
    here = copied(tmp_path)
    project = tomllib.loads((here / "pyproject.toml").read_text())
    for package, patterns in project["tool"]["setuptools"]["package-data"].items():
        for pattern in patterns:
            assert list((here / package).glob(pattern)), f"{package}/{pattern}"
    assert (here / project["project"]["readme"]).is_file()
    loads = "import api.main, api.cli, api.demo.run, daemon, policies, providers\n"
    loads += "print([m.__file__ for m in (api, daemon, policies, providers)])"
    ran = subprocess.run(
        [sys.executable, "-c", loads], capture_output=True, text=True, timeout=60, check=False, cwd=here,
        env={**os.environ, "PYTHONPATH": str(here)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(str(here)) == 4


def test_what_is_copied_is_installed_as_the_build_installs_it(tmp_path: Path) -> None:
    """pip makes the package of what is copied, and nothing else is there; what it depends on is left out."""
    here = copied(tmp_path / "build")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    command += ["--target", str(tmp_path / "site"), "."]
    ran = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    installed = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*") if path.is_file()}
    source = {str(path.relative_to(here)) for name in ("api", "daemon", "policies", "providers")
              for path in (here / name).rglob("*.py")}  # fmt: skip
    assert source <= installed
    assert {"api/dashboard/index.html", "daemon/forecast/weights/recurrent.safetensors", "bin/scaleahead"} <= installed


def test_the_context_holds_every_copied_file_and_little_else() -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    shown = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    sources = {
        source for word, rest in dockerfile.instructions() if word == "COPY" and "--from" not in rest
        for source in [part for part in rest.split() if not part.startswith("--")][:-1]
    }  # fmt: skip
    assert sources == shown


def alive() -> ModuleType:
    spec = importlib.util.spec_from_file_location("alive", FOLDER / "alive.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_health_check_tells_a_daemon_from_none(served: Served) -> None:
    health = dict(dockerfile.last_stage())["HEALTHCHECK"]
    program, script = json.loads(health[health.index("[") :])
    assert (program, Path(script).name) == ("python", "alive.py")
    for url, status in ((served.url, 0), ("https://127.0.0.1:1", 1), (served.url.replace("https", "http"), 1)):
        ran = subprocess.run(
            [sys.executable, str(FOLDER / "alive.py")], timeout=60, check=False, capture_output=True,
            env={**os.environ, "SCALEAHEAD_ALIVE_URL": url, "https_proxy": "http://127.0.0.1:1"},
        )  # fmt: skip
        assert (ran.returncode, ran.stderr) == (status, b""), url


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_the_image_serves_over_tls_as_composed(served: Served, path: str) -> None:
    assert json.loads(served.text(path))


def test_the_commands_trust_the_certificate_as_the_document_says(served: Served) -> None:
    command = [sys.executable, "-c", "from api.cli import main; main()", "job", "list", "--json"]
    reached = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "SCALEAHEAD_URL": served.url, "SCALEAHEAD_STATE_DIRECTORY": str(served.directory),
    }  # fmt: skip
    trusting = {**reached, "SSL_CERT_FILE": str(served.directory / "tls" / "tls.crt")}
    for environment, status in ((trusting, 0), (reached, 1)):
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        assert ran.returncode == status, ran.stderr
