"""What becomes of claims about others: suspicion, refutation, death, farewell, return, and being forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.membership.actions import Changed
from p2pdl.protocol.membership.members import Member, merged, to_row
from p2pdl.protocol.messages import ProbeReply, ProbeRequest
from tests.protocol.membership.driving import LAN, Driven, joined, member, probes, row

OTHERS = ("b", "c", "d", "e", "f", "g", "h", "i", "j")
"""With node a, ten members: suspicions last 4 to 24 s."""


def change(driven: Driven, name: str) -> Changed:
    """The last change of a member."""
    return [it for it in driven.changes if it.member.name == name][-1]


def test_suspect_that_nobody_else_suspects_has_the_longest_time() -> None:
    driven = joined(*OTHERS)
    driven.hear(row("b", "suspect", accuser="c"))
    driven.run(23.9)
    assert driven.state_of("b") == "suspect"
    assert change(driven, "b") == Changed(member("b", "suspect"), "alive", "c cannot reach it")
    driven.run(0.2)
    assert driven.state_of("b") == "dead"
    reason = "it has not refuted a suspicion for 24.0 s (suspected by c)"
    assert change(driven, "b") == Changed(member("b", "dead"), "suspect", reason)


def test_suspect_that_several_suspect_independently_has_the_shortest() -> None:
    driven = joined(*OTHERS)
    for accuser in ("c", "d", "c", "e"):
        driven.hear(row("b", "suspect", accuser=accuser))
    assert driven.core.counters["confirmations"] == 2
    driven.run(3.9)
    assert driven.state_of("b") == "suspect"
    driven.run(0.2)
    assert driven.state_of("b") == "dead"
    assert change(driven, "b").reason.endswith("(suspected by c, d, e)")


@pytest.mark.parametrize("accuser", ["", "b", "stranger", "x"])
def test_accuser_must_be_another_member_that_is_there(accuser: str) -> None:
    driven = joined(*OTHERS)
    driven.hear(row("x", "dead"))
    driven.hear(row("b", "suspect", accuser="c"))
    for _ in range(3):
        driven.hear(row("b", "suspect", accuser=accuser))
    driven.run(23.9)
    assert driven.state_of("b") == "suspect"


@pytest.mark.parametrize("state", ["suspect", "dead", "left"])
def test_refutation_needs_a_higher_incarnation(state: str) -> None:
    driven = joined(*OTHERS)
    driven.hear(row("b", state, 4, accuser="c"))
    for incarnation in (0, 3, 4):
        driven.hear(row("b", "alive", incarnation))
        assert driven.state_of("b") == state
    driven.hear(row("b", "alive", 5))
    assert driven.core.members["b"] == member("b", "alive", 5)
    assert change(driven, "b") == Changed(member("b", "alive", 5), state, "it has spoken for itself")
    driven.run(30.0)
    assert driven.state_of("b") == "alive" and driven.core.known["b"].error == ""


def test_suspect_is_told_first_and_its_refutation_comes_back() -> None:
    driven = joined("b", "c", "d")
    driven.silent = {"b"}
    while driven.state_of("b") == "alive":
        driven.run(0.05)
    moment, told = [(moment, ask) for moment, ask in driven.asked if probes([ask], "b")][-1]
    request = told.request
    assert isinstance(request, ProbeRequest)
    assert request.rumours[:2] == (row("a"), row("b", "suspect", accuser="a"))
    assert driven.core.known["b"].since == moment
    driven.perform(
        driven.core.on_reply(told.id, "b", ProbeReply(member("b").life, (row("b", "alive", 1),)), driven.now)
    )
    assert driven.core.members["b"] == member("b", "alive", 1)


def test_later_accuser_is_told_of_and_so_is_this_nodes_own_failure() -> None:
    driven = joined("b", "c", "d", "e")
    driven.hear(row("b", "suspect", accuser="c"))
    driven.silent = {"b"}
    while not driven.core.counters["accusations"]:
        driven.run(0.1)
    assert driven.core.counters["confirmations"] == 1
    driven.run(0.3)
    rows = [it for _, ask in driven.asked if isinstance(ask.request, ProbeRequest) for it in ask.request.rumours]
    assert row("b", "suspect", accuser="a") in rows


def test_death_as_news_is_believed() -> None:
    driven = joined("b", "c")
    driven.hear(row("b", "dead", age=3))
    assert driven.state_of("b") == "dead"
    assert driven.core.known["b"].since == driven.now - 3
    assert change(driven, "b").reason == "other members have given it up"


def test_death_in_a_list_is_only_a_suspicion_of_one_that_is_here() -> None:
    driven = joined("b", "c", "d", "e")
    driven.sync(row("b", "dead", age=3), row("x", "dead", 2, age=3), row("c", "dead", 6))
    assert {name: driven.state_of(name) for name in "bcx"} == {"b": "suspect", "c": "suspect", "x": "dead"}
    assert driven.core.members["c"].incarnation == 6
    assert change(driven, "b").reason == "others hold it for dead"
    rows = driven.hear(row("b", "alive", 1))
    assert (driven.state_of("b"), rows[0]) == ("alive", row("a"))


def test_farewell_is_believed_and_final_for_that_life() -> None:
    driven = joined("b", "c")
    driven.hear(row("b", "left", 2))
    assert change(driven, "b") == Changed(member("b", "left", 2), "alive", "it has said goodbye")
    for state in ("alive", "suspect", "dead"):
        driven.hear(row("b", state, 2, accuser="c"))
        driven.hear(row("b", state, 1, accuser="c"))
    assert driven.state_of("b") == "left"
    assert not probes(driven.run(100.0), "b")
    driven.hear(row("b", "alive", 3, life=77))
    assert change(driven, "b") == Changed(member("b", "alive", 3, life=77), "left", "it has started again")


def test_restart_is_one_change_and_names_a_new_address() -> None:
    driven = joined("b", "c")
    driven.hear(row("b", "alive", 1, life=77))
    driven.hear(row("b", "alive", 1, life=77))
    driven.hear(row("b", "alive", 2, life=77))
    assert [it.reason for it in driven.changes] == ["it has started again"]
    driven.hear(row("b", "alive", 3, life=78, address="host-z:9"))
    assert driven.changes[-1].reason == "it has started again at host-z:9 instead of host-b:7101"
    assert len(driven.changes) == 2
    driven.answers = lambda ask: "peers" if ask.address != "host-z:9" else None
    assert {ask.address for ask in probes(driven.run(3.0), "b")} == {"host-z:9"}


def test_gone_member_is_forgotten_after_its_time_but_a_contact_is_not() -> None:
    driven = joined("b", "c", settings=replace(LAN, forget_after=900.0))
    driven.hear(row("x", "dead"), row("y", "left"), row("b", "dead"))
    driven.silent = {"x", "b"}
    driven.run(899.0)
    assert {"x", "y", "b"} <= driven.core.known.keys()
    driven.run(2 * LAN.sync_interval)
    assert driven.core.known.keys() == {"a", "b", "c"}
    assert driven.core.counters["forgotten"] == 2
    assert driven.state_of("b") == "dead"


def test_member_that_nearly_all_have_forgotten_is_not_learnt_again() -> None:
    driven = joined("b")
    old = int(0.99 * LAN.forget_after) + 1
    driven.sync(row("x", "dead", age=old), row("y", "left", age=old), row("z", "dead", age=old - 2))
    assert driven.core.known.keys() == {"a", "b", "z"}
    driven.hear(row("x", "alive"))
    assert driven.state_of("x") == "alive"


def test_suspicion_of_a_member_that_is_gone_is_over() -> None:
    driven = joined(*OTHERS)
    driven.hear(row("b", "suspect", accuser="c"))
    driven.hear(row("b", "left"))
    driven.run(30.0)
    assert driven.state_of("b") == "left"


CLAIMS = st.lists(
    st.builds(
        Member,
        name=st.sampled_from(["b", "c", "x"]),
        address=st.sampled_from(["host-1:1", "host-2:2"]),
        key=st.just(""),
        life=st.integers(0, 2),
        incarnation=st.integers(0, 3),
        state=st.sampled_from(["alive", "suspect", "dead", "left"]),
    ),
    max_size=12,
)


@given(claims=CLAIMS)
def test_news_in_any_order_leaves_the_highest_claims(claims: list[Member]) -> None:
    driven = Driven()
    driven.run(0.0)
    for it in claims:
        driven.core.on_rumours([to_row(it)], driven.now)
    others = {name: it for name, it in driven.core.members.items() if name != "a"}
    assert others == merged(claims)
