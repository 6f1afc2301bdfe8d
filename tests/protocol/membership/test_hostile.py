"""Whatever others send: refused, counted, and nobody is locked out by it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.protocol.fields import Scalar
from p2pdl.protocol.membership.actions import Ask
from p2pdl.protocol.membership.claims import VERIFICATIONS
from p2pdl.protocol.membership.identity import RAISE_LIMIT
from p2pdl.protocol.membership.knowledge import MEMBERS_LIMIT
from p2pdl.protocol.membership.members import Row
from p2pdl.protocol.membership.relaying import RELAYS_AT_ONCE
from p2pdl.protocol.messages import (
    Envelope,
    ProbeReply,
    ProbeRequest,
    RelayedRequest,
    RelayRequest,
    SyncReply,
    SyncRequest,
)
from p2pdl.wire import decode, encode
from tests.protocol.membership.driving import Driven, address_of, joined, life_of, member, probes, row
from tests.wire.strategies import MESSAGES

KEYS = {name: f"{number:x}" * 64 for number, name in enumerate("abc")}


def test_row_that_is_none_is_counted_and_the_others_are_taken() -> None:
    driven = joined("b")
    driven.hear({"name": "x"}, row("y"), {}, row("z") | {"life": -1})
    assert driven.core.counters["refused-row"] == 3
    assert driven.core.members.keys() == {"a", "b", "y"}


@pytest.mark.parametrize("bad", [row("x", key="f" * 64), row("b", incarnation=1, key="f" * 64), row("b", "dead", 1)])
def test_name_or_key_that_is_not_on_the_list_is_refused(bad: Row) -> None:
    driven = Driven(own=member("a", key=KEYS["a"]), keys=KEYS)
    driven.hear(row("b", key=KEYS["b"]))
    before = dict(driven.core.members)
    driven.hear(bad)
    driven.sync(bad)
    driven.core.on_rumours([bad], driven.now)
    assert driven.core.counters["refused-key"] == 3
    assert dict(driven.core.members) == before
    driven.hear(row("b", incarnation=1, key=KEYS["b"]), row("c", key=KEYS["c"]))
    assert driven.core.members.keys() == {"a", "b", "c"}


def test_key_of_a_lie_about_this_node_is_checked_too() -> None:
    driven = Driven(own=member("a", key=KEYS["a"]), keys=KEYS)
    driven.run(0.0)
    driven.hear(row("a", "dead", 5, key="f" * 64))
    assert driven.core.members["a"].incarnation == 0


@pytest.mark.parametrize("incarnation", [RAISE_LIMIT + 1, 2**62, 2**63 - 1])
@pytest.mark.parametrize("state", ["alive", "dead", "left", "suspect"])
def test_absurd_incarnation_is_refused_and_the_member_asked(incarnation: int, state: str) -> None:
    driven = joined("b", "c")
    driven.hear(row("b", state, incarnation, accuser="c"), sender="c")
    assert driven.core.members["b"] == member("b")
    assert driven.core.counters["refused-incarnation"] == 1
    assert [ask.address for _, ask in driven.asked] == [address_of("b")]
    driven.hear(row("b", state, RAISE_LIMIT, accuser="c"), sender="c")
    assert driven.core.members["b"] == member("b", state, RAISE_LIMIT)


def test_absurd_incarnation_at_another_address_is_refused_and_nobody_asked() -> None:
    driven = joined("b", "c")
    driven.hear(row("b", incarnation=2**62, address="host-liar:7101"), sender="c")
    assert not driven.asked and driven.core.members["b"] == member("b")


def test_member_itself_is_believed_at_its_own_address_only() -> None:
    driven = joined("b", "c")
    high = row("b", incarnation=3 * RAISE_LIMIT)
    driven.hear(high, sender="b")
    assert driven.core.members["b"].incarnation == 0, "a request could come from anywhere"
    driven.answers = lambda ask: ("b", ProbeReply(life_of("b"), (high,))) if ask.address == address_of("b") else "peers"
    driven.run(5.0)
    assert driven.core.members["b"].incarnation == 3 * RAISE_LIMIT


def test_stranger_far_ahead_is_found_by_asking_it() -> None:
    driven = joined("b")
    high = row("x", incarnation=5 * RAISE_LIMIT)
    driven.answers = lambda ask: ("x", ProbeReply(life_of("x"), (high,))) if ask.address == address_of("x") else "peers"
    driven.hear(high, sender="b")
    assert driven.core.members["x"].incarnation == 5 * RAISE_LIMIT


def test_questions_about_absurd_claims_are_few() -> None:
    driven = joined("b")
    driven.answers = lambda ask: None
    for number in range(100):
        driven.hear(row(f"x{number}", incarnation=2**60), sender="b")
        driven.hear(row(f"x{number}", incarnation=2**60), sender="b")
    assert len(driven.asked) == VERIFICATIONS
    assert driven.core.counters["refused-incarnation"] == 200


def test_absurd_claim_about_this_node_raises_its_incarnation_by_no_more_than_the_limit() -> None:
    driven = joined("b")
    for times in (1, 2, 3):
        driven.hear(row("a", "dead", 2**63 - 1))
        assert driven.core.members["a"].incarnation == times * RAISE_LIMIT


def test_member_whose_claim_was_raised_in_steps_is_heard_again() -> None:
    """The liar takes two steps before the member hears of it: the member follows in as many."""
    liar, victim = joined("b", "c"), joined("a", own=member("b"))
    for step in (1, 2):
        liar.hear(row("b", "dead", step * RAISE_LIMIT), sender="c")
    assert liar.core.members["b"] == member("b", "dead", 2 * RAISE_LIMIT)

    def reach(ask: Ask) -> tuple[str, ProbeReply] | str:
        if ask.address != address_of("b"):
            return "peers"
        assert isinstance(ask.request, ProbeRequest | SyncRequest)
        reply, _ = victim.core.on_request(ask.request, "a", victim.now)
        return "b", reply  # type: ignore[return-value]

    liar.answers = reach  # type: ignore[assignment]
    for _ in range(4):
        own, *_ = victim.core.on_request(ProbeRequest("b", ()), "a", victim.now)[0].rumours  # type: ignore[union-attr]
        for told in liar.hear(own):
            victim.core.on_rumours([told], victim.now)
    assert liar.core.members["b"].state == "alive"


def test_names_are_bounded_and_the_longest_gone_make_room() -> None:
    driven = joined("b")
    driven.hear(row("old", "dead", age=500), row("older", "left", age=600))
    while len(driven.core.known) < MEMBERS_LIMIT:
        driven.core.on_rumours([row(f"x{len(driven.core.known)}")], driven.now)
    driven.core.on_rumours([row("y")], driven.now)
    assert "y" in driven.core.known and "older" not in driven.core.known and "old" in driven.core.known
    driven.core.on_rumours([row("z"), row("late")], driven.now)
    assert "z" in driven.core.known and "old" not in driven.core.known
    assert "late" not in driven.core.known and driven.core.counters["refused-full"] == 1
    assert len(driven.core.known) == MEMBERS_LIMIT


def test_relays_are_bounded_and_for_members_only() -> None:
    driven = joined("b")
    driven.answers = lambda ask: None

    def relay(asker: str, sequence: int) -> int:
        before = len(driven.asked)
        request = RelayRequest("target", "host-t:7101", sequence, ())
        reply, actions = driven.core.on_request(request, asker, driven.now)
        driven.perform(actions)
        assert isinstance(reply, ProbeReply) and reply.life == life_of("a")
        return len(driven.asked) - before

    assert relay("stranger", 0) == 0
    assert sum(relay("b", number) for number in range(RELAYS_AT_ONCE + 10)) == RELAYS_AT_ONCE
    assert driven.core.counters["relays-refused"] == 11
    driven.now += 1.1
    assert relay("b", 99) == 1


def test_relay_asks_where_it_knows_the_member_to_be_and_brings_what_it_said() -> None:
    driven = joined("b", "c")
    driven.hear(row("c", incarnation=1, address="host-z:7101"), sender="c")
    driven.quiet()
    refuted = row("c", incarnation=5, address="host-z:7101")
    driven.answers = lambda ask: ("c", ProbeReply(9, (refuted,))) if ask.address == "host-z:7101" else "peers"
    _, actions = driven.core.on_request(RelayRequest("c", address_of("c"), 77, (row("b"),)), "b", driven.now)
    driven.perform(actions)
    [probe, word] = [ask for _, ask in driven.asked]
    assert (probe.address, word.address) == ("host-z:7101", address_of("b"))
    assert word.request == RelayedRequest("c", 77, (row("a"), refuted))


def test_answer_nobody_waits_for_and_one_that_comes_twice_change_nothing() -> None:
    driven = joined("b")
    driven.run(3.0)
    [ask] = probes([ask for _, ask in driven.asked][-1:], "b")
    for number in (ask.id, ask.id + 10**6):
        assert driven.core.on_reply(number, "b", ProbeReply(1, (row("x"),)), driven.now) == []
    assert "x" not in driven.core.known
    assert driven.core.counters["replies-unexpected"] == 2


ROWS = st.lists(
    st.one_of(
        st.builds(
            row,
            st.sampled_from("abcx"),
            st.sampled_from(["alive", "suspect", "dead", "left"]),
            st.sampled_from([0, 1, 2, RAISE_LIMIT, 2**63 - 1]),
            st.sampled_from(["", "b", "x"]),
            st.sampled_from([0, 10, 10**6]),
            life=st.sampled_from([0, 5, 2**64 - 1]),
            address=st.sampled_from(["host-b:7101", "host-z:1"]),
        ),
        st.dictionaries(
            st.sampled_from(["name", "state", "life"]), st.none() | st.integers(0, 9) | st.text(max_size=3)
        ),
    ),
    max_size=4,
).map(tuple)
REQUESTS = st.one_of(
    st.builds(ProbeRequest, st.sampled_from("ab"), ROWS),
    st.builds(RelayRequest, st.sampled_from("abx"), st.just("host-z:1"), st.integers(0, 9), ROWS),
    st.builds(RelayedRequest, st.sampled_from("abx"), st.integers(0, 9), ROWS),
    st.builds(SyncRequest, st.integers(0, 9), ROWS),
)
REPLIES = st.one_of(
    st.builds(ProbeReply, st.integers(0, 9), ROWS), st.builds(SyncReply, st.integers(0, 9), ROWS), MESSAGES
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["request", "reply", "tick", "heard", "rumours"]), REQUESTS, REPLIES, st.floats(0.0, 9.0)
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(events=EVENTS, seed=st.integers(0, 9))
def test_core_survives_anything_and_never_goes_back(events: list[Any], seed: int) -> None:
    driven = Driven(["b", "c"], seed=seed, join=["host-j:1"])
    core, highest, open_questions = driven.core, (0, 0), []
    for what, request, reply, seconds in events:
        sender = str(request.target) if not isinstance(request, SyncRequest) else "b"
        actions: list[Any] = []
        match what:
            case "request":
                answer, actions = core.on_request(request, sender, driven.now)
                assert isinstance(answer, SyncReply if isinstance(request, SyncRequest) else ProbeReply)
                assert decode(encode(Envelope(1, "lab", "a", answer))).message == answer
            case "reply" if open_questions:
                actions = core.on_reply(open_questions.pop(), sender, reply, driven.now)
            case "tick":
                driven.now += seconds
                actions = core.on_tick(driven.now)
                assert core.deadline > driven.now
            case "heard":
                core.on_heard(sender, driven.now)
            case "rumours" if not isinstance(request, SyncRequest):
                actions = core.on_rumours(request.rumours, driven.now)
        for ask in actions:
            if isinstance(ask, Ask):
                assert encode(Envelope(ask.id, "lab", "a", ask.request))
                open_questions.append(ask.id)
        own = core.members["a"]
        assert (own.incarnation, own.life) >= highest and own.state == "alive"
        highest = own.incarnation, own.life
        assert all(isinstance(value, Scalar) for it in core.rumours(driven.now) for value in it.values())
