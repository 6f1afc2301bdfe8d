"""Which claims hold: the word and the sign of each verdict, how many there are, and what stands in the way."""

from __future__ import annotations

from collections.abc import Sequence

from p2pdl.report import words
from p2pdl.report.findings import CaseRecord, Findings, Promise
from p2pdl.report.tables import ROWS, Table

SIGNS = {"holds": "✓", "holds in part": "◐", "does not hold": "✗", "shown": "●", "unfinished": "…"}
"""Of each verdict; with its word beside, so that neither the sign nor its colour need be known."""

COUNTED = {
    "holds": ("holds", "hold"),
    "holds in part": ("holds in part", "hold in part"),
    "does not hold": ("does not hold", "do not hold"),
    "shown": ("is shown", "are shown"),
    "unfinished": ("is unfinished", "are unfinished"),
}
"""How one claim, and how several are said to be so."""

Claims = Sequence[Findings]


def count(experiments: Claims) -> str:
    """`12 claims: 9 hold, 2 hold in part, 1 does not hold`."""
    verdicts = [found.verdict for found in experiments]
    parts = [
        f"{number} {one if number == 1 else several}"
        for verdict, (one, several) in COUNTED.items()
        if (number := verdicts.count(verdict))
    ]
    return f"{words.plural(len(experiments), 'claim')}: {', '.join(parts)}"


def sizes(experiments: Claims) -> list[str]:
    """The sizes that there are, each once."""
    return list(dict.fromkeys(found.size for found in experiments))


def titles(experiments: Claims) -> list[str]:
    """What each is called, with its size where they differ."""
    return [found.title + size for found, size in zip(experiments, _differing(experiments), strict=True)]


def names(experiments: Claims) -> list[str]:
    """What runs each, with its size where they differ."""
    return [found.name + size for found, size in zip(experiments, _differing(experiments), strict=True)]


def _differing(experiments: Claims) -> list[str]:
    several = len(sizes(experiments)) > 1
    return [f" ({found.size})" if several else "" for found in experiments]


def found_in_words(found: Findings) -> str:
    """What was found, and how many cases it lacks."""
    sentence = found.sentence.strip()
    lacking = lacks(found)
    if not lacking:
        return sentence
    return f"{sentence.rstrip('.')}. {lacking}" if sentence else lacking


def lacks(found: Findings) -> str:
    """How many cases are missing and have failed; empty if all are done."""
    parts = [
        f"{number} {'is' if number == 1 else 'are'} missing" if state == "missing" else f"{number} failed"
        for state in ("missing", "failed")
        if (number := sum(case.state == state for case in found.cases))
    ]
    return f"Of {words.plural(len(found.cases), 'case')} {' and '.join(parts)}." if parts else ""


def experiments_table(experiments: Claims) -> Table:
    """A row for each experiment."""
    rows = tuple(
        (found.verdict, name, found_in_words(found))
        for found, name in zip(experiments, names(experiments), strict=True)
    )
    return Table("Claims", ("verdict", "experiment", "found"), rows[:ROWS], 3, max(0, len(rows) - ROWS))


def promises_table(found: Findings) -> Table:
    """A row for each promise."""
    rows = tuple(
        (promise.what, promise.wanted, promise.found or words.NOTHING, _held(promise)) for promise in found.promises
    )
    return Table("What was promised", ("figure", "wanted", "found", "holds"), rows[:ROWS], 4, max(0, len(rows) - ROWS))


def _held(promise: Promise) -> str:
    if promise.holds is None:
        return f"{SIGNS['unfinished']} not known yet"
    return f"{SIGNS['holds']} yes" if promise.holds else f"{SIGNS['does not hold']} no"


def broken_promises(found: Findings) -> list[str]:
    """Each promise that does not hold, in words."""
    return [
        f"{promise.what}: wanted {promise.wanted}, found {promise.found or 'nothing'}"
        for promise in found.promises
        if promise.holds is False
    ]


def troubles(found: Findings) -> list[str]:
    """Each case that is missing or has failed, in words."""
    return [f"{case.title}: {_trouble(case)}" for case in found.cases if case.state != "done"]


def _trouble(case: CaseRecord) -> str:
    return f"failed: {case.error}" if case.state == "failed" else "not run yet"


def troubles_table(found: Findings) -> Table:
    """A row for each of those cases."""
    rows = tuple((case.title, case.state, case.error or words.NOTHING) for case in found.cases if case.state != "done")
    return Table("Cases without a result", ("case", "state", "error"), rows[:ROWS], 3, max(0, len(rows) - ROWS))
