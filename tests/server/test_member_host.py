"""The host of the membership core, with a client that notes what is done: what it writes down, and whom it lets go."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator

import pytest

from p2pdl.protocol.membership.knowledge import MEMBERS_LIMIT
from p2pdl.protocol.membership.members import Row
from p2pdl.protocol.messages import ProbeRequest, RelayRequest, SyncRequest
from p2pdl.server.connections import DOUBTFUL_LIMIT, SILENT_SECONDS
from p2pdl.server.members import TIDY_SECONDS, MembershipHost, start_membership
from p2pdl.server.start import MembershipStart
from p2pdl.store import memory
from p2pdl.store.block import Block
from p2pdl.store.layout import VIEW
from p2pdl.store.view import MemberView
from p2pdl.transport.contract import ClientTransport
from p2pdl.transport.zeromq import ZmqClient
from p2pdl.wire import decode
from tests.server.noting import Noting

CONTACTS = {"beta": "10.0.0.2:7101", "gamma": "10.0.0.3:7101"}

JOIN = "10.0.0.9:7101"
"""Where the node was told to look besides."""


class Hosted:
    """A host of node `alpha` over a store.

    Attributes:
        client: Its client, unless it has been given another one.
        host: The host.
        view: Whom the node's other processes hear of.
    """

    def __init__(self, store: int, client: ClientTransport | None = None) -> None:
        self.client = Noting()
        start = MembershipStart("10.0.0.1:7101", 5, "lan", CONTACTS, join=[JOIN])
        core = start_membership(start, "alpha", (), 0.0)
        self._block = Block(store, VIEW)
        self.host = MembershipHost(core, client or self.client, "lab", "alpha", self._block, start)
        self.view = MemberView(Block(store, VIEW))

    def close(self) -> None:
        self.view.close()
        self._block.close()

    def hear(self, *rows: Row, now: float = 0.0) -> None:
        """Somebody says something of members."""
        self.host.on_request(ProbeRequest("alpha", rows), "beta", now)

    def relay(self, address: str, number: int, now: float) -> None:
        """A member wants somebody probed."""
        self.host.on_request(RelayRequest(f"target{number}", address, number, ()), "beta", now)

    def run(self, seconds: float, now: float) -> float:
        """Let time pass; the time at its end."""
        end = now + seconds
        while (due := self.host.core.deadline) <= end:
            now = max(now, due)
            self.host.run(now)
        self.host.run(end)
        return end

    def states(self) -> dict[str, str]:
        return {name: member.state for name, member in self.view.members.items()}


@pytest.fixture
def hosted() -> Iterator[Hosted]:
    store = memory.create()
    made = Hosted(store)
    yield made
    made.close()
    os.close(store)


def row(name: str, address: str, state: str = "alive", incarnation: int = 0) -> Row:
    age: Row = {"age": 0} if state in ("dead", "left") else {}
    return {
        **{"name": name, "address": address, "key": "", "life": 9, "incarnation": incarnation, "state": state},
        **age,
    }


def test_as_many_members_as_the_core_keeps_do_not_end_the_server(
    hosted: Hosted, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    counters = hosted.host.core.counters
    hosted.hear(row("beta", CONTACTS["beta"]), row("gone", "10.0.0.4:7101", "left"))
    assert hosted.states() == {"alpha": "alive", "beta": "alive", "gamma": "unknown", "gone": "left"}
    assert "view-left-out" not in counters
    names = [f"worker-{number:05}" for number in range(MEMBERS_LIMIT)]
    rows = [row(name, f"10.1.{number // 200}.{number % 200}:7101") for number, name in enumerate(names)]
    for first in range(0, len(rows), 512):
        hosted.hear(*rows[first : first + 512])
    known = hosted.host.core.known
    assert len(known) == MEMBERS_LIMIT
    states = hosted.states()
    assert states.pop("alpha") == "alive" and states["beta"] == "alive"
    assert "gamma" not in states and "gone" not in states, "nobody has heard of the one, and the other has left"
    assert [name for name in names if name in states] == names[: len(states) - 1], "the first ones stay"
    # `gone` had to make room in the core's own list, too.
    assert counters["view-left-out"] == MEMBERS_LIMIT - len(states) - 1 + 1
    said = [record.getMessage() for record in caplog.records if "no room" in record.getMessage()]
    assert len(said) == 1 and "security: curve" in said[0]
    # Nobody is counted twice, and who is gone makes room for one of those that were left out.
    hosted.hear(row("beta", CONTACTS["beta"], "left"))
    assert "beta" not in hosted.states()
    assert counters["view-left-out"] == MEMBERS_LIMIT - len(states) + 1


def asked(hosted: Hosted, address: str) -> list[object]:
    """The questions on the connection to an address that stands."""
    return [decode(frames[0]).message for frames in hosted.client.open.get(address, [])]


@pytest.mark.parametrize("state", ["dead", "left"])
def test_connection_to_a_member_that_is_gone_is_let_go(hosted: Hosted, state: str) -> None:
    place = "10.0.0.4:7101"
    hosted.hear(row("beta", CONTACTS["beta"]), row("delta", place))
    now = hosted.run(3.0, 0.0)
    assert asked(hosted, place)
    resets = hosted.client.resets.count(place)
    hosted.hear(row("delta", place, state), now=now)
    assert not asked(hosted, place) and hosted.client.resets.count(place) == resets + 1


def test_member_that_is_dead_is_asked_now_and_then_on_a_connection_that_does_not_stay(hosted: Hosted) -> None:
    place = "10.0.0.4:7101"
    hosted.hear(row("beta", CONTACTS["beta"]), row("delta", place), row("delta", place, "dead"))
    now, times, standing = 0.0, 0, 0
    for number in range(1200):
        now = hosted.run(0.1, now)
        # It does not answer either, and contradicts whoever suspects it.
        hosted.hear(row("beta", CONTACTS["beta"], incarnation=number), now=now)
        questions = asked(hosted, place)
        assert all(isinstance(question, SyncRequest) for question in questions) and len(questions) <= 1
        times += bool(questions) and not standing
        standing = standing + 1 if questions else 0
        assert standing <= 10 * (SILENT_SECONDS + TIDY_SECONDS + 1.0)
    assert times >= 2


def test_connection_to_where_a_member_was_is_let_go_when_it_has_moved(hosted: Hosted) -> None:
    before, after = "10.0.0.4:7101", "10.0.0.5:7101"
    hosted.hear(row("beta", CONTACTS["beta"]), row("delta", before))
    now = hosted.run(3.0, 0.0)
    assert asked(hosted, before)
    hosted.hear(row("delta", after, incarnation=1), now=now)
    assert not asked(hosted, before)
    hosted.run(3.0, now)
    assert asked(hosted, after) and not asked(hosted, before)


def test_connection_is_kept_where_another_member_still_is(hosted: Hosted) -> None:
    place = "10.0.0.4:7101"
    hosted.hear(row("beta", CONTACTS["beta"]), row("old", place), row("new", place))
    now = hosted.run(3.0, 0.0)
    resets = hosted.client.resets.count(place)
    hosted.hear(row("old", place, "left"), now=now)
    assert asked(hosted, place) and hosted.client.resets.count(place) == resets


def test_connections_to_where_nobody_is_are_let_go_and_those_to_where_somebody_is_sought_are_kept(
    hosted: Hosted,
) -> None:
    now = hosted.run(3.0, 0.0)
    assert asked(hosted, JOIN) and asked(hosted, CONTACTS["gamma"])
    hosted.hear(row("beta", CONTACTS["beta"]), now=now)
    for number in range(20):
        hosted.relay(f"10.9.0.{number}:7101", number, now)
    nowhere = [f"10.9.0.{number}:7101" for number in range(20)]
    assert all(asked(hosted, address) for address in nowhere)
    now = hosted.run(SILENT_SECONDS + 2 * TIDY_SECONDS, now)
    assert not any(asked(hosted, address) for address in nowhere)
    # They are asked ever less often, and what is queued there arrives as soon as they come up.
    for _ in range(200):
        now = hosted.run(0.5, now)
        assert {JOIN, CONTACTS["gamma"]} <= hosted.client.open.keys()


def test_requests_to_relay_to_very_many_addresses_leave_sockets_for_others() -> None:
    """With real sockets, of which ZeroMQ gives a process 1023: it took 341 addresses to have none left for members."""
    store = memory.create()
    client = ZmqClient()
    hosted = Hosted(store, client)
    try:
        now = 0.0
        hosted.hear(row("beta", CONTACTS["beta"]))
        for number in range(1000):
            now += 0.02
            hosted.relay(f"127.0.0.{2 + number // 200}:{20000 + number}", number, now)
        counters = hosted.host.core.counters
        assert counters["relays"] == 1000
        assert not [name for name in counters if name.startswith("ask-")]
        assert len([*client.sockets()]) <= DOUBTFUL_LIMIT + len(CONTACTS) + 1
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client.send(f"127.0.0.1:{listener.getsockname()[1]}", [b"hello"])
    finally:
        client.close()
        hosted.close()
        os.close(store)
