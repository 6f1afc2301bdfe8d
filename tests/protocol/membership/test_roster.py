"""The list of members: its digest, who is present and absent, since when, and who is forgotten."""

from __future__ import annotations

from functools import reduce
from operator import xor

from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.membership.members import Member
from p2pdl.protocol.membership.roster import Roster
from tests.protocol.membership.driving import address_of, member, row

PLACES = {"c": address_of("c"), "a": address_of("a")}
STATES = ["alive", "suspect", "dead", "left"]
CHANGES = st.lists(
    st.builds(
        lambda name, state, incarnation: member(name, state, incarnation),
        st.sampled_from("bcde"),
        st.sampled_from(STATES),
        st.integers(0, 2),
    )
)


def roster_of(*members: Member) -> Roster:
    roster = Roster(member("a"), PLACES, 100.0)
    for it in members:
        roster.put(it, 101.0)
    return roster


def test_contact_is_unknown_until_somebody_has_heard_of_it() -> None:
    roster = roster_of()
    assert list(roster.contacts) == ["c"]
    assert {name: known.member.state for name, known in roster.known.items()} == {"a": "alive", "c": "unknown"}
    assert list(roster.members) == ["a"]
    assert (roster.present, list(roster.absent), roster.size) == ([], ["c"], 1)
    roster.put(member("c"), 101.0)
    assert (list(roster.members), roster.present, list(roster.absent), roster.size) == (["a", "c"], ["c"], [], 2)


@given(changes=CHANGES)
def test_views_follow_every_change(changes: list[Member]) -> None:
    roster = roster_of(*changes)
    last = {it.name: it for it in [member("a"), *changes]}
    others = {name: it for name, it in last.items() if name != "a"}
    assert dict(roster.members) == last
    assert roster.digest == reduce(xor, (it.fingerprint for it in last.values()))
    assert sorted(roster.present) == sorted(name for name, it in others.items() if it.is_present)
    gone = {name for name, it in others.items() if it.state == "dead" or (it.state == "left" and name == "c")}
    assert set(roster.absent) == gone | ({"c"} - last.keys())
    assert roster.size == 1 + len(roster.present)


@given(changes=CHANGES)
def test_digest_is_the_same_whatever_the_order(changes: list[Member]) -> None:
    last = {it.name: it for it in changes}
    assert roster_of(*changes).digest == roster_of(*reversed(last.values())).digest


def test_since_is_when_state_or_life_changed() -> None:
    roster = roster_of()

    def since(it: Member, now: float, age: int = 0) -> float:
        roster.put(it, now, age=age)
        return roster.known["b"].since

    assert since(member("b"), 110.0) == 110.0
    assert since(member("b", incarnation=3), 120.0) == 110.0
    assert since(member("b", "suspect", 3), 130.0) == 130.0
    assert since(member("b", "alive", 4), 140.0) == 140.0
    assert since(member("b", "alive", 5, life=1), 150.0) == 150.0
    assert since(member("b", "dead", 5), 160.0, age=40) == 120.0


def test_row_of_a_gone_member_carries_its_age_rounded_up() -> None:
    roster = roster_of(member("b", "dead"))
    assert roster.row("b", 101.0) == row("b", "dead", age=0)
    assert roster.row("b", 103.2) == row("b", "dead", age=3)


def test_row_of_a_suspect_carries_its_accuser() -> None:
    roster = roster_of()
    roster.put(member("b", "suspect"), 101.0, accuser="c")
    assert roster.row("b", 105.0) == row("b", "suspect", accuser="c")


def test_only_rows_of_the_living_are_known_at_a_glance() -> None:
    roster = roster_of(member("b"), member("d", "suspect"))
    assert roster.has_row(row("b")) and roster.has_row(row("a"))
    for other in (row("b", incarnation=1), row("b", "suspect"), row("d", "suspect"), row("e"), {}, {"name": ["b"]}):
        assert not roster.has_row(other)


def test_gone_members_are_forgettable_but_contacts_and_the_node_itself_are_not() -> None:
    roster = roster_of(member("b", "dead"), member("c", "dead"), member("d", "left"), member("e"), member("a", "left"))
    assert roster.gone() == [(101.0, "b"), (101.0, "d")]
    before = roster.digest
    roster.drop("b")
    assert roster.digest == before ^ member("b", "dead").fingerprint
    assert "b" not in roster.known and "b" not in roster.members and "b" not in roster.absent


def test_arrivals_are_those_that_have_become_present() -> None:
    roster = roster_of(
        member("b"), member("b", "suspect"), member("b", "dead"), member("b", "alive", 1), member("d", "left")
    )
    assert roster.arrivals == ["b", "b"]
