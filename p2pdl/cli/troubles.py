"""What is wrong between the nodes of a cluster, a line for each trouble, worst first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

from p2pdl.config.source import shown
from p2pdl.node.cluster_status import NodeStatus
from p2pdl.server.peer_rows import SEVERITY, severity
from p2pdl.types import JsonObject, NodeId

NO_ANSWER = -1
"""Severity of a node that does not answer: worse than anything that others say of it."""

LONGEST_TEXT = 300
LONGEST_NAMES = 32
"""Columns for who has a trouble."""

NAMES = 2
"""Nodes with the same trouble that are named; more are counted."""

LINES = 20
"""More troubles than this are counted."""

UNITS = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"))


def peers_of(node: NodeStatus) -> list[JsonObject]:
    """The rows of a node's peers that take part in the run, without itself."""
    rows = node.status.peers if node.status else ()
    return [row for row in rows if row.get("name") != node.name and not has_left(row)]


def has_left(row: JsonObject) -> bool:
    """Whether a row is that of a member that has said goodbye."""
    return row.get("member") == "left"


def those_who_left(nodes: Iterable[NodeStatus]) -> set[NodeId]:
    """Names of nodes that do not answer because they have left, as those that answer say."""
    rows = [row for node in nodes if node.status for row in node.status.peers]
    present = {row.get("name") for row in rows if row.get("member") in ("alive", "suspect")}
    return {str(row.get("name")) for row in rows if has_left(row)} - present


def troubles(nodes: Sequence[NodeStatus]) -> list[tuple[str, str]]:
    """Everything that is wrong, worst first.

    Args:
        nodes: Those that were asked.

    Returns:
        (who says so, what is wrong) of each trouble; nodes that see the same peer in the same state share one.
    """
    left = those_who_left(nodes)
    found = [
        (NO_ANSWER, node.name, [node.name], node.error)
        for node in nodes
        if node.status is None and node.name not in left
    ]
    groups: dict[tuple[Any, ...], list[tuple[NodeId, JsonObject]]] = {}
    for node in nodes:
        for row in filter(_is_trouble, peers_of(node)):
            groups.setdefault((row.get("name"), row.get("member"), row.get("state")), []).append((node.name, row))
    for (peer, _, _), seen in groups.items():
        # Of those who agree, the one whose error is the newest has most to say.
        row = min((row for _, row in seen), key=_error_age)
        found.append((severity(row), str(peer), [name for name, _ in seen], _described(row)))
    found.sort(key=lambda trouble: trouble[:2])
    return [(_listed(names), text) for _, _, names, text in found]


def trouble_lines(nodes: Sequence[NodeStatus]) -> Table:
    """The same, to be shown below the tables; wrapped lines stay apart from the next trouble."""
    made = Table.grid(padding=(0, 1, 0, 0))
    made.add_column(max_width=LONGEST_NAMES, overflow="fold")
    made.add_column(overflow="fold")
    lines = troubles(nodes)
    for who, what in lines[:LINES]:
        made.add_row(f"{shown(who, 2 * LONGEST_NAMES)}:", shown(what, LONGEST_TEXT))
    if len(lines) > LINES:
        made.add_row("...", f"and {len(lines) - LINES} more troubles: --json has all of them")
    return made


def duration(seconds: Any) -> str:
    """A time in its largest unit, such as `12 s` or `3 min`; empty if it is none."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return ""
    for length, unit in UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 1 else f"{seconds:.0f} s"


def _is_trouble(row: JsonObject) -> bool:
    unheard = row.get("member") == "unknown" and row.get("state") != "live"
    return severity(row) < SEVERITY["unknown"] or unheard or bool(row.get("last_error"))


def _described(row: JsonObject) -> str:
    """Such as `node3 is dead for 12 s (no answer to 4 probes), exchange failing; last error 15 s ago: refused`."""
    member, exchange, error = row.get("member"), row.get("state"), row.get("last_error")
    ails = SEVERITY.get(str(exchange), SEVERITY["live"]) < SEVERITY["unknown"]
    if member in ("dead", "suspect"):
        since, reason = duration(row.get("since")), row.get("member_error")
        text = f"{row.get('name')} is {member}"
        text += f" for {since}" if since else ""
        text += f" ({reason})" if reason else ""
        text += f", exchange {exchange}" if ails else ""
    elif member == "unknown" and not ails:
        text = f"{row.get('name')} has not been heard of yet"
    else:
        text = f"{row.get('name')} is {exchange}"
    if error:
        age = duration(row.get("last_error_age"))
        text += f"; last error {age} ago: {error}" if age else f"; last error: {error}"
    return text


def _error_age(row: JsonObject) -> float:
    age = row.get("last_error_age")
    known = isinstance(age, int | float) and bool(row.get("last_error"))
    return float(age) if known and age is not None else float("inf")


def _listed(names: Sequence[NodeId]) -> str:
    if len(names) <= NAMES + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMES])} and {len(names) - NAMES} more"
