"""How the nodes' exchange goes: traffic, what was merged last, and where the time of a step goes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from p2pdl.cli import numbers
from p2pdl.cli.tables import table
from p2pdl.config.source import shown
from p2pdl.node.live_figures import PHASES, phase_shares
from p2pdl.protocol.messages import StatusReply
from p2pdl.types import NodeId

LONGEST_CODEC = 22


def exchange_table(nodes: Sequence[tuple[NodeId, StatusReply]]) -> Table | None:
    """The table, at most 100 columns wide with names of nodes up to 12 characters; None if no node exchanges.

    Args:
        nodes: Those that have answered, and what they said.
    """
    rows = [(name, status.figures) for name, status in nodes if "merges" in status.figures]
    if not rows:
        return None
    made = table(
        *("node", "Mbit/s\nin", "Mbit/s\nout", "codec", "merged,\ns old", "steps\nbehind"),
        *(f"{phase}\n%" for phase in PHASES),
        left=("node", "codec"),
    )
    for name, figures in rows:
        codec, shares = figures.get("merged_codec"), phase_shares(figures)
        made.add_row(
            shown(name),
            numbers.rate(figures.get("mbit_per_second_in")),
            numbers.rate(figures.get("mbit_per_second_out")),
            shown(codec, LONGEST_CODEC) if isinstance(codec, str) else numbers.NOTHING,
            numbers.seconds(figures.get("merged_age")),
            numbers.count(figures.get("merged_staleness")),
            *(numbers.percent(shares[phase] if shares else None) for phase in PHASES),
        )
    return made
