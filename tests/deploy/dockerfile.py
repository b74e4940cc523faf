"""Pure decisions: the instructions of a Dockerfile, read as its builder reads them."""

import json
import re
import shlex
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "deploy" / "container" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """List ``(instruction, rest)`` in order, with continued lines joined and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word]


def last_stage() -> list[tuple[str, str]]:
    """List the instructions that the image itself is made by."""
    found = instructions()
    start = max(i for i, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def environment() -> dict[str, str]:
    """Give what the image sets in its environment."""
    pairs = [shlex.split(rest) for word, rest in last_stage() if word == "ENV"]
    return {name: value for words in pairs for name, _, value in (word.partition("=") for word in words)}


def command() -> list[str]:
    """Give the words that the image runs if it is told nothing else."""
    found = dict(last_stage())
    return [*json.loads(found["ENTRYPOINT"]), *json.loads(found["CMD"])]
