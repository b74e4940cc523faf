"""The reference names every route, with its scope, and every command, and nothing else."""

import re
from pathlib import Path

from api.cli import app as commands
from tests.api.test_auth import MATRIX

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_rest_names_every_route_with_its_scope():
    rows = re.findall(r"^\| `([A-Z]+) ([^`]+)` \| (\w+) \|", (REFERENCE / "rest.md").read_text(), re.MULTILINE)
    narrowest = ["read", "observe", "operate", "admin"]
    expected = {(v, p, next(s for s in narrowest if s in who) if who else "none") for v, p, who in MATRIX}
    assert set(rows) == expected


def test_commands_names_every_command():
    text = (REFERENCE / "commands.md").read_text()
    named = {
        m for row in re.findall(r"^\| (.+?) \|", text, re.MULTILINE) for m in re.findall(r"`([a-z][a-z -]*[a-z])", row)
    }
    there = {c.name or c.callback.__name__ for c in commands.registered_commands if c.callback}
    for group in commands.registered_groups:
        there |= {f"{group.name} {c.name}" for c in group.typer_instance.registered_commands}
    assert named == there
