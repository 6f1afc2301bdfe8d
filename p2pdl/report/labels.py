"""Texts of others as labels of a picture: printable, and on as few lines of so many letters as there is room for."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence

ENDING = "…"


def printable(text: str) -> str:
    """A text on one line, without what a font or a file of XML has no sign for."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


def letters(text: str) -> int:
    """How wide a text is, in letters of a usual width."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def fitted(text: str, width: int) -> str:
    """A text of so many letters at most, cut at its end.

    What begins with an underscore gets a space before it, as such names are left out of legends.
    """
    line = printable(text)
    if letters(line) > width:
        while line and letters(line) > width - 1:
            line = line[:-1]
        line = line.rstrip() + ENDING
    return " " + line if line.startswith("_") else line


def folded(text: str, width: int, most: int) -> list[str]:
    """A text on lines of so many letters.

    Args:
        text: The text.
        width: Letters of a line, at least 8.
        most: So many lines; what does not fit is cut.
    """
    lines = []
    for line in textwrap.wrap(printable(text), width):
        # Wide letters stand so close that a line of half as many of them is full.
        lines += [line] if letters(line) <= width else textwrap.wrap(line, width // 2)
    if len(lines) > most:
        lines[most - 1 :] = [fitted(f"{lines[most - 1]} {lines[most]}", width)]
    return lines


def published_name(name: str, is_published: bool, width: int) -> str:
    """What a legend calls a series, which says so if its figures are somebody else's."""
    mark = " (published)" if is_published else ""
    return fitted(name, width - len(mark)) + mark


def columns_that_fit(entries: Sequence[str], width: int) -> int:
    """Columns of a legend, in rows as equally long as can be.

    Args:
        entries: What it names.
        width: Letters of a row, with the signs of its entries.
    """
    sign = 7
    most = max(1, width // (max(map(letters, entries)) + sign))
    rows = -(-len(entries) // most)
    return -(-len(entries) // rows)
