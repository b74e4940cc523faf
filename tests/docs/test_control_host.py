"""The document on control hosts: its commands and files are there, and its secrets are those that the files ask for."""

import re
import shlex
from pathlib import Path

import hcl2
from ruamel.yaml import YAML

from tests.deploy.words import check
from tests.docs.commands import FOLDER, blocks

ROOT = FOLDER.parent
TEXT = (FOLDER / "how-to" / "control-host.md").read_text()


def lines() -> list[list[str]]:
    """Split every command into words."""
    text = "".join(blocks("how-to/control-host.md", "sh")).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.strip()]


def test_every_command_of_ours_is_there() -> None:
    ours = [words for words in lines() if words[0] == "scaleahead"]
    named = [shlex.split(command) for command in re.findall(r"`(scaleahead [a-z][^`]*)`", TEXT)]
    assert len(ours + named) >= 2
    for words in ours + named:
        check(words)


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"\bdeploy/[\w./-]+\w", TEXT))
    assert {"deploy/kubernetes", "deploy/compose", "deploy/terraform/aws", "deploy/prometheus/prometheus.yaml"} <= named
    for path in named:
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (FOLDER / "how-to" / link).is_file(), link


def test_the_secrets_are_those_that_the_pods_ask_for() -> None:
    base = (ROOT / "deploy" / "kubernetes" / "deployment.yaml").read_text()
    (deployment,) = [one for one in YAML(typ="safe").load_all(base) if one]
    pod = deployment["spec"]["template"]["spec"]
    asked = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    reference = pod["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]
    made = {words[words.index("secret") + 2]: words for words in lines() if "secret" in words}
    assert set(made) == asked | {reference["name"]}
    (literal,) = (word for word in made[reference["name"]] if word.startswith("--from-literal="))
    assert literal.startswith(f"--from-literal={reference['key']}=")


def test_compose_is_given_the_password_it_asks_for() -> None:
    wanted = set(re.findall(r"\$\{(\w+):\?", (ROOT / "deploy" / "compose" / "compose.yaml").read_text()))
    assert wanted == set(re.findall(r'echo "(\w+)=\$\(openssl rand -hex 24\)" > \.env', TEXT))


def test_the_module_is_called_with_what_it_needs() -> None:
    (block,) = re.findall(r"^```hcl\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (module,) = hcl2.loads(block)["module"]
    given = set(module['"scaleahead"']) - {"source", "__is_block__"}
    text = Path(ROOT / "deploy" / "terraform" / "aws" / "variables.tf").read_text()
    needed = {
        name.strip('"')
        for one in hcl2.loads(text)["variable"]
        for name, body in one.items()
        if isinstance(body, dict) and "default" not in body
    }
    assert given == needed == {"subnet_id", "package"}
