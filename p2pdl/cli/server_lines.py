"""How parameter servers are: a line for each below the table of the nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.text import Text

from p2pdl.cli import numbers
from p2pdl.config.source import shown
from p2pdl.protocol.messages import StatusReply
from p2pdl.types import NodeId


def server_lines(answered: Iterable[tuple[NodeId, StatusReply]]) -> Text | None:
    """The lines of those that are parameter servers; None if none is.

    Args:
        answered: Nodes, each with its status.
    """
    lines = [
        f"{shown(name)}: {_line(status.figures)}" for name, status in answered if "ingress_bytes" in status.figures
    ]
    return Text("\n".join(lines)) if lines else None


def _line(figures: dict[str, Any]) -> str:
    workers, waiting = figures.get("policy_workers"), figures.get("policy_waiting")
    staleness = figures.get("staleness")
    parts = [
        f"{_whole(workers)} workers, {_whole(waiting)} waiting",
        f"clocks {_whole(figures.get('clock_low'))} to {_whole(figures.get('clock_high'))}",
        f"window from {_whole(figures.get('policy_low'))}",
        f"mean staleness {staleness:.3g}" if isinstance(staleness, int | float) else "",
        f"{numbers.count(figures.get('pushes'))} pushes",
        f"{numbers.megabytes(figures.get('ingress_bytes'))} MB in",
        f"{numbers.megabytes(figures.get('bytes_sent'))} MB out",
    ]
    return ", ".join(filter(None, parts))


def _whole(value: Any) -> str:
    return f"{value:.0f}" if isinstance(value, int | float) else numbers.NOTHING
