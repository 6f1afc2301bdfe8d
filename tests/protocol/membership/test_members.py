"""Claims: the order on which all nodes agree, lists that merge the same way in any order, and strict rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.membership.members import RANKS, Claim, Member, from_row, merged, to_row
from tests.protocol.membership.driving import member, row

STATES = [state for state in RANKS if state != "unknown"]
MEMBERS = st.builds(
    Member,
    name=st.sampled_from(["a", "b", "c"]),
    address=st.sampled_from(["host-1:1", "host-2:2"]),
    key=st.sampled_from(["", "0" * 64]),
    life=st.integers(0, 3),
    incarnation=st.integers(0, 3),
    state=st.sampled_from(STATES),
)
LISTS = st.lists(MEMBERS, max_size=6)
ANY_MEMBER = st.builds(
    Member,
    name=st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=64),
    address=st.sampled_from(
        ["127.0.0.1:1", "[::1]:65535", "[fe80::1.2.3.4]:7101", "node-1.example.org:7101", "a_b:80"]
    ),
    key=st.sampled_from(["", "0123456789abcdef" * 4]),
    life=st.integers(0, 2**64 - 1),
    incarnation=st.integers(0, 2**63 - 1),
    state=st.sampled_from(STATES),
)


def test_order_is_by_incarnation_then_life_then_state() -> None:
    ascending = [
        member("b", state, incarnation, life=life) for incarnation in (0, 1) for life in (3, 7) for state in STATES
    ]
    assert STATES == ["alive", "suspect", "dead", "left"]
    assert sorted(ascending, key=lambda it: it.order) == ascending
    assert len({it.order for it in ascending}) == len(ascending)


@given(one=MEMBERS, other=MEMBERS)
def test_order_is_total_and_equal_only_for_equal_claims(one: Member, other: Member) -> None:
    other = replace(other, name=one.name)
    assert (one.order == other.order) == (one == other)
    assert one.order < other.order or other.order < one.order or one == other


def test_order_of_a_node_nobody_has_heard_of_is_below_every_claim() -> None:
    unknown = Member("b", "z:1", "f" * 64, 0, 0, "unknown")
    assert all(unknown.order < Member("b", "a:1", "", 0, 0, state).order for state in STATES)
    assert unknown.fingerprint == 0


@given(lists=st.lists(LISTS, min_size=1, max_size=3))
def test_merging_lists_is_the_highest_claim_by_name_in_any_order(lists: list[list[Member]]) -> None:
    expected = {}
    for name in "abc":
        claims = [it for members in lists for it in members if it.name == name]
        if claims:
            expected[name] = max(claims, key=lambda it: it.order)
    for order in permutations(lists):
        assert merged(*order) == expected


@given(one=LISTS, other=LISTS, third=LISTS)
def test_merging_lists_is_a_semilattice(one: list[Member], other: list[Member], third: list[Member]) -> None:
    both = merged(one, other)
    assert merged(one, one) == merged(one)
    assert both == merged(other, one)
    assert merged(both.values(), third) == merged(one, merged(other, third).values())


@given(claimed=ANY_MEMBER, accuser=st.sampled_from(["", "node-2"]), age=st.integers(0, 2**31 - 1))
def test_row_of_any_claim_is_the_same_claim_after_reading(claimed: Member, accuser: str, age: int) -> None:
    claim = Claim(
        claimed, accuser if claimed.state == "suspect" else "", age if claimed.state in ("dead", "left") else 0
    )
    written = to_row(claimed, accuser, age)
    assert from_row(written) == claim
    assert ("accuser" in written, "age" in written) == (claimed.state == "suspect", claimed.is_gone)


WRONG: dict[str, list[Any]] = {
    "name": ["", "x" * 65, "two\nlines", "\x1b[2J", 5, None, True, ["b"]],
    "address": [
        "",
        "b",
        "b:",
        ":7101",
        "b:0",
        "b:65536",
        "b:007",
        "b:-1",
        "b: 80",
        "tcp://b:80",
        "::1:80",
        "b:80\n",
        7,
    ],
    "key": ["0" * 63, "0" * 65, "G" * 64, "A" * 64, None, 0],
    "life": [-1, 2**64, 1.0, True, None, "1"],
    "incarnation": [-1, 2**63, 1.0, False, None, "1"],
    "state": ["", "unknown", "ALIVE", "dead ", 1, None, ["alive"]],
}


@pytest.mark.parametrize("field, value", [(field, value) for field, values in WRONG.items() for value in values])
def test_row_with_a_wrong_value_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="not|has the fields"):
        from_row(row("b") | {field: value})


@pytest.mark.parametrize("state", STATES)
def test_row_with_a_field_missing_or_more_is_refused(state: str) -> None:
    right = row("b", state, accuser="c", age=3)
    for field in right:
        with pytest.raises(ValueError, match="state|has the fields"):
            from_row({name: value for name, value in right.items() if name != field})
    for field in {"accuser", "age", "colour", ""} - right.keys():
        with pytest.raises(ValueError, match="has the fields"):
            from_row(right | {field: 1})


@pytest.mark.parametrize(
    "state, field, value",
    [
        ("suspect", "accuser", "x" * 65),
        ("suspect", "accuser", None),
        ("suspect", "accuser", "\x00"),
        ("dead", "age", -1),
        ("dead", "age", 1.5),
        ("left", "age", True),
        ("left", "age", 2**31),
    ],
)
def test_row_with_a_wrong_accuser_or_age_is_refused(state: str, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{'an accuser' if field == 'accuser' else 'an age'} is"):
        from_row(row("b", state) | {field: value})


@given(
    st.dictionaries(
        st.sampled_from([*row("b", "suspect"), "age", "x"]), st.none() | st.integers() | st.text() | st.floats()
    )
)
def test_row_of_any_values_is_read_or_refused(anything: dict[str, object]) -> None:
    try:
        claim = from_row(anything)
    except ValueError:
        return
    assert to_row(claim.member, claim.accuser, claim.age) == anything


@given(one=MEMBERS, other=MEMBERS)
def test_fingerprint_differs_where_nodes_disagree_for_longer_than_a_moment(one: Member, other: Member) -> None:
    def agreed(it: Member) -> tuple[object, ...]:
        state = "present" if it.state in ("alive", "suspect") else it.state
        return it.name, it.address, it.life, it.incarnation, state

    assert (one.fingerprint == other.fingerprint) == (agreed(one) == agreed(other))
