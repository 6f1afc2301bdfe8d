"""Finding the others: joining, contacts that do not answer, and members that were given up."""

from __future__ import annotations

import numpy as np
import pytest

from p2pdl.protocol.membership.actions import Ask, Changed
from p2pdl.protocol.membership.core import Membership
from p2pdl.protocol.messages import ProbeReply, SyncReply, SyncRequest
from tests.protocol.membership.driving import LAN, Driven, address_of, joined, life_of, member, name_at, row


def moments(driven: Driven, name: str) -> list[float]:
    """When a node was asked for its list."""
    return [
        moment
        for moment, ask in driven.asked
        if isinstance(ask.request, SyncRequest) and not ask.request.members and ask.address == address_of(name)
    ]


def says_own_row(driven: Driven) -> bool:
    return bool(driven.hear())


def test_node_alone_is_a_member_at_once() -> None:
    driven = Driven()
    assert not says_own_row(driven)
    driven.run(0.0)
    assert driven.hear() == (row("a"),)
    driven.run(3600.0)
    assert not driven.asked and not driven.changes


def test_newcomer_says_nothing_of_itself_before_it_has_seen_a_list() -> None:
    driven = Driven(["b", "c"])
    driven.answers = lambda ask: None
    driven.run(1.0)
    assert driven.asked and all(
        ask.request.members == () for _, ask in driven.asked if isinstance(ask.request, SyncRequest)
    )
    assert all(isinstance(ask.request, SyncRequest) for _, ask in driven.asked)
    assert not says_own_row(driven) and driven.sync().members == ()
    assert driven.core.rumours(driven.now) == ()
    ask = driven.asked[0][1]
    name = name_at(ask.address)
    driven.perform(driven.core.on_reply(ask.id, name, SyncReply(1, (row(name), row("x"))), driven.now))
    assert driven.hear() == (row("a"), row("b"))[: 1 + (name == "b")]
    assert driven.state_of(name) == driven.state_of("x") == "alive"


def test_newcomer_that_meets_only_newcomers_is_a_member_when_all_have_answered() -> None:
    driven = Driven(["b", "c", "d"])
    driven.silent = {"d"}
    driven.run(1.9)
    assert not says_own_row(driven)
    late = next(ask for _, ask in driven.asked if ask.address == address_of("d"))
    driven.perform(driven.core.on_reply(late.id, "d", SyncReply(5, ()), driven.now))
    assert says_own_row(driven)


def test_newcomer_waits_two_intervals_for_those_that_do_not_answer() -> None:
    driven = Driven(["b", "c"])
    driven.silent = {"b", "c"}
    driven.run(1.99)
    assert not says_own_row(driven)
    driven.run(0.25)
    assert says_own_row(driven)


def test_newcomer_asks_some_at_once_and_all_soon() -> None:
    names = [f"n{number}" for number in range(20)]
    driven = Driven(names)
    driven.silent = set(names)
    assert len(driven.run(0.0)) == LAN.fanout
    asked = {ask.address for ask in driven.run(4.0)} | {ask.address for _, ask in driven.asked[: LAN.fanout]}
    assert asked == {address_of(name) for name in names}


def test_contact_that_does_not_answer_is_asked_with_growing_finite_pauses() -> None:
    driven = Driven(["b"])
    driven.silent = {"b"}
    driven.run(1000.0)
    pauses = np.diff(moments(driven, "b"))
    for pause, expected in zip(pauses, [1, 2, 4, 8, 16, *[30] * 50], strict=False):
        assert 0.75 * expected - LAN.gossip_interval <= pause <= 1.25 * expected + LAN.probe_interval
    assert len(pauses) > 30
    assert driven.core.known["b"].error == "no answer from host-b:7101 yet"
    assert driven.core.known["b"].member.state == "unknown" and "b" not in driven.core.members


def test_contact_that_answers_is_a_member_and_not_asked_as_a_contact_any_more() -> None:
    driven = Driven(["b"])
    driven.silent = {"b"}
    driven.run(10.0)
    driven.silent = set()
    driven.answers = lambda ask: (
        ("b", SyncReply(1, (row("b"),)))
        if isinstance(ask.request, SyncRequest) and not ask.request.members
        else "peers"
    )
    driven.run(15.0)
    assert driven.state_of("b") == "alive"
    assert driven.changes == [Changed(member("b"), "unknown", "it is at host-b:7101")]
    driven.quiet()
    assert len(moments(driven, "b")) + len(driven.run(30.0)) < 40


