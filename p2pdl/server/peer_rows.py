"""The peers in a status: what the trainer has written of each, beside what the membership knows of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Protocol

from p2pdl.types import JsonObject, NodeId

PEER_ROWS = 64
"""Peers that a status tells of, at most: the block in shared memory and the header of a reply are bounded."""

ROW_KEYS = 16
"""Keys of one row, at most."""

LONGEST_ERROR = 120
"""Characters of what is wrong with a member."""

NUMBER_BYTES = 9
"""Of one number on the wire, at most."""

SEVERITY = {
    **{"dead": 0, "quarantined": 1, "suspect": 2, "failing": 3, "paused": 4},
    **{"unknown": 5, "alive": 6, "live": 6, "left": 7},
}
"""States of members and of exchanges, worst first. Who has left is no trouble, whatever else is said of it."""


class Claim(Protocol):
    """Who a member is, as `p2pdl.protocol.membership` has it."""

    @property
    def address(self) -> str:
        """`host:port` at which it is reached."""
        ...

    @property
    def state(self) -> str:
        """`alive`, `suspect`, `dead`, `left` or `unknown`."""
        ...


class Acquaintance(Protocol):
    """What the membership knows of one node."""

    @property
    def member(self) -> Claim:
        """Who it is."""
        ...

    @property
    def since(self) -> float:
        """Monotonic seconds since when it is in its state."""
        ...

    @property
    def error(self) -> str:
        """Why it is not alive, for people; empty if it is."""
        ...


def peer_rows(
    written: Iterable[JsonObject], known: Mapping[NodeId, Acquaintance], node: NodeId, now: float
) -> list[JsonObject]:
    """One row for each peer, the worst ones first; as the trainer wrote them where there is no membership.

    Args:
        written: The trainer's rows; `last_error_at` of a row, monotonic seconds, becomes `last_error_age`.
        known: Whom the membership knows, this node perhaps among them.
        node: This node, of which there is no row.
        now: Monotonic seconds.
    """
    rows = [_with_age(row, now) for row in written]
    if not known:
        return rows[:PEER_ROWS]
    by_name = {str(row.get("name", "")): row for row in rows}
    for name in known:
        by_name.setdefault(name, {"name": name, "state": "unknown"})
    merged = [_merged(row, known.get(name), now) for name, row in by_name.items() if name != node]
    return sorted(merged, key=severity)[:PEER_ROWS]


def severity(row: JsonObject) -> int:
    """How bad a peer's row is: the worse of its two states; 0 is worst."""
    states = [row.get("member"), row.get("state")]
    if "left" in states:
        return SEVERITY["left"]
    return min((SEVERITY[state] for state in states if state in SEVERITY), default=SEVERITY["left"])


def fitting(rows: Sequence[JsonObject], nbytes: int) -> tuple[JsonObject, ...]:
    """As many rows, from the first one on, as surely fit into so many bytes of a header."""
    for count, row in enumerate(rows):
        nbytes -= packed_limit(row)
        if nbytes < 0:
            return tuple(rows[:count])
    return tuple(rows)


def packed_limit(row: JsonObject) -> int:
    """Bytes that a map of scalars takes in a header, at most.

    Quotes and separators of JSON are more than what msgpack adds to a text; only its numbers may be shorter.
    """
    text = json.dumps(row, ensure_ascii=False).encode(errors="surrogatepass")
    return len(text) + NUMBER_BYTES * len(row)


def _with_age(row: JsonObject, now: float) -> JsonObject:
    if "last_error_at" not in row:
        return row
    row = dict(row)
    at = row.pop("last_error_at")
    return {**row, "last_error_age": None if at is None else _seconds(now - at)}


def _merged(row: JsonObject, known: Acquaintance | None, now: float) -> JsonObject:
    """Keys of both, those first that every reader wants; what a row has no place for is cut off behind them."""
    merged = {
        "name": row.get("name"),
        "address": known.member.address if known else row.get("address"),
        "state": row.get("state"),
        "member": known.member.state if known else "unknown",
        "since": _seconds(now - known.since) if known else None,
        "member_error": known.error[:LONGEST_ERROR] if known else "",
    }
    rest = ((key, value) for key, value in row.items() if key not in merged)
    return {**merged, **dict(islice(rest, ROW_KEYS - len(merged)))}


def _seconds(duration: float) -> float:
    return round(max(0.0, duration), 3)
