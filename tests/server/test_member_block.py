"""Whom the node's other processes are told of where there is no room for all: those who matter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.membership.members import RANKS, Member
from p2pdl.protocol.membership.roster import Known
from p2pdl.server.member_block import member_block
from p2pdl.server.peer_rows import LONGEST_ERROR

PLENTY = 1 << 20


def known(name: str, state: str = "alive", since: float = 0.0, error: str = "", key: str = "") -> Known:
    return Known(Member(name, f"{name}.example:7101", key, 1, 0, state), since, error)


def block(members: list[Known], limit: int = PLENTY, contacts: tuple[str, ...] = (), node: str = "own") -> Any:
    """What stands in the block, and the names that are left out."""
    by_name = {it.member.name: it for it in members}
    content, left_out = member_block(by_name, node, contacts, None, limit)
    assert len(content) <= limit
    return json.loads(content), left_out


def test_block_tells_all_of_those_for_whom_it_has_room() -> None:
    members = [known("own"), known("beta", "dead", 12.5, "silent " * 100, "ab" * 32), known("gamma", "left", 7.0)]
    size = len(member_block({it.member.name: it for it in members}, "own", (), "10.0.0.9:7101", PLENTY)[0])
    content, left_out = member_block({it.member.name: it for it in members}, "own", (), "10.0.0.9:7101", size)
    assert left_out == frozenset()
    assert json.loads(content) == {
        "superseded": "10.0.0.9:7101",
        "members": [
            {
                "name": it.member.name,
                "address": it.member.address,
                "key": it.member.key,
                "state": it.member.state,
                "since": it.since,
                "error": it.error,
            }
            for it in members
        ],
    }


def test_texts_of_errors_are_cut_before_anybody_is_left_out() -> None:
    members = [known(f"n{number}", "dead", error="x" * 1000) for number in range(10)]
    size = len(member_block({it.member.name: it for it in members}, "own", (), None, PLENTY)[0])
    view, left_out = block(members, size - 1)
    assert left_out == frozenset() and len(view["members"]) == 10
    assert {row["error"] for row in view["members"]} == {"x" * LONGEST_ERROR}
    view, left_out = block(members, size - 10 * (1000 - LONGEST_ERROR) - 1)
    assert len(left_out) == 1


# All names have one length, so that one row makes room for another.
EVERYBODY = [
    known("own", "alive", 1.0),
    known("c-un", "unknown", 1.0),
    known("c-de", "dead", 1.0),
    known("c-le", "left", 1.0),
    known("al-1", "alive", 9.0),
    known("su-1", "suspect", 9.0),
    known("de-1", "dead", 5.0),
    known("de-2", "dead", 2.0),
    known("le-1", "left", 9.0),
    known("le-2", "left", 8.0),
    known("su-2", "suspect", 1.0),
    known("al-2", "alive", 1.0),
]

ORDER = ["le-2", "le-1", "de-2", "de-1", "c-le", "c-de", "c-un", "su-2", "su-1", "al-2", "al-1"]
"""Who is left out, one after the other."""


@pytest.mark.parametrize("count", range(1, len(ORDER) + 1))
def test_those_are_left_out_first_who_matter_least(count: int) -> None:
    everybody = {it.member.name: it for it in EVERYBODY}
    whole = len(member_block(everybody, "own", (), None, PLENTY)[0])
    rows = {name: len(json.dumps(row, separators=(",", ":"))) + 1 for name, row in rows_of(EVERYBODY).items()}
    limit = whole - sum(rows[name] for name in ORDER[: count - 1]) - 1
    view, left_out = block(EVERYBODY, limit, ("c-un", "c-de", "c-le"))
    assert left_out == {*ORDER[:count]}
    assert [row["name"] for row in view["members"]] == [name for name in everybody if name not in left_out]


def rows_of(members: list[Known]) -> dict[str, Any]:
    return {row["name"]: row for row in block(members)[0]["members"]}


@given(
    st.lists(
        st.tuples(st.sampled_from([*RANKS]), st.floats(0, 1e9), st.text(max_size=300), st.text("äx😀", max_size=60)),
        max_size=40,
    ),
    st.integers(400, 20_000),
)
def test_block_fits_and_no_living_member_is_left_out_for_one_that_is_gone(
    drawn: list[tuple[str, float, str, str]], limit: int
) -> None:
    members = [known("own")]
    for number, (state, since, error, name) in enumerate(drawn):
        members.append(Known(Member(f"{number}{name}", "10.0.0.1:7101", "", 1, 0, state), since, error))
    view, left_out = block(members, limit)
    rows = {row["name"]: row for row in view["members"]}
    assert "own" in rows and {*rows} | left_out == {it.member.name for it in members} and not {*rows} & left_out
    states = {it.member.name: it.member.state for it in members}
    if any(states[name] not in ("dead", "left") for name in left_out):
        assert all(row["state"] not in ("dead", "left") for row in rows.values())
    if any(states[name] == "alive" for name in left_out):
        assert {row["state"] for row in rows.values()} == {"alive"}