def test_however_many_contacts_are_down_only_one_is_asked_in_each_interval() -> None:
    names = [f"n{number}" for number in range(100)]
    driven = Driven([*names, "b"])
    driven.silent = set(names)
    driven.hear(row("b"))
    driven.run(60.0)
    driven.asked.clear()
    driven.run(100.0)
    asked = [ask for _, ask in driven.asked if isinstance(ask.request, SyncRequest) and ask.address != address_of("b")]
    assert len(asked) <= 101
    assert len({ask.address for ask in asked}) > 60


def test_dead_member_is_asked_now_and_then_and_comes_back() -> None:
    driven = joined("b", "c")
    driven.hear(row("x", "dead"), sender="c")
    driven.silent = {"x"}
    driven.run(600.0)
    assert len(moments(driven, "x")) == pytest.approx(600.0 / LAN.dead_contact, abs=4)
    driven.silent = set()
    back = row("x", "alive", 1)
    driven.answers = lambda ask: (
        ("x", SyncReply(1, (back,)))
        if isinstance(ask.request, SyncRequest) and ask.address == address_of("x")
        else "peers"
    )
    driven.run(40.0)
    assert driven.state_of("x") == "alive"


def test_member_that_has_left_is_not_asked_but_a_contact_is() -> None:
    driven = joined("b", "c")
    driven.hear(row("x", "left"), row("b", "left"), sender="c")
    driven.silent = {"x", "b"}
    driven.run(120.0)
    assert not moments(driven, "x")
    assert moments(driven, "b")


def test_dead_contact_that_has_moved_is_asked_at_both_addresses() -> None:
    driven = joined("b", "c")
    driven.hear(row("b", "dead", 3, life=9, address="host-z:7101"), sender="c")
    driven.silent = {"b", "z"}
    driven.run(100.0)
    assert moments(driven, "b") and moments(driven, "z")


def test_address_without_a_name_is_asked_until_somebody_answers_there() -> None:
    driven = Driven(join=[address_of("b"), address_of("c"), address_of("a")])
    driven.silent = {"b", "c"}
    driven.run(20.0)
    assert len(moments(driven, "b")) > 3 and len(moments(driven, "c")) > 3 and not moments(driven, "a")
    driven.answers = lambda ask: (
        ("somebody", SyncReply(1, (row("somebody", address="host-s:7101"), row("c"))))
        if ask.address == address_of("b")
        else ("somebody", ProbeReply(life_of("somebody"), ()))
        if ask.address == "host-s:7101"
        else "peers"
    )
    driven.run(40.0)
    assert set(driven.core.members) == {"a", "somebody", "c"}
    driven.asked.clear()
    driven.run(100.0)
    assert not moments(driven, "b"), "who has that name is known"


def test_node_alone_among_silent_contacts_goes_on_looking_soon() -> None:
    names = [f"n{number}" for number in range(30)]
    driven = Driven(names)
    driven.silent = set(names)
    driven.run(7.0)
    assert {ask.address for _, ask in driven.asked} == {address_of(name) for name in names}


def test_contact_at_whose_address_another_node_answers_is_not_found() -> None:
    driven = Driven(["b"])
    driven.answers = lambda ask: ("c", SyncReply(1, (row("c"),))) if ask.address == address_of("b") else "peers"
    driven.run(5.0)
    assert driven.state_of("b") == "unknown"
    assert driven.core.known["b"].error == "host-b:7101 is another node: c"
    assert driven.state_of("c") == "alive"


def test_own_name_among_the_contacts_is_passed_over() -> None:
    driven = Driven(["a", "b"])
    driven.run(5.0)
    assert address_of("a") not in {ask.address for _, ask in driven.asked}


def test_contact_with_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="an address is host:port"):
        Membership(member("a"), {"b": "nowhere"}, LAN, np.random.default_rng(0), 0.0)
    with pytest.raises(ValueError, match="a node that starts is alive, not dead"):
        Membership(member("a", "dead"), {}, LAN, np.random.default_rng(0), 0.0)


def test_asks_are_numbered_apart() -> None:
    driven = Driven(["b", "c"])
    driven.run(50.0)
    numbers = [ask.id for _, ask in driven.asked if isinstance(ask, Ask)]
    assert len(set(numbers)) == len(numbers)
