"""Comparing lists: a digest while both agree, what the other lacks if not, and lists too long for one message."""

from __future__ import annotations

import pytest

from p2pdl.protocol.membership.actions import Ask
from p2pdl.protocol.membership.identity import RAISE_LIMIT
from p2pdl.protocol.membership.members import Member, to_row
from p2pdl.protocol.membership.syncing import LIST_BYTES
from p2pdl.protocol.messages import MEMBER_ROWS, Envelope, SyncReply, SyncRequest
from p2pdl.wire import HEADER_LIMIT, decode, encode
from tests.protocol.membership.driving import LAN, Driven, joined, life_of, member, name_at, row


def syncs(asks: list[Ask]) -> list[SyncRequest]:
    return [ask.request for ask in asks if isinstance(ask.request, SyncRequest)]


def digest_of(driven: Driven) -> int:
    """The node's digest, as it tells others."""
    reply = driven.sync()
    return reply.digest


def test_members_in_agreement_exchange_a_digest_now_and_then() -> None:
    driven = joined("b", "c")
    requests = syncs(driven.run(600.0))
    assert len(requests) == pytest.approx(600.0 / LAN.sync_interval, abs=4)
    assert set(requests) == {SyncRequest(digest_of(driven), ())}
    reply, actions = driven.core.on_request(requests[0], "b", driven.now)
    assert (reply, actions) == (SyncReply(requests[0].digest, ()), [])


def test_digest_does_not_depend_on_suspicions_but_on_everything_else() -> None:
    digests = []
    for it in (
        row("x"),
        row("x", "suspect"),
        row("x", "dead"),
        row("x", "left"),
        row("x", incarnation=1),
        row("x", life=1),
        row("x", address="z:1"),
    ):
        driven = joined("b")
        driven.hear(it)
        digests.append(digest_of(driven))
    assert digests[0] == digests[1]
    assert len(set(digests)) == len(digests) - 1


def test_list_is_sent_where_digests_differ() -> None:
    driven = joined("b", "c")
    driven.hear(row("x", "suspect", accuser="b"), row("y", "dead", age=7))
    reply = driven.sync()
    assert sorted(it["name"] for it in reply.members) == ["a", "b", "c", "x", "y"]
    assert row("x", "suspect", accuser="b") in reply.members and row("y", "dead", age=7) in reply.members


def test_asker_takes_the_list_and_sends_what_it_lacks() -> None:
    driven = joined("b", "c", "d")
    driven.hear(row("x"), row("c", incarnation=4))
    driven.quiet()
    theirs = (row("b"), row("c", incarnation=3), row("d", incarnation=2), row("y"))
    driven.answers = lambda ask: (
        (name_at(ask.address), SyncReply(1, theirs))
        if isinstance(ask.request, SyncRequest) and not ask.request.members
        else "peers"
    )
    while "y" not in driven.core.members:
        driven.run(1.0)
    second = [request for request in syncs([ask for _, ask in driven.asked]) if request.members][0]
    assert sorted((it["name"], it["incarnation"]) for it in second.members) == [("a", 0), ("c", 4), ("x", 0)]
    assert driven.core.members["d"].incarnation == 2
    assert second.digest == digest_of(driven)


def test_list_with_nothing_lacking_is_not_answered_again() -> None:
    driven = joined("b")
    mine = driven.sync().members
    driven.answers = lambda ask: ("b", SyncReply(1, mine)) if isinstance(ask.request, SyncRequest) else "peers"
    assert all(not request.members for request in syncs(driven.run(100.0)))


def test_reply_to_a_list_says_only_where_it_is_outdated() -> None:
    driven = joined("b", "c")
    driven.hear(row("c", incarnation=4), row("x"))
    reply = driven.sync(row("a", "dead", 0), row("b"), row("c", incarnation=3), row("y"))
    assert sorted((it["name"], it["incarnation"]) for it in reply.members) == [("a", 1), ("c", 4)]
    assert driven.state_of("y") == "alive"
    assert reply.digest == digest_of(driven)


