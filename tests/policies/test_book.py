"""The book of policies: last good versions, atomic swaps, writing, watching."""

import asyncio
from pathlib import Path

import pytest

from policies.book import PolicyBook, UnknownPolicy
from policies.config import Problem

GOOD = "scaleahead: 1\npolicies:\n  # mine\n  a: {moves: {max_per_hour: 1}}\n  b:\n    kind: reactive  # for b\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(GOOD)
    return path


def rate(book: PolicyBook, name: str) -> int:
    return book.get(name)[0].moves.max_per_hour


def test_without_files_there_is_the_built_in_policy():
    book = PolicyBook()
    found, policy = book.get("default")
    assert (found.kind, found.trust.default, policy.foresees) == ("cost_per_progress", "recommend", True)
    assert book.put("default", "kind: reactive")[0].message.startswith("there is no policy file")


def test_an_unknown_name_says_which_are_known(file: Path):
    with pytest.raises(UnknownPolicy, match="no policy is named 'c' - known are a, b, default"):
        PolicyBook(file).get("c")


def test_a_bad_edit_keeps_the_last_good_version_and_says_where(file: Path):
    book = PolicyBook([file])
    file.write_text(GOOD.replace("max_per_hour: 1", "max_per_hour: many"))
    problems = book.reload()
    assert str(problems[0]).startswith(f"{file}:4:29: ")
    assert rate(book, "a") == 1
    assert book.problems == tuple(problems)
    file.write_text(GOOD.replace("max_per_hour: 1", "max_per_hour: 3"))
    assert book.reload() == []
    assert rate(book, "a") == 3


def test_an_empty_or_missing_file_keeps_the_last_good_version(file: Path):
    book = PolicyBook(file)
    file.write_text("")
    assert "empty" in book.reload()[0].message
    file.unlink()
    assert "cannot be read" in book.reload()[0].message
    assert book.names() == ("a", "b", "default")


def test_a_file_that_was_never_good_gives_the_built_in_policy_only(tmp_path: Path):
    book = PolicyBook(tmp_path / "none.yaml")
    assert book.problems
    assert book.names() == ("default",)


def test_a_policy_taken_out_of_its_file_is_gone(file: Path):
    book = PolicyBook(file)
    file.write_text("scaleahead: 1\npolicies: {a: {}}\n")
    book.reload()
    assert book.names() == ("a", "default")


def test_a_file_taken_out_of_its_directory_takes_its_policies_along(file: Path):
    book = PolicyBook(file.parent)
    assert "a" in book.names()
    file.unlink()
    assert book.reload() == []
    assert book.names() == ("default",)


def test_a_name_in_two_files_is_a_problem_and_the_first_stays(file: Path):
    (file.parent / "z.yaml").write_text("scaleahead: 1\npolicies: {a: {moves: {max_per_hour: 9}}}\n")
    book = PolicyBook(file.parent)
    assert rate(book, "a") == 1
    assert "stands in another file too" in book.problems[0].message


def test_an_unchanged_file_is_not_read_into_new_pages(file: Path):
    book = PolicyBook(file)
    before = book.get("a")
    book.reload()
    assert book.get("a")[0] is before[0]


def test_put_replaces_one_policy_and_keeps_the_comments(file: Path):
    book = PolicyBook(file)
    assert book.put("a", "moves: {max_per_hour: 4}") == []
    assert rate(book, "a") == 4
    text = file.read_text()
    assert "# for b" in text
    assert PolicyBook(file).get("a")[0].version == book.get("a")[0].version
    assert [one.name for one in file.parent.iterdir()] == ["policies.yaml"]


def test_put_takes_a_whole_file_too(file: Path):
    book = PolicyBook(file)
    assert book.put("c", "scaleahead: 1\npolicies:\n  c: {kind: reactive}\n") == []
    assert book.get("c")[0].kind == "reactive"
    assert "no other" in book.put("c", "scaleahead: 1\npolicies:\n  d: {}\n")[0].message


def test_put_makes_a_file_in_a_directory(tmp_path: Path):
    book = PolicyBook(tmp_path)
    assert book.put("new", "kind: cost_per_hour") == []
    assert (tmp_path / "new.yaml").exists()
    assert book.get("new")[0].kind == "cost_per_hour"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a", "moves:\n  max_per_hour: many", Problem("a", 2, 17, "")),
        ("a", "moves: [", Problem("a", 1, 9, "")),
        ("../a", "kind: reactive", Problem("../a", 1, 1, "")),
    ],
)
def test_put_refuses_with_the_place_in_what_was_put(file: Path, name: str, text: str, expected: Problem):
    problems = PolicyBook(file).put(name, text)
    assert (problems[0].file, problems[0].line, problems[0].column) == (expected.file, expected.line, expected.column)
    assert file.read_text() == GOOD


def test_put_does_not_touch_a_file_that_is_broken(file: Path):
    book = PolicyBook(file)
    file.write_text("scaleahead: 1\npolicies: {a: {kind: x}}\n")
    assert book.put("b", "kind: reactive")
    assert "kind: x" in file.read_text()


@pytest.mark.parametrize("way", ["write", "replace", "link"])
async def test_an_edit_takes_effect_within_two_seconds(tmp_path: Path, way: str):
    first, second = tmp_path / "one" / "p.yaml", tmp_path / "two" / "p.yaml"
    first.parent.mkdir()
    second.parent.mkdir()
    first.write_text(GOOD)
    second.write_text(GOOD.replace("max_per_hour: 1", "max_per_hour: 3"))
    path = tmp_path / "p.yaml"
    path.symlink_to(first)
    book = PolicyBook(path)
    heard = asyncio.Event()
    watching = asyncio.create_task(book.watch(lambda problems: heard.set()))
    try:
        match way:
            case "write":
                first.write_text(second.read_text())
            case "replace":
                second.replace(path)
            case _:
                (tmp_path / "new").symlink_to(second)
                (tmp_path / "new").replace(path)
        await asyncio.wait_for(heard.wait(), 2)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert rate(book, "a") == 3
