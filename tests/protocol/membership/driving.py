"""A membership core driven by hand: time passes as told, and each of its questions is answered by the test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from p2pdl.protocol.membership.actions import Action, Ask, Changed, Superseded
from p2pdl.protocol.membership.core import Membership
from p2pdl.protocol.membership.members import Member, Row, to_row
from p2pdl.protocol.membership.presets import PRESETS, MembershipSettings
from p2pdl.protocol.messages import ProbeReply, ProbeRequest, RelayRequest, Reply, SyncReply, SyncRequest

LAN = PRESETS["lan"]

Answer = tuple[str, Reply] | None
"""Name of the node that answers, and what it says; None for silence."""


def address_of(name: str) -> str:
    return f"host-{name}:7101"


def name_at(address: str) -> str:
    return address.removeprefix("host-").removesuffix(":7101")


def life_of(name: str) -> int:
    return 1000 + sum(name.encode())


def member(name: str, state: str = "alive", incarnation: int = 0, **changes: Any) -> Member:
    """A member in its first life, at its usual address."""
    return replace(Member(name, address_of(name), "", life_of(name), incarnation, state), **changes)


def row(name: str, state: str = "alive", incarnation: int = 0, accuser: str = "", age: int = 0, **changes: Any) -> Row:
    return to_row(member(name, state, incarnation, **changes), accuser, age)


class Driven:
    """A core, its clock, and what it has done.

    Attributes:
        core: The core.
        now: Seconds.
        asked: Every question, with its time.
        changes: Every change that it has reported.
        superseded: Set when it has given up its name.
        silent: Names of nodes that do not answer.
        answers: Answers a question instead of the peers, if it returns something.
    """

    def __init__(
        self,
        contacts: Iterable[str] = (),
        settings: MembershipSettings = LAN,
        seed: int = 0,
        now: float = 100.0,
        own: Member | None = None,
        **more: Any,
    ) -> None:
        self.now = now
        self.asked: list[tuple[float, Ask]] = []
        self.changes: list[Changed] = []
        self.superseded: Superseded | None = None
        self.silent: set[str] = set()
        self.answers: Callable[[Ask], Answer | str] = lambda ask: "peers"
        places = {name: address_of(name) for name in contacts}
        self.core = Membership(own or member("a"), places, settings, np.random.default_rng(seed), now, **more)

    def run(self, seconds: float) -> list[Ask]:
        """Let time pass; the questions asked meanwhile, each of which is answered at once or not at all."""
        until, before = self.now + seconds, len(self.asked)
        while self.core.deadline <= until:
            self.now = max(self.now, self.core.deadline)
            actions = self.core.on_tick(self.now)
            assert self.core.deadline > self.now
            self.perform(actions)
        self.now = until
        return [ask for _, ask in self.asked[before:]]

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Ask():
                    self.asked.append((self.now, action))
                    answer = self.answers(action)
                    if answer == "peers":
                        answer = self.peers(action)
                    if answer is not None:
                        assert isinstance(answer, tuple)
                        self.perform(self.core.on_reply(action.id, *answer, self.now))
                case Changed():
                    self.changes.append(action)
                case Superseded():
                    self.superseded = action

    def peers(self, ask: Ask) -> Answer:
        """What healthy nodes at their usual addresses say, unless they are silent."""
        name = name_at(ask.address)
        if name in self.silent:
            return None
        if isinstance(ask.request, SyncRequest):
            return name, SyncReply(ask.request.digest, ())
        return name, ProbeReply(life_of(name), (row(name),))

    def hear(self, *rows: Row, sender: str = "b") -> tuple[Row, ...]:
        """A node sends rows along with a probe; the rows of the reply."""
        reply, actions = self.core.on_request(ProbeRequest("a", rows), sender, self.now)
        self.perform(actions)
        assert isinstance(reply, ProbeReply)
        return reply.rumours

    def sync(self, *rows: Row, sender: str = "b") -> SyncReply:
        """A node sends rows of its list."""
        reply, actions = self.core.on_request(SyncRequest(0, rows), sender, self.now)
        self.perform(actions)
        assert isinstance(reply, SyncReply)
        return reply

    def state_of(self, name: str) -> str:
        return self.core.known[name].member.state

    def quiet(self) -> None:
        """Let everything be told that there is to tell."""
        self.run(10.0)
        self.asked.clear()
        self.changes.clear()


def joined(*names: str, **more: Any) -> Driven:
    """A core of node a that has found these nodes, and has nothing to tell any more."""
    driven = Driven(names, **more)
    rows = tuple(row(name) for name in names)
    driven.answers = lambda ask: (
        (name_at(ask.address), SyncReply(0, rows)) if isinstance(ask.request, SyncRequest) else "peers"
    )
    driven.run(0.0)
    driven.answers = lambda ask: "peers"
    driven.quiet()
    assert {it.state for it in driven.core.members.values()} == {"alive"} and len(driven.core.members) == len(names) + 1
    return driven


def probes(asks: Iterable[Ask], target: str) -> list[Ask]:
    """The questions that are probes of a member."""
    return [ask for ask in asks if isinstance(ask.request, ProbeRequest) and ask.request.target == target]


def relays(asks: Iterable[Ask]) -> list[Ask]:
    return [ask for ask in asks if isinstance(ask.request, RelayRequest)]
