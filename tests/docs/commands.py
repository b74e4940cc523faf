"""Pure decisions: the blocks of code in a document."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs"


def blocks(document: str, language: str) -> list[str]:
    """List the fenced blocks of a language in a document of ``docs``, without the indentation of their list."""
    text = (FOLDER / document).read_text("utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]