def test_two_lists_are_the_same_after_one_exchange() -> None:
    one, other = joined("b", "c"), joined("a", "c", own=member("b"))
    one.hear(row("c", incarnation=3), row("x"), sender="c")
    other.hear(row("c", incarnation=2), row("y", "left", age=9), row("z", "dead", 1, age=2), sender="c")
    assert digest_of(one) != digest_of(other)
    first = SyncRequest(digest_of(one), ())
    reply, _ = other.core.on_request(first, "a", other.now)
    one.answers = lambda ask: None if isinstance(ask.request, SyncRequest) else "peers"
    while not (asked := [ask for _, ask in one.asked if isinstance(ask.request, SyncRequest)]):
        one.run(1.0)
    assert asked[0].request == first
    ask = asked[0]
    [second] = [it for it in one.core.on_reply(ask.id, name_at(ask.address), reply, one.now) if isinstance(it, Ask)]
    assert isinstance(second.request, SyncRequest)
    other.core.on_request(second.request, "a", other.now)
    assert digest_of(one) == digest_of(other)
    assert {name: it.incarnation for name, it in one.core.members.items()} == {
        name: it.incarnation for name, it in other.core.members.items()
    }


@pytest.mark.parametrize("count, key, is_cut", [(300, "", False), (300, "0" * 64, False), (400, "0" * 64, True)])
def test_list_fits_into_a_header_or_is_cut_by_chance(count: int, key: str, is_cut: bool) -> None:
    driven = joined("b")
    names = [f"node-{number:04}" for number in range(count)]
    for name in names:
        driven.core.on_rumours([row(name, key=key, life=2**64 - 1)], driven.now)
    replies = [driven.sync() for _ in range(6)]
    for reply in replies:
        frame = encode(Envelope(2**64 - 1, "c" * 64, "n" * 64, reply))
        assert len(frame) <= HEADER_LIMIT
        assert decode(frame).message == reply
        assert reply.members[0]["name"] == "a"
        assert (len(reply.members) < count + 2) == is_cut
    assert bool(driven.core.counters["lists-cut"]) == is_cut
    seen = {str(it["name"]) for reply in replies for it in reply.members}
    assert len(seen & set(names)) > (count if not is_cut else len(replies[0].members)) - 1


def test_list_of_the_longest_names_fits_too() -> None:
    driven = joined("b")
    for number in range(600):
        name, address = f"{number:04}" + "\U00010000" * 60, "h" * 250 + ":7101"
        longest = Member(name, address, "0" * 64, 2**64 - 1, RAISE_LIMIT, "suspect")
        driven.core.on_rumours([to_row(longest, accuser="b")], driven.now)
    reply = driven.sync()
    assert len(encode(Envelope(2**64 - 1, "\U00010000" * 64, "\U00010000" * 64, reply))) <= HEADER_LIMIT
    assert 50 < len(reply.members) < MEMBER_ROWS
    assert LIST_BYTES < HEADER_LIMIT


def test_rows_learnt_from_a_list_are_told_on() -> None:
    driven = joined("b", "c")
    driven.sync(row("x"))
    rows = [it for ask in driven.run(1.0) if not isinstance(ask.request, SyncRequest) for it in ask.request.rumours]
    assert row("x") in rows


def test_newcomer_tells_nobody_of_its_first_list() -> None:
    driven = Driven(["b"])
    rows = tuple(row(name) for name in "bcdefgh")
    driven.answers = lambda ask: ("b", SyncReply(1, rows)) if isinstance(ask.request, SyncRequest) else "peers"
    driven.run(3.0)
    told = {
        it["name"] for _, ask in driven.asked if not isinstance(ask.request, SyncRequest) for it in ask.request.rumours
    }
    assert told == {"a"}
    assert driven.core.members["h"].life == life_of("h")
