"""Edge: whether a command line written in a document or file is one that the real commands take."""

import inspect
from collections.abc import Sequence
from typing import Any

from typer.main import get_command

from api.cli import app


def check(words: Sequence[str]) -> None:
    """Follow the words of a ``scaleahead`` command down to one that exists and takes its options; else fail."""
    program, *rest = words
    assert program == "scaleahead", words
    here: Any = get_command(app)
    while rest and hasattr(here, "commands"):
        assert rest[0] in here.commands, f"there is no command {' '.join(words)}"
        here = here.commands[rest.pop(0)]
    assert not hasattr(here, "commands"), f"{' '.join(words)} is a group of commands"
    known = {option for parameter in here.params for option in parameter.opts}
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{' '.join(words)}: no option {word}"
    assert inspect.getdoc(here.callback)
