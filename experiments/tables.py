"""How the tables of the experiments look."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PLAIN_WIDTH = 160
"""Columns where the output is no terminal, so that no row of a file is wrapped."""


def output() -> Console:
    """The console of standard output, as it is now."""
    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, width=PLAIN_WIDTH)


def table(*columns: str, left: tuple[str, ...]) -> Table:
    """An empty table: numbers to the right, the columns in `left` to the left."""
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        made.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    return made
