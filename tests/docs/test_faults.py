"""The table of faults in ``docs/safety.md`` and the tests that say which of them they prove are the same."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| ([ACD]\d+) \| [^|]+ \| `(tests/\S+\.py)` `(test_\w+)` \|$", re.MULTILINE)


def listed() -> list[tuple[str, str, str]]:
    """Read the rows of the page: id, file, test."""
    return ROW.findall((ROOT / "docs" / "safety.md").read_text())


def marked() -> Iterator[tuple[str, str, str]]:
    """Find every test that is marked with a fault."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text()
        if "mark.fault(" not in text:
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for one in node.decorator_list:
                    if isinstance(one, ast.Call) and ast.unparse(one.func) == "pytest.mark.fault":
                        for given in one.args:
                            yield ast.literal_eval(given), str(path.relative_to(ROOT)), node.name


def test_every_row_names_its_tests_and_every_mark_is_a_row():
    rows = listed()
    assert len(set(rows)) == len(rows)
    assert set(rows) == set(marked())


def test_no_fault_of_a_section_is_left_out():
    numbers: dict[str, set[int]] = {}
    for identity, _, _ in listed():
        numbers.setdefault(identity[0], set()).add(int(identity[1:]))
    assert numbers == {"A": set(range(1, 21)), "C": set(range(1, 23)), "D": set(range(1, 17))}
