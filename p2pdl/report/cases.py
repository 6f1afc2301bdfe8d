"""How an experiment's cases were made: what they ran on, where that differed, and the settings of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from p2pdl.report import frame, words
from p2pdl.report.allowance import Allowance
from p2pdl.report.findings import CaseRecord, Findings
from p2pdl.report.labels import fitted
from p2pdl.report.tables import ROWS, Table, setting_lines

MOST_COLUMNS = 12
"""So many figures in which environments differ have a column."""

LONGEST_VALUE = 120
"""Letters of a figure of an environment."""


def environment_tables(found: Findings) -> list[Table]:
    """What was the same in all cases, and a row for each case with its time and what was not."""
    recorded = [dict(setting_lines(case.environment)) for case in found.cases if case.environment]
    names = list(dict.fromkeys(name for lines in recorded for name in lines))
    common = [name for name in names if len({_shown(name, lines.get(name)) for lines in recorded}) == 1]
    tables = []
    if common:
        rows = tuple((fitted(name, LONGEST_VALUE), _shown(name, recorded[0].get(name))) for name in common)
        tables.append(
            Table("The same in all cases", ("environment", "value"), rows[:ROWS], 2, max(0, len(rows) - ROWS))
        )
    if found.cases:
        different = [name for name in names if name not in common][:MOST_COLUMNS]
        heads = ("case", "time", *(fitted(name, LONGEST_VALUE) for name in different))
        cases = tuple(_row(case, different) for case in found.cases[:ROWS])
        tables.append(Table("The cases", heads, cases, 1, max(0, len(found.cases) - ROWS)))
    return tables


def _row(case: CaseRecord, names: Sequence[str]) -> tuple[str, ...]:
    lines = dict(setting_lines(case.environment))
    time = words.seconds(case.seconds) if case.state == "done" else case.state
    return (case.title, time, *(_shown(name, lines.get(name)) for name in names))


def _shown(name: str, value: Any) -> str:
    if value is None:
        return words.NOTHING
    if name.endswith("bytes") and isinstance(value, int | float) and not isinstance(value, bool):
        return words.nbytes(value)
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        return fitted(", ".join(map(str, value)), LONGEST_VALUE)
    return fitted(value if isinstance(value, str) else json.dumps(value), LONGEST_VALUE)


def folded_settings(found: Findings, allowance: Allowance) -> Iterator[str]:
    """The settings of each case, folded, as HTML; those for which there is no room are counted.

    Args:
        found: Whose.
        allowance: Gets less by what is used.
    """
    left_out = 0
    for case in found.cases:
        text = json.dumps(case.settings, indent=2)
        if len(text) > allowance.longest_settings:
            text = text[: allowance.longest_settings] + "\n… the rest is in findings.json"
        if len(text) > allowance.settings:
            left_out += 1
            continue
        allowance.settings -= len(text)
        yield frame.folded(f"Settings of <strong>{escape(case.title)}</strong>", text)
    if left_out:
        yield f"<p>The settings of {words.plural(left_out, 'case')} more are in findings.json.</p>"
