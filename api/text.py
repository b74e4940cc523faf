"""Pure decisions: texts from outside, made safe for one line of a terminal or a log."""


def plain(text: object, most: int = 500) -> str:
    """Make one printable line of a text; what a terminal would act on becomes a space."""
    line = "".join(c if c.isprintable() else " " for c in str(text))
    return line if len(line) <= most else line[: most - 1] + "…"
