"""One page of HTML that needs nothing else: the verdict, the pictures, the tables, and how to do it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape

from p2pdl.report import frame, words
from p2pdl.report.environments import environments_table
from p2pdl.report.picture import Picture
from p2pdl.report.run import Run
from p2pdl.report.tables import differences_table, nodes_table, runs_table, settings_of
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


def _parts(runs: Sequence[Run], pictures: Sequence[Picture], title: str) -> Iterator[str]:
    yield from frame.head(title)
    yield f"<header><h1>{escape(title)}</h1>"
    yield from _verdicts(runs)
    yield "</header><main>"
    yield from _missing(runs)
    yield '<section aria-labelledby="pictures"><h2 id="pictures">Pictures</h2>'
    if pictures:
        yield '<div class="pictures">'
        for picture in pictures:
            yield frame.figure(picture)
        yield "</div>"
    else:
        yield "<p>The runs have left nothing that could be drawn.</p>"
    yield '</section><section aria-labelledby="tables"><h2 id="tables">Tables</h2>'
    if len(runs) > 1:
        yield frame.table(runs_table(runs))
    yield frame.table(nodes_table(runs))
    yield "</section>"
    yield from _reproduction(runs)
    yield f"</main>{frame.foot()}"


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


def _reproduction(runs: Sequence[Run]) -> Iterator[str]:
    yield '<section aria-labelledby="again"><h2 id="again">How to reproduce</h2>'
    yield (
        "<p>Put a run's settings into a file, which JSON is good for as well as YAML, and give it to "
        "<code>p2pdl up --config FILE --fresh</code>.</p>"
    )
    environments = environments_table(runs)
    if environments is not None:
        yield frame.table(environments)
    else:
        yield "<p>What it ran on was not recorded.</p>"
    differences = differences_table(runs, MOST_COMPARED)
    if differences is not None:
        yield frame.table(differences)
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
