"""What people read of a storm: a line for each event, and a table of the promises at its end."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.text import Text

from p2pdl.cli.tables import output, table
from p2pdl.types import NodeId
from tools.storm.promises import Verdict

WORDS = {True: "holds", False: "broken", None: "not looked at"}
STYLES = {True: "green", False: "red", None: "yellow"}


def say(at: float, node: NodeId, text: str) -> None:
    """One line: when, who, what."""
    print(f"{at:8.1f} s  {node:10}  {text}", file=sys.stderr, flush=True)


def show(verdicts: Sequence[Verdict]) -> None:
    """The table of the promises, and below it each way in which one was broken."""
    console = output()
    rows = table("promise", "", "seen", left=("promise", "", "seen"))
    for verdict in verdicts:
        rows.add_row(verdict.promise, Text(WORDS[verdict.holds], style=STYLES[verdict.holds]), verdict.found)
    console.print(rows)
    for verdict in verdicts:
        for line in verdict.broken:
            console.print(f"broken: {verdict.promise}: {line}", soft_wrap=True)
