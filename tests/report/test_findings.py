"""Findings written and read again: everything comes back, and what is no findings is named with its file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pdl.errors import StartupError
from p2pdl.report.findings import (
    FINDINGS_FILE,
    BarChart,
    Bars,
    CaseRecord,
    Findings,
    FoundTable,
    Histogram,
    LineChart,
    Promise,
    Sample,
    Series,
    as_json,
    read_findings,
    write_findings,
)
from tests.report.left_findings import case, findings, leave_findings, promise

TEXT = st.text(max_size=20) | st.sampled_from(["<script>", "a & b", "\x00", "$x$", "_", "\u202e", "中文", '"'])
FINITE = st.floats(allow_nan=False, allow_infinity=False)
NUMBER = st.none() | st.floats()
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)


def lists(of: st.SearchStrategy[Any], length: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(of, min_size=length, max_size=length)


@st.composite
def all_findings(draw: st.DrawFn) -> Findings:
    count = draw(st.integers(0, 3))
    series = st.builds(Series, TEXT, lists(FINITE, count), lists(NUMBER, count), st.booleans())
    bars = st.builds(Bars, TEXT, lists(NUMBER, count), st.booleans())
    sample = st.builds(Sample, TEXT, st.lists(FINITE, max_size=3))
    lines = st.builds(
        *(LineChart, TEXT, TEXT, TEXT, TEXT, TEXT, st.lists(series, max_size=2)),
        *(st.booleans(), st.booleans(), st.booleans(), NUMBER),
    )
    side_by_side = st.builds(
        BarChart, TEXT, TEXT, TEXT, TEXT, lists(TEXT, count), st.lists(bars, max_size=2), st.booleans(), NUMBER
    )
    histograms = st.builds(Histogram, TEXT, TEXT, TEXT, TEXT, st.lists(sample, max_size=2), st.booleans())
    tables = st.builds(
        FoundTable, TEXT, lists(TEXT, count), st.lists(lists(TEXT, count), max_size=2), st.integers(0, 3)
    )
    state = st.sampled_from(["done", "failed", "missing"])
    cases = st.builds(CaseRecord, TEXT, state, st.none() | FINITE, TEXT, OBJECT, OBJECT)
    promises = st.builds(Promise, TEXT, TEXT, TEXT, st.none() | st.booleans())
    return Findings(
        *(draw(TEXT) for _ in range(7)),
        promises=draw(st.lists(promises, max_size=2)),
        tables=draw(st.lists(tables, max_size=2)),
        charts=draw(st.lists(lines | side_by_side | histograms, max_size=2)),
        notes=draw(st.lists(TEXT, max_size=2)),
        cases=draw(st.lists(cases, max_size=2)),
        rank=draw(st.integers(-1000, 1000)),
    )


def without_numbers_that_are_none(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_numbers_that_are_none(inner) for key, inner in value.items()}
    return [without_numbers_that_are_none(inner) for inner in value] if isinstance(value, list) else value


@settings(max_examples=150, deadline=None)
@given(all_findings())
def test_what_is_written_comes_back_and_what_is_no_number_as_none(found: Findings) -> None:
    with TemporaryDirectory() as folder:
        write_findings(Path(folder), found)
        path = Path(folder) / FINDINGS_FILE
        json.loads(path.read_bytes(), parse_constant=pytest.fail)
        again = read_findings(path)
        assert [file.name for file in Path(folder).iterdir()] == [FINDINGS_FILE]
    expected = without_numbers_that_are_none(asdict(found))
    assert asdict(again) == expected
    assert as_json(again) == as_json(found) == {"version": 1, **expected}
    assert again.verdict == found.verdict


@pytest.mark.parametrize(
    "promises, states, verdict",
    [
        ([True, True], ["done"], "holds"),
        ([True, False], ["done"], "holds in part"),
        ([False], ["done"], "does not hold"),
        ([], ["done"], "shown"),
        ([True, None], ["done"], "unfinished"),
        ([True], ["done", "missing"], "unfinished"),
        ([False], ["failed"], "unfinished"),
        ([], [], "shown"),
    ],
)
def test_verdict_is_that_of_the_promises_once_all_cases_are_done(
    promises: list[bool | None], states: list[str], verdict: str
) -> None:
    found = findings(promises=[promise(holds) for holds in promises], cases=[case(0, state) for state in states])
    assert found.verdict == verdict


def damaged(change: dict[str, Any]) -> bytes:
    return json.dumps({**as_json(findings()), **change}).encode()


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "is damaged"),
        (b'{"version": 1, "na', "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b"[]", "holds no findings of version 1"),
        (b'{"node": "node1"}', "holds no findings of version 1"),
        (damaged({"version": 2}), "holds no findings of version 1"),
        (damaged({"rank": "first"}), "rank: "),
        (damaged({"charts": [{"kind": "pie"}]}), "charts.0: "),
        (damaged({"cases": [{"title": "a", "state": "lost"}]}), "cases.0.state: "),
        (damaged({"tables": [{"title": "a", "heads": ["b"], "rows": [["c", "d"]]}]}), "1 heads and a row of 2 cells"),
        (damaged({"cases": [{"title": "a", "state": "done", "seconds": math.nan}]}), "NaN is no finite number"),
        (damaged({"rank": 1}).replace(b'"rank": 1', b'"rank": 1e999'), "1e999 is no finite number"),
    ],
)
def test_file_that_is_something_else_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / FINDINGS_FILE
    path.write_bytes(content)
    with pytest.raises(StartupError) as raised:
        read_findings(path)
    assert str(path) in raised.value.message and told in raised.value.message
    assert "\n" not in raised.value.message


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="No such file"):
        read_findings(tmp_path / FINDINGS_FILE)


def test_findings_before_are_there_until_the_new_ones_are_whole(tmp_path: Path) -> None:
    folder = leave_findings(tmp_path / "a", findings())
    with pytest.raises(TypeError):
        write_findings(folder, findings(cases=[CaseRecord("a", "done", settings={"file": object()})]))
    assert read_findings(folder / FINDINGS_FILE) == findings()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Series("a", [1.0, 2.0], [1.0]),
        lambda: Series("a", [math.nan], [1.0]),
        lambda: BarChart("a", "", "", "", ["one", "two"], [Bars("b", [1.0])]),
        lambda: Sample("a", [math.inf]),
        lambda: FoundTable("a", ["one"], [["1", "2"]]),
        lambda: case(0, "lost"),
    ],
)
def test_what_does_not_fit_together_is_refused_when_it_is_made(make: Any) -> None:
    with pytest.raises(ValidationError):
        make()
