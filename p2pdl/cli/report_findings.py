"""`p2pdl report` of folders in which experiments have left their findings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from p2pdl.cli.tables import near, output, table
from p2pdl.config.source import shown
from p2pdl.report import claims
from p2pdl.report.findings import as_json
from p2pdl.report.found_folders import Found, read_all

LONGEST_LINE = 300

MOST_TROUBLES = 20

STYLES = {"holds": "green", "holds in part": "yellow", "does not hold": "red", "shown": "cyan", "unfinished": "dim"}
"""Of each verdict."""


def report_findings(
    folders: Sequence[Path], titles: Sequence[str], out: Path | None, plots: Path | None, is_json: bool
) -> None:
    """Say what experiments have found, and write the files that are wanted.

    Args:
        folders: Where their findings are.
        titles: At most one: the page's heading.
        out: The page; none if None.
        plots: The folder of pictures; none if None.
        is_json: Whether everything is to be one object.

    Raises:
        UsageError: There are several titles.
        P2pdlError: Nothing can be read, or something cannot be written.
    """
    if len(titles) > 1:
        raise click.UsageError("of experiments' findings --title is the page's heading: give it once")
    found = read_all(folders)
    files = _write(found, titles[0] if titles else None, out, plots)
    if is_json:
        experiments = [
            {"folder": str(folder), "verdict": one.verdict, **as_json(one)}
            for one, folder in zip(found.experiments, found.folders, strict=True)
        ]
        told = {"experiments": experiments, "missing": found.missing, "files": [str(file) for file in files]}
        click.echo(json.dumps(told, indent=2))
    else:
        _show(found, files)


def _write(found: Found, title: str | None, out: Path | None, plots: Path | None) -> list[Path]:
    if out is None and plots is None:
        return []
    from p2pdl.report.chart_pictures import draw_charts
    from p2pdl.report.findings_page import default_title, findings_page
    from p2pdl.report.frame import write_page
    from p2pdl.report.picture import write_files

    drawn = draw_charts(found.experiments)
    files = []
    if out is not None:
        heading = title or default_title(found.experiments)
        write_page(out, findings_page(found.experiments, found.missing, drawn, heading))
        files.append(out)
    if plots is not None:
        files += write_files(drawn.pictures, plots)
    return files


def _show(found: Found, files: Sequence[Path]) -> None:
    console = output()
    console.print(Text(f"{claims.count(found.experiments)}.", "bold"))
    console.print(_table(found))
    troubles = []
    for one, name in zip(found.experiments, claims.names(found.experiments), strict=True):
        for text in claims.broken_promises(one):
            console.print(f"does not hold: {shown(f'{name}: {text}', LONGEST_LINE)}", style="red", soft_wrap=True)
        troubles += [f"{name}: {text}" for text in claims.troubles(one)]
    troubles += found.missing
    for text in troubles[:MOST_TROUBLES]:
        console.print(f"missing: {shown(' '.join(text.split()), LONGEST_LINE)}", style="yellow", soft_wrap=True)
    if len(troubles) > MOST_TROUBLES:
        console.print(f"{len(troubles) - MOST_TROUBLES} more are missing: see --json", soft_wrap=True)
    for file in files:
        console.print(f"wrote {near(file)}", soft_wrap=True)


def _table(found: Found) -> Table:
    """What was found goes on to as many lines as it needs."""
    told = claims.experiments_table(found.experiments)
    made = table(*told.heads, left=told.heads)
    for column in made.columns[1:]:
        column.no_wrap, column.overflow = False, "fold"
    for verdict, *others in told.rows:
        made.add_row(Text(verdict, STYLES[verdict]), *(shown(cell, LONGEST_LINE) for cell in others))
    if told.left_out:
        made.caption = f"and {told.left_out} more: see --json"
    return made
