"""The host of the membership core, with a client that notes what is done: what it writes down, and whom it lets go."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from p2pdl.errors import PeerError
from p2pdl.protocol.membership.knowledge import MEMBERS_LIMIT
from p2pdl.protocol.membership.members import Row
from p2pdl.protocol.messages import ProbeRequest
from p2pdl.server.members import MembershipHost, start_membership
from p2pdl.server.start import MembershipStart
from p2pdl.store import memory
from p2pdl.store.block import Block
from p2pdl.store.layout import VIEW
from p2pdl.store.view import MemberView
from p2pdl.transport.contract import Frames, Received

CONTACTS = {"beta": "10.0.0.2:7101", "gamma": "10.0.0.3:7101"}


class Noting:
    """A client to which nothing ever comes.

    Attributes:
        open: Addresses with a connection.
        resets: Addresses whose connections were dropped.
    """

    def __init__(self) -> None:
        self.open: dict[str, None] = {}
        self.resets: list[str] = []

    def send(self, address: str, frames: Frames) -> None:
        self.open[address] = None

    def receive(self, timeout: float) -> Received | None:
        return None

    def reason(self, address: str) -> PeerError | None:
        return None

    def reset(self, address: str) -> None:
        self.open.pop(address, None)
        self.resets.append(address)

    def close(self) -> None:
        self.open.clear()


class Hosted:
    """A host of node `alpha` over a store.

    Attributes:
        client: Its client.
        host: The host.
        view: Whom the node's other processes hear of.
    """

    def __init__(self, store: int) -> None:
        self.client = Noting()
        start = MembershipStart("10.0.0.1:7101", 5, "lan", CONTACTS)
        core = start_membership(start, "alpha", (), 0.0)
        self._block = Block(store, VIEW)
        self.host = MembershipHost(core, self.client, "lab", "alpha", self._block, CONTACTS)
        self.view = MemberView(Block(store, VIEW))

    def close(self) -> None:
        self.view.close()
        self._block.close()

    def hear(self, *rows: Row, now: float = 0.0) -> None:
        """Somebody says something of members."""
        self.host.on_request(ProbeRequest("alpha", rows), "beta", now)

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
