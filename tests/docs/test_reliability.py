"""`docs/reliability.md` against the tests: every fault is there, and so is every test that it names."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from p2pdl.failpoints import NAMES, switch
from tests.processes import ROOT

TEXT = (ROOT / "docs" / "reliability.md").read_text()
FAULTS = 50
MARKS = {"slow", "root"}

ROWS = {int(row[0]): row[1:] for row in re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+) \|$", TEXT, re.MULTILINE)}
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`(?: \(([a-z, ]+)\))?", TEXT)


@cache
def functions_of(file: str) -> dict[str, set[str]]:
    """The tests of a file by name, with those of their marks that say where or when they run."""
    tree = ast.parse((ROOT / file).read_text())
    whole = [node.value for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            words = " ".join(ast.unparse(each) for each in [*node.decorator_list, *whole])
            found[node.name] = {mark for mark in MARKS if f"pytest.mark.{mark}" in words}
    return found


def test_every_fault_has_a_row_with_an_outcome() -> None:
    assert list(ROWS) == list(range(1, FAULTS + 1))
    assert all(fault and outcome for fault, outcome, _ in ROWS.values())


@pytest.mark.parametrize("number", range(1, FAULTS + 1))
def test_row_names_a_test_or_says_why_there_is_none(number: int) -> None:
    shown_by = ROWS[number][2]
    assert re.match(r"`tests/[\w/]+\.py::\w+`|no test: ", shown_by)


@pytest.mark.parametrize("file, name, marks", NAMED, ids=[name for _, name, _ in NAMED])
def test_named_test_exists_and_is_marked_as_the_page_says(file: str, name: str, marks: str) -> None:
    assert name in functions_of(file), f"{file} has no {name}"
    assert functions_of(file)[name] == set(filter(None, marks.split(", ")))


def test_every_test_that_is_named_is_named_in_full() -> None:
    assert len(re.findall(r"tests/[\w/]+\.py::", TEXT)) == len(NAMED)
    assert "`::" not in TEXT


def test_failpoint_of_the_page_is_one() -> None:
    [switched] = re.findall(r'P2PDL_FAILPOINTS="([^"]+)"', TEXT)
    assert switched.partition("=")[0] in NAMES
    switch(switched)
    switch("")
