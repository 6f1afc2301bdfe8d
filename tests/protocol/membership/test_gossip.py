"""What messages tell: the node's own row, what the receiver must know of itself, and news a bounded number of times."""

from __future__ import annotations

from collections import Counter

import pytest

from p2pdl.protocol.membership.actions import Ask
from p2pdl.protocol.messages import RUMOUR_ROWS, ProbeRequest, SyncRequest
from tests.protocol.membership.driving import LAN, Driven, joined, row

OTHERS = tuple("bcdefghi")


def sends(asks: list[Ask], name: str) -> int:
    """In how many questions there is a row about somebody."""
    return sum(
        any(it["name"] == name for it in ask.request.rumours) for ask in asks if isinstance(ask.request, ProbeRequest)
    )


def rounds(driven: Driven, seconds: float) -> Counter[float]:
    """How many questions were asked at each moment from now on."""
    before = len(driven.asked)
    driven.run(seconds)
    return Counter(round(moment, 3) for moment, _ in driven.asked[before:])


def test_quiet_member_sends_a_probe_each_interval_and_nothing_else() -> None:
    driven = joined(*OTHERS)
    asks = [ask.request for ask in driven.run(20.0)]
    assert sum(isinstance(request, SyncRequest) for request in asks) <= 1
    assert 20 <= len(asks) <= 22
    assert all(request.rumours == (row("a"),) for request in asks if isinstance(request, ProbeRequest))
    assert driven.hear(row("b")) == (row("a"),)


@pytest.mark.parametrize("others, expected", [(OTHERS[:3], 4), (OTHERS, 4), (tuple("bcdefghij"), 8)])
def test_rumour_is_sent_so_many_times(others: tuple[str, ...], expected: int) -> None:
    driven = joined(*others)
    driven.hear(row("x", "left"))
    assert LAN.sends(len(others) + 1) == expected
    assert sends(driven.run(20.0), "x") == expected


def test_rounds_go_to_some_members_while_there_is_news() -> None:
    driven = joined(*OTHERS)
    driven.hear(*(row(f"x{number}", "left") for number in range(7)))
    driven.hear(*(row(f"y{number}", "left") for number in range(7)))
    moments = rounds(driven, 3.0)
    assert sum(moments.values()) - 3 == 8, "two messages hold the fourteen rows, four times each"
    assert max(moments.values()) <= LAN.fanout + 1
    assert sum(rounds(driven, 10.0).values()) <= 11


def test_news_is_told_at_once() -> None:
    driven = joined(*OTHERS)
    driven.hear(row("x", "left"))
    assert driven.core.deadline <= driven.now
    assert sends(driven.run(0.0), "x") == LAN.fanout


def test_message_holds_so_many_rows_and_the_own_one_first() -> None:
    driven = joined(*OTHERS)
    for number in range(30):
        driven.hear(row(f"x{number}", "left"))
    for ask in driven.run(2.0):
        assert isinstance(ask.request, ProbeRequest)
        assert len(ask.request.rumours) <= RUMOUR_ROWS
        assert ask.request.rumours[0] == row("a")
        assert len({it["name"] for it in ask.request.rumours}) == len(ask.request.rumours)


def test_reply_leaves_out_what_the_request_has_brought() -> None:
    driven = joined(*OTHERS)
    assert driven.hear(row("b"), row("x")) == (row("a"),)
    assert driven.hear(row("c"), sender="c") == (row("a"), row("x"))


@pytest.mark.parametrize("state", ["suspect", "dead", "left"])
def test_member_that_others_hold_for_something_else_is_told_in_requests_and_replies(state: str) -> None:
    driven = joined(*OTHERS)
    driven.hear(row("b", state, accuser="c"), sender="c")
    driven.run(10.0)
    told = driven.hear(row("b"))
    assert [it["state"] for it in told] == ["alive", state]
    if state == "suspect":
        asks = [ask for ask in driven.run(12.0) if isinstance(ask.request, ProbeRequest) and ask.request.target == "b"]
        assert asks and all(
            isinstance(ask.request, ProbeRequest) and row("b", "suspect", accuser="c") in ask.request.rumours[:2]
            for ask in asks
        )


def test_member_whose_claim_is_outdated_is_told_so() -> None:
    driven = joined(*OTHERS)
    driven.hear(row("b", "alive", 5, address="host-liar:7101"), sender="c")
    driven.quiet()
    assert driven.hear(row("b")) == (row("a"), row("b", "alive", 5, address="host-liar:7101"))
    assert driven.hear(row("b", "alive", 6)) == (row("a"),)


def test_newcomer_without_a_row_of_its_own_is_told_what_is_known_of_it() -> None:
    driven = joined(*OTHERS)
    assert driven.hear(sender="b") == (row("a"), row("b"))
    assert driven.hear(sender="stranger") == (row("a"),)


def test_rumours_for_other_messages_are_there_while_there_is_news() -> None:
    driven = joined(*OTHERS)
    assert driven.core.rumours(driven.now) == ()
    driven.core.on_rumours([row("x", "left")], driven.now)
    for _ in range(LAN.sends(9)):
        assert driven.core.rumours(driven.now) == (row("a"), row("x", "left"))
    assert driven.core.rumours(driven.now) == ()


def test_node_alone_keeps_its_news_for_the_first_that_comes() -> None:
    driven = Driven()
    driven.run(10.0)
    assert not driven.asked
    driven.hear(row("b"))
    assert sends(driven.run(1.0), "a") > 0
