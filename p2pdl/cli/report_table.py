"""A table of a report on the terminal."""

from __future__ import annotations

from rich import table as rich_table

from p2pdl.cli.tables import state_cell, table
from p2pdl.config.source import shown
from p2pdl.report.tables import Table


def report_table(told: Table) -> rich_table.Table:
    """The same table as in the page; what was left out stands below it."""
    made = table(*(head.replace(" ", "\n", 1) for head in told.heads), left=told.heads[: told.names])
    for row in told.rows:
        cells = [shown(cell) for cell in row]
        made.add_row(
            *(state_cell(cell) if head == "state" else cell for head, cell in zip(told.heads, cells, strict=True))
        )
    if told.left_out:
        made.caption = f"and {told.left_out} more: see --json"
    return made
