"""Texts of others as labels: on one line, printable, no wider than there is room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.report.labels import columns_that_fit, fitted, folded, letters, published_name

TEXT = st.text(max_size=80) | st.text(st.sampled_from("中文 a_\n\x00$"), max_size=80)


@given(TEXT, st.integers(8, 60))
def test_label_is_printable_and_no_wider_than_its_room(text: str, width: int) -> None:
    label = fitted(text, width)
    assert label.isprintable() and not label.startswith("_")
    assert letters(label) <= width + 1


@given(TEXT, st.integers(8, 60), st.integers(1, 3))
def test_lines_are_as_few_and_as_short_as_is_wanted(text: str, width: int, most: int) -> None:
    lines = folded(text, width, most)
    assert len(lines) <= most
    assert all(letters(line) <= width + 1 and line.isprintable() for line in lines)


def test_what_fits_stays_as_it_is() -> None:
    assert fitted("top-k:0.01:int8", 15) == "top-k:0.01:int8"
    assert fitted("top-k:0.01:int8", 14) == "top-k:0.01:in…"
    assert folded("one two three", 8, 2) == ["one two", "three"]
    assert folded("one two three four", 8, 2) == ["one two", "three f…"]
    assert folded("", 8, 2) == []


def test_published_figures_say_so_even_if_their_name_is_long() -> None:
    assert published_name("DGC", True, 40) == "DGC (published)"
    assert published_name("DGC", False, 40) == "DGC"
    long = published_name("a" * 100, True, 40)
    assert long.endswith("… (published)") and len(long) == 40


@pytest.mark.parametrize(
    "entries, width, columns", [(["a" * 10] * 5, 70, 3), (["a"], 70, 1), (["a" * 90] * 3, 70, 1), (["a"] * 4, 70, 4)]
)
def test_legend_has_rows_of_about_equal_length(entries: list[str], width: int, columns: int) -> None:
    assert columns_that_fit(entries, width) == columns
