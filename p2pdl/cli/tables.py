"""How the tables of all commands look, and what may be written into a cell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from p2pdl.config.source import shown

PLAIN_WIDTH = 160
"""Columns where the output is no terminal, so that no row of a file is wrapped."""

STATE_STYLES = {
    "training": "cyan",
    "finished": "green",
    "merged": "green",
    "done": "green",
    "no answer": "red",
    "failed": "red",
    "stopped": "yellow",
}


def console_on(stream: TextIO) -> Console:
    """A console that colours only on a terminal, and not where NO_COLOR is set."""
    console = Console(file=stream, highlight=False, emoji=False, markup=False)
    return console if console.is_terminal else Console(file=stream, highlight=False, markup=False, width=PLAIN_WIDTH)


def output() -> Console:
    """The console of standard output, as it is now."""
    return console_on(sys.stdout)


def table(*columns: str, left: tuple[str, ...] = ("node", "address", "state", "")) -> Table:
    """An empty table: text to the left, numbers to the right."""
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    return made


def state_cell(state: str) -> Text:
    """A node's state in its colour."""
    return Text(shown(state), style=STATE_STYLES.get(state, ""))


def near(path: Path) -> str:
    """A path as short as it can be from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
