"""What every page of a report has in common: its head and foot, figures, tables, folded texts, and its file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from p2pdl._version import VERSION
from p2pdl.errors import P2pdlError
from p2pdl.report.inline_picture import page_svg
from p2pdl.report.palette import variables
from p2pdl.report.picture import Picture
from p2pdl.report.tables import Table

LONG_CELL = 36
"""A cell of more letters is wrapped."""


def head(title: str, *styles: str) -> Iterator[str]:
    """All up to the content of the body.

    Args:
        title: Of the window.
        styles: Files of this room beside `page.css`.
    """
    yield "<!doctype html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    # Without an icon of its own a browser asks the server for one.
    yield '<link rel="icon" href="data:,">'
    yield f"<style>:root {{ color-scheme: light dark; {variables(dark=False)} }}"
    yield f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {variables(dark=True)} }} }}"
    for name in ("page.css", *styles):
        yield resources.files("p2pdl.report").joinpath(name).read_text(encoding="utf-8")
    yield "</style></head><body>"


def foot() -> str:
    """All after the content of the body."""
    return f"<footer><p>Written by p2pdl {escape(VERSION)} report.</p></footer></body></html>"


def figure(picture: Picture) -> str:
    """A picture and its caption."""
    return f"<figure>{page_svg(picture)}<figcaption>{escape(picture.caption)}</figcaption></figure>"


def table(told: Table) -> str:
    """A table in a box that scrolls where there is no room."""

    def cells(tag: str, row: Sequence[str]) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        return "".join(
            f"<{tag}{scope}{_kind(cell, place < told.names)}>{escape(cell)}</{tag}>" for place, cell in enumerate(row)
        )

    caption = told.title
    if told.left_out:
        caption += f": the first {len(told.rows)}; {told.left_out} more are in p2pdl report --json"
    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in told.rows)
    # Who has no mouse scrolls what has the focus.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(told.title)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{cells('th', told.heads)}</tr></thead>"
        f"<tbody>{body}</tbody></table></div><p></p>"
    )


def _kind(cell: str, is_text: bool) -> str:
    kinds = (["text"] if is_text else []) + (["long"] if len(cell) > LONG_CELL else [])
    return f' class="{" ".join(kinds)}"' if kinds else ""


def folded(summary: str, text: str) -> str:
    """A long text that opens under a line.

    Args:
        summary: The line, as HTML.
        text: As it is.
    """
    return f"<details><summary>{summary}</summary>{scrolled(text)}</details>"


def scrolled(text: str) -> str:
    """A text of fixed lines, in a box that scrolls."""
    return f'<div class="scroll" tabindex="0"><pre>{escape(text)}</pre></div>'


def write_page(path: Path, text: str) -> None:
    """Write the page.

    Raises:
        P2pdlError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Names of files may hold bytes that are no text.
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise P2pdlError(
            f"the page cannot be written to {path}: {error.strerror}",
            "name a file in a folder that this user can write",
        ) from None
