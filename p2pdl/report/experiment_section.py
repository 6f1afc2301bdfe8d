"""One experiment's part of the page: its claim, what came of it, its pictures and tables, and how to do it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from p2pdl.report import frame, words
from p2pdl.report.allowance import Allowance
from p2pdl.report.cases import environment_tables, folded_settings
from p2pdl.report.claims import SIGNS, found_in_words, promises_table, troubles_table
from p2pdl.report.findings import Findings, FoundTable
from p2pdl.report.picture import Picture
from p2pdl.report.tables import ROWS, Table

KINDS = {"holds": "good", "holds in part": "half", "does not hold": "bad", "shown": "plain", "unfinished": "open"}
"""The class of each verdict in the page's style."""


def mark(verdict: str) -> str:
    """A verdict as its sign and its word."""
    return f'<span class="mark {KINDS[verdict]}"><span aria-hidden="true">{SIGNS[verdict]}</span> {verdict}</span>'


def section(
    found: Findings, title: str, anchor: str, pictures: Sequence[Picture | None], lead: int | None, allowance: Allowance
) -> Iterator[str]:
    """The whole part.

    Args:
        found: The experiment.
        title: What it is called in this page.
        anchor: Its place in the page.
        pictures: Of its charts, in their order.
        lead: Which of them stands at the head of the page already; None if none does.
        allowance: How much room there is; gets less by what is used.
    """
    yield f'<section class="experiment" aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(title)}</h2>'
    yield f'<p class="found">{mark(found.verdict)} {escape(found_in_words(found))}</p>'
    yield "<dl>"
    yield f"<dt>Claim</dt><dd>{escape(found.claim) or words.NOTHING}</dd>"
    yield f"<dt>Source</dt><dd>{escape(found.source) or words.NOTHING}</dd></dl>"
    if found.promises:
        yield f'<div class="fits">{frame.table(promises_table(found))}</div>'
    yield from _charts(found, pictures, lead, allowance)
    for table in found.tables:
        yield frame.table(_table(table))
    if found.notes:
        yield f"<h3>{'Note' if len(found.notes) == 1 else 'Notes'}</h3><ul>"
        yield from (f"<li>{escape(note)}</li>" for note in found.notes)
        yield "</ul>"
    if any(case.state != "done" for case in found.cases):
        yield f'<div class="missing fits">{frame.table(troubles_table(found))}</div>'
    yield "<details><summary>How to reproduce</summary>"
    yield frame.scrolled(found.command)
    yield from (frame.table(table) for table in environment_tables(found))
    yield from folded_settings(found, allowance)
    yield '</details><p class="up"><a href="#top">all verdicts</a></p></section>'


def _charts(
    found: Findings, pictures: Sequence[Picture | None], lead: int | None, allowance: Allowance
) -> Iterator[str]:
    if lead is not None:
        yield f'<p>Its first picture, {escape(found.charts[lead].title)}, stands <a href="#lead">above</a>.</p>'
    drawn = [picture for number, picture in enumerate(pictures) if picture is not None and number != lead]
    left_out = 0
    if drawn:
        yield '<div class="pictures">'
        for picture in drawn:
            text = frame.figure(picture) if allowance.pictures > 0 else ""
            if 0 < len(text) <= allowance.pictures:
                allowance.pictures -= len(text)
                yield text
            else:
                left_out += 1
        yield "</div>"
    if left_out:
        which = words.plural(left_out, "chart")
        yield f"<p>For {which} there is no room: <code>p2pdl report --plots</code> writes them to files.</p>"
    for number, chart in enumerate(found.charts):
        if pictures[number] is None:
            yield f"<p>{escape(chart.title)}: there are no figures to draw.</p>"


def _table(table: FoundTable) -> Table:
    rows = tuple(tuple(row) for row in table.rows[:ROWS])
    return Table(table.title, tuple(table.heads), rows, table.names, max(0, len(table.rows) - ROWS))
