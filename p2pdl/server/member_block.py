"""The block of whom the server knows, as `MemberView` reads it: where it has no room for all, who matters most."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from p2pdl.protocol.membership.roster import Known
from p2pdl.server.peer_rows import LONGEST_ERROR
from p2pdl.types import NodeId

COMPACT = (",", ":")
"""Separators of JSON without blanks: every byte of the block that they would take is one of a member."""

LEAVING_ORDER = ("left", "dead")
"""Which of those that are gone are left out first: who has left has said so, who is dead may be back any time."""

STAYING_ORDER = ("unknown", "suspect", "alive")
"""Which of the others are left out first: nobody has heard of the first ones yet, and the last ones are pulled from."""


def member_block(
    known: Mapping[NodeId, Known],
    node: NodeId,
    contacts: Collection[NodeId],
    superseded: str | None,
    limit: int,
) -> tuple[bytes, frozenset[NodeId]]:
    """What the node's other processes are told of the members.

    Where it is too long, texts of errors are cut first. Then those are left out that are gone, the longest gone first
    and contacts last; then the others, those first of whom this node has heard last: names that somebody makes up come
    after the real ones. This node itself is left out last.

    Args:
        known: Whom the membership knows by name, in the order in which it has heard of them.
        node: This node.
        contacts: Names of the nodes of the file.
        superseded: The address of another process that has this node's name; None as a rule.
        limit: Bytes that there is room for.

    Returns:
        The block, and the names for which it has no room.
    """
    rows = {name: _row(name, it, it.error) for name, it in known.items()}
    surplus = len(_joined(rows.values(), superseded)) - limit
    if surplus <= 0:
        return _joined(rows.values(), superseded), frozenset()
    for name, it in known.items():
        if len(it.error) > LONGEST_ERROR:
            shorter = _row(name, it, it.error[:LONGEST_ERROR])
            surplus -= len(rows[name]) - len(shorter)
            rows[name] = shorter
    worths = {name: _worth(it, place, name == node, name in contacts) for place, (name, it) in enumerate(known.items())}
    left_out = []
    for name in sorted(worths, key=worths.__getitem__):
        if surplus <= 0:
            break
        # The separator behind it goes with it.
        surplus -= len(rows.pop(name)) + 1
        left_out.append(name)
    return _joined(rows.values(), superseded), frozenset(left_out)


def _worth(known: Known, place: int, is_own: bool, is_contact: bool) -> tuple[int, int, float]:
    """Smallest for who is left out first."""
    state = known.member.state
    if is_own:
        return 3, 0, 0.0
    if known.member.is_gone:
        return int(is_contact), LEAVING_ORDER.index(state), known.since
    return 2, STAYING_ORDER.index(state), -place


def _row(name: NodeId, known: Known, error: str) -> str:
    member = known.member
    row = {
        "name": name,
        "address": member.address,
        "key": member.key,
        "state": member.state,
        "since": known.since,
        "error": error,
    }
    return json.dumps(row, separators=COMPACT)


def _joined(rows: Collection[str], superseded: str | None) -> bytes:
    return f'{{"superseded":{json.dumps(superseded)},"members":[{",".join(rows)}]}}'.encode()
