"""The live tables of `p2pdl up`: a row in each for every node of the file, messages above them."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from p2pdl.cli import numbers
from p2pdl.cli.exchange_table import exchange_table
from p2pdl.cli.observers import Messages, seconds_left, state_of
from p2pdl.cli.tables import state_cell, table
from p2pdl.cli.troubles import peers_of
from p2pdl.node.cluster import NodeProgress

BAR_WIDTH = 16
WIDTH_WITH_BARS = 110
"""Columns that a terminal must have for a bar beside each step."""


class LiveTable(Messages):
    """Draws the tables anew whenever it is told how the nodes are; at the end they give way to the results.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def progress(self, nodes: Sequence[NodeProgress]) -> None:
        """See `Observer.progress`."""
        answered = [(node.name, node.heard.status) for node in nodes if node.heard and node.heard.status]
        exchange = exchange_table(answered)
        made = progress_table(nodes, self.console.width >= WIDTH_WITH_BARS)
        self._live.update(Group(made, exchange) if exchange else made, refresh=True)


def progress_table(nodes: Sequence[NodeProgress], bars: bool) -> Table:
    """How far the nodes are.

    Args:
        nodes: The nodes, in order.
        bars: Whether there is room for them.
    """
    drawn = ("",) if bars else ()
    made = table("node", "state", "step", *drawn, "loss", "ms/step", "merges", "MB in", "peers", "left")
    for node in nodes:
        status = node.heard.status if node.heard else None
        state = state_cell(state_of(node))
        if status is None:
            made.add_row(node.name, state)
            continue
        figures = status.figures
        bar = (_bar(status.step, status.steps),) if bars else ()
        peers = peers_of(node.heard) if node.heard else []
        live = sum(row.get("state") == "live" for row in peers)
        made.add_row(
            node.name,
            state,
            numbers.progress(status.step, status.steps),
            *bar,
            numbers.loss(status.loss),
            numbers.milliseconds(figures.get("seconds_per_step") or None),
            numbers.merges(figures.get("merges"), figures.get("merges_skipped")),
            numbers.megabytes(figures.get("bytes_received")),
            f"{live}/{len(peers)}" if peers else numbers.NOTHING,
            numbers.minutes(seconds_left(status)),
        )
    return made


def _bar(step: int, steps: int) -> ProgressBar:
    return ProgressBar(max(1, steps), step, BAR_WIDTH, complete_style="cyan", finished_style="green")
