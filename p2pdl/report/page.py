"""One page of HTML that needs nothing else: the verdict, the pictures, the tables, and how to do it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from p2pdl._version import VERSION
from p2pdl.errors import P2pdlError
from p2pdl.report import words
from p2pdl.report.palette import variables
from p2pdl.report.picture import Picture, page_svg
from p2pdl.report.run import Run
from p2pdl.report.tables import Table, differences_table, nodes_table, runs_table, settings_of
from p2pdl.report.verdict import missing_of, sentence

MOST_SENTENCES = 8
MOST_MISSING = 60
MOST_SETTINGS = 24
MOST_COMPARED = 12
"""So many of each stand in the page, which stays small whatever there is to compare."""

LONGEST_SETTINGS = 20_000
"""Characters of one run's settings; a cluster of hundreds of nodes has more."""


def page(runs: Sequence[Run], pictures: Sequence[Picture], title: str) -> str:
    """The whole page.

    Args:
        runs: What it is about.
        pictures: Those of `draw`.
        title: Its heading.
    """
    return "\n".join(_parts(runs, pictures, title)) + "\n"


def write_page(path: Path, text: str) -> None:
    """Write the page.

    Raises:
        P2pdlError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise P2pdlError(
            f"the page cannot be written to {path}: {error.strerror}",
            "name a file in a folder that this user can write",
        ) from None


def _parts(runs: Sequence[Run], pictures: Sequence[Picture], title: str) -> Iterator[str]:
    style = resources.files("p2pdl.report").joinpath("page.css").read_text(encoding="utf-8")
    yield "<!doctype html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    # Without an icon of its own a browser asks the server for one.
    yield '<link rel="icon" href="data:,">'
    yield f"<style>:root {{ color-scheme: light dark; {variables(dark=False)} }}"
    yield f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {variables(dark=True)} }} }}"
    yield f"{style}</style></head><body>"
    yield f"<header><h1>{escape(title)}</h1>"
    yield from _verdicts(runs)
    yield "</header><main>"
    yield from _missing(runs)
    yield '<section aria-labelledby="pictures"><h2 id="pictures">Pictures</h2>'
    if pictures:
        yield '<div class="pictures">'
        for picture in pictures:
            yield f"<figure>{page_svg(picture)}<figcaption>{escape(picture.caption)}</figcaption></figure>"
        yield "</div>"
    else:
        yield "<p>The runs have left nothing that could be drawn.</p>"
    yield '</section><section aria-labelledby="tables"><h2 id="tables">Tables</h2>'
    if len(runs) > 1:
        yield _table(runs_table(runs))
    yield _table(nodes_table(runs))
    yield "</section>"
    yield from _reproduction(runs)
    yield f"</main><footer><p>Written by p2pdl {escape(VERSION)} report.</p></footer></body></html>"


def _verdicts(runs: Sequence[Run]) -> Iterator[str]:
    yield '<div class="verdict">'
    for run in runs[:MOST_SENTENCES]:
        yield f"<p><strong>{escape(run.title)}</strong>: {escape(sentence(run))}.</p>"
    if len(runs) > MOST_SENTENCES:
        yield f"<p>{len(runs) - MOST_SENTENCES} more are in the table of runs.</p>"
    yield "</div>"


def _missing(runs: Sequence[Run]) -> Iterator[str]:
    several = len(runs) > 1
    found = [f"{run.title}: {text}" if several else text for run in runs for text in missing_of(run)]
    if not found:
        return
    yield '<section class="missing" aria-labelledby="missing"><h2 id="missing">What is missing</h2>'
    yield "<ul>"
    for text in found[:MOST_MISSING]:
        yield f"<li>{escape(text)}</li>"
    yield "</ul>"
    if len(found) > MOST_MISSING:
        yield f"<p>{len(found) - MOST_MISSING} more are in <code>p2pdl report --json</code>.</p>"
    yield "</section>"


def _table(table: Table) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        marks = (' class="text"' if place < table.names else "" for place in range(len(row)))
        scope = ' scope="col"' if tag == "th" else ""
        return "".join(f"<{tag}{scope}{mark}>{escape(cell)}</{tag}>" for mark, cell in zip(marks, row, strict=True))

    caption = table.title
    if table.left_out:
        caption += f": the first {len(table.rows)}; {table.left_out} more are in p2pdl report --json"
    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in table.rows)
    # Who has no mouse scrolls what has the focus.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{cells('th', table.heads)}</tr></thead>"
        f"<tbody>{body}</tbody></table></div><p></p>"
    )


def _reproduction(runs: Sequence[Run]) -> Iterator[str]:
    yield '<section aria-labelledby="again"><h2 id="again">How to reproduce</h2>'
    yield (
        "<p>Put a run's settings into a file, which JSON is good for as well as YAML, and give it to "
        "<code>p2pdl up --config FILE --fresh</code>. What a run does not record, the versions of its libraries and "
        "the processor, is not here either.</p>"
    )
    differences = differences_table(runs, MOST_COMPARED)
    if differences is not None:
        yield _table(differences)
    for run in runs[:MOST_SETTINGS]:
        settings = settings_of(run)
        if not settings:
            yield f"<p>{escape(run.title)}: its settings are not there.</p>"
            continue
        train = settings.get("train") or {}
        facts = [
            f"seed {train.get('seed', words.NOTHING)}",
            f"{words.plural(len(run.nodes), 'node')}",
            f"threads of each trainer: {train.get('threads', words.NOTHING)}",
            f"strategy {run.strategy}",
            f"folder {run.folder}",
        ]
        text = json.dumps(settings, indent=2)
        if len(text) > LONGEST_SETTINGS:
            text = text[:LONGEST_SETTINGS] + "\n… the rest is in config.json of each node"
        yield (
            f"<details><summary><strong>{escape(run.title)}</strong>: {escape('; '.join(facts))}</summary>"
            f'<div class="scroll" tabindex="0"><pre>{escape(text)}</pre></div></details>'
        )
    if len(runs) > MOST_SETTINGS:
        yield f"<p>The settings of {len(runs) - MOST_SETTINGS} more are in their folders.</p>"
    yield "</section>"
