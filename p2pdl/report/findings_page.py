"""One page of HTML of what experiments have found: every verdict, the first picture, then each experiment by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from p2pdl.report import frame, words
from p2pdl.report.allowance import Allowance
from p2pdl.report.chart_pictures import Drawn, Names
from p2pdl.report.claims import count, found_in_words, sizes, titles
from p2pdl.report.experiment_section import mark, section
from p2pdl.report.findings import Findings
from p2pdl.report.inline_picture import page_svg
from p2pdl.report.picture import Picture

MOST_MISSING = 60


def findings_page(experiments: Sequence[Findings], missing: Sequence[str], drawn: Drawn, title: str) -> str:
    """The whole page.

    Args:
        experiments: What it is about, in the order of the page; at least one.
        missing: What could not be read, in words.
        drawn: The pictures that `draw_charts` has made of them.
        title: Its heading.
    """
    return "\n".join(_parts(experiments, missing, drawn, title)) + "\n"


def default_title(experiments: Sequence[Findings]) -> str:
    """The page's heading, unless another one is wanted."""
    return experiments[0].title if len(experiments) == 1 else f"What {len(experiments)} experiments have found"


def _parts(experiments: Sequence[Findings], missing: Sequence[str], drawn: Drawn, title: str) -> Iterator[str]:
    called = titles(experiments)
    names = Names()
    anchors = [names.unique(f"experiment-{found.name}") for found in experiments]
    yield from frame.head(title, "findings.css")
    yield f'<header id="top"><h1>{escape(title)}</h1>'
    yield f'<p class="count">{escape(count(experiments))}.{_size(experiments)}</p>'
    yield '<ol class="verdicts">'
    for found, name, anchor in zip(experiments, called, anchors, strict=True):
        link = f'<a href="#{anchor}">{escape(name)}</a>'
        yield f"<li>{mark(found.verdict)}<p>{link}<br>{escape(found_in_words(found))}</p></li>"
    yield "</ol></header><main>"
    yield from _missing(missing)
    if drawn.lead is not None and drawn.wide is not None:
        yield from _lead(drawn.charts[drawn.lead[0]][drawn.lead[1]], drawn.wide)
    allowance = Allowance()
    for number, (found, name, anchor) in enumerate(zip(experiments, called, anchors, strict=True)):
        lead = drawn.lead[1] if drawn.lead is not None and drawn.lead[0] == number else None
        yield from section(found, name, anchor, drawn.charts[number], lead, allowance)
    yield from _all_again(experiments)
    yield f"</main>{frame.foot()}"


def _size(experiments: Sequence[Findings]) -> str:
    found = sizes(experiments)
    return f" All of size {escape(found[0])}." if len(found) == 1 else ""


def _missing(missing: Sequence[str]) -> Iterator[str]:
    if not missing:
        return
    yield '<section class="missing" aria-labelledby="missing"><h2 id="missing">What is missing</h2><ul>'
    yield from (f"<li>{escape(text)}</li>" for text in missing[:MOST_MISSING])
    yield "</ul>"
    if len(missing) > MOST_MISSING:
        yield f"<p>{len(missing) - MOST_MISSING} more are in <code>p2pdl report --json</code>.</p>"
    yield "</section>"


def _lead(narrow: Picture | None, wide: Picture) -> Iterator[str]:
    """The same picture twice, of which a page shows the one that suits its width."""
    if narrow is None:
        return
    yield '<figure class="lead" id="lead">'
    yield f'<div class="wide">{page_svg(wide)}</div><div class="narrow">{page_svg(narrow)}</div>'
    yield f"<figcaption>{escape(wide.caption)}</figcaption></figure>"


def _all_again(experiments: Sequence[Findings]) -> Iterator[str]:
    seconds = sum(case.seconds or 0.0 for found in experiments for case in found.cases)
    yield '<section aria-labelledby="again"><h2 id="again">How to reproduce all of it</h2>'
    yield (
        "<p>Each line runs one experiment and writes its findings; what is done already is not done again. "
        f"All cases together took {words.seconds(seconds)}. What they ran on, and the settings of each, are above.</p>"
    )
    yield frame.scrolled("\n".join(dict.fromkeys(found.command for found in experiments)))
    yield (
        "<p>Then <code>p2pdl report FOLDER --out report.html</code> makes this page anew, where FOLDER is the one in "
        "which each experiment has its own.</p></section>"
    )
