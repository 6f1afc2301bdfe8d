"""What the parts of the membership share: the list, the rumours, the open questions, and what the host is to do."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from p2pdl.protocol.membership.actions import Action, Ask
from p2pdl.protocol.membership.health import Health
from p2pdl.protocol.membership.members import Member
from p2pdl.protocol.membership.presets import MembershipSettings
from p2pdl.protocol.membership.roster import Roster
from p2pdl.protocol.membership.rumours import Rumours
from p2pdl.protocol.messages import MemberReply, MemberRequest
from p2pdl.types import NodeId

PATIENCE_INTERVALS = 16
"""Probe intervals for which a reply is still worth reading: twice the longest that a sick node's own probe takes."""


MEMBERS_LIMIT = 4096
"""Names that a node keeps: names are what others say they are, and must not fill the memory."""


class Phase(enum.Enum):
    """What this node says of itself.

    JOINING: nothing yet, since others may hold a record of its name · MEMBER: that it is alive · LEFT: that it has left
    · SILENT: nothing any more, since another process has its name, or it has left before it said anything.
    """

    JOINING = enum.auto()
    MEMBER = enum.auto()
    LEFT = enum.auto()
    SILENT = enum.auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply of the right kind from the node that was asked.

    Attributes:
        sender: The node.
        address: Where it was asked.
        reply: What it said.
        now: Monotonic seconds.
    """

    sender: NodeId
    address: str
    reply: MemberReply
    now: float


@dataclass(frozen=True, slots=True)
class Question:
    """A request that waits for its reply.

    Attributes:
        name: The node that was asked; empty for whoever is at the address.
        address: Where.
        request: What was asked.
        expires: Monotonic seconds after which the reply is not waited for.
        on_answer: Called with the answer, after its rows have been taken in; None if they are all that is wanted.
    """

    name: NodeId
    address: str
    request: MemberRequest
    expires: float
    on_answer: Callable[[Answer], None] | None


class Knowledge:
    """Args as in `Membership`.

    Attributes:
        settings: Times.
        rng: Source of every chance.
        keys: Public key by name of those that may take part; None without encryption.
        phase: What this node says of itself.
        roster: The list of members.
        rumours: What is to be told.
        health: How far this node trusts its own judgement.
        counters: Events and refusals by name.
        actions: What the host is to do; emptied by `take_actions`.
    """

    def __init__(
        self,
        own: Member,
        contacts: Mapping[NodeId, str],
        settings: MembershipSettings,
        rng: np.random.Generator,
        now: float,
        keys: Mapping[NodeId, str] | None,
    ) -> None:
        self.settings = settings
        self.rng = rng
        self.keys = keys
        self.phase = Phase.JOINING
        self.roster = Roster(own, contacts, now)
        self.rumours = Rumours()
        self.health = Health()
        self.counters: Counter[str] = Counter()
        self.actions: list[Action] = []
        self._questions: dict[int, Question] = {}
        # The questions of an earlier process of this node may still be answered.
        self._next_id = int(rng.integers(1, 2**32))

    @property
    def own(self) -> Member:
        """This node."""
        return self.roster.own

    def take_actions(self) -> list[Action]:
        """What the host is to do now."""
        actions, self.actions = self.actions, []
        return actions

    def new_id(self) -> int:
        """A number that was not given before."""
        self._next_id += 1
        return self._next_id

    def ask(
        self,
        name: NodeId,
        address: str,
        request: MemberRequest,
        now: float,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> None:
        """Send a request; see `Question`."""
        self._forget_old_questions(now)
        expires = now + PATIENCE_INTERVALS * self.settings.probe_interval
        number = self.new_id()
        self._questions[number] = Question(name, address, request, expires, on_answer)
        self.actions.append(Ask(number, address, request))

    def answered(self, number: int) -> Question | None:
        """The question that a reply belongs to, once; None if there is none, or none any more."""
        return self._questions.pop(number, None)

    def some(self, count: int, exclude: Collection[NodeId] = (), only_alive: bool = False) -> list[NodeId]:
        """So many members that are present, or as many as there are, by chance."""
        known = self.roster.known
        names = [
            name
            for name in self.roster.present
            if name not in exclude and not (only_alive and known[name].member.state != "alive")
        ]
        count = min(count, len(names))
        for place in range(count):
            other = place + int(self.rng.random() * (len(names) - place))
            names[place], names[other] = names[other], names[place]
        return names[:count]

    def forget(self, now: float) -> None:
        """Drop members that have been gone for long."""
        for since, name in self.roster.gone():
            if now - since >= self.settings.forget_after:
                self._drop(name)

    def make_room(self) -> bool:
        """Drop who has been gone the longest, if the list is full; False if nobody in it can be dropped."""
        if len(self.roster.known) < MEMBERS_LIMIT:
            return True
        gone = self.roster.gone()
        if gone:
            self._drop(min(gone)[1])
        return bool(gone)

    def _drop(self, name: NodeId) -> None:
        self.roster.drop(name)
        self.rumours.drop(name)
        self.counters["forgotten"] += 1

    def _forget_old_questions(self, now: float) -> None:
        # All wait for the same time, so the oldest come first.
        while self._questions:
            number = next(iter(self._questions))
            if self._questions[number].expires > now:
                return
            del self._questions[number]
