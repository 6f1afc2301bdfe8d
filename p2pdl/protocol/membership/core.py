"""Membership: who is there, by probes and gossip; requests, replies and the time in, actions out.

Das, Gupta, Motivala (2002), "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol", and
Dadgar, Phillips, Currey (2018), "Lifeguard: Local Health Awareness for More Accurate Failure Detection", over requests
that are answered at once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from p2pdl.protocol.membership.actions import Action
from p2pdl.protocol.membership.claims import Claims
from p2pdl.protocol.membership.contacts import Contacts
from p2pdl.protocol.membership.gossip import Gossip
from p2pdl.protocol.membership.identity import Identity
from p2pdl.protocol.membership.knowledge import Answer, Knowledge, Phase, Question
from p2pdl.protocol.membership.members import Member, Row
from p2pdl.protocol.membership.presets import MembershipSettings
from p2pdl.protocol.membership.probing import Probing
from p2pdl.protocol.membership.relaying import Relaying
from p2pdl.protocol.membership.roster import Known
from p2pdl.protocol.membership.syncing import Syncing
from p2pdl.protocol.messages import (
    MemberReply,
    MemberRequest,
    Message,
    ProbeReply,
    Refusal,
    RelayedRequest,
    RelayRequest,
    SyncReply,
    SyncRequest,
)
from p2pdl.types import NodeId, printable

STALL_INTERVALS = 3
"""Probe intervals by which a host must be late to have been stopped, rather than busy."""


class Membership:
    """One node's part in the membership.

    Args:
        own: This node, `alive`, with the random name of its life.
        contacts: Addresses of the nodes of the file by name; asked until they answer, and never forgotten.
        settings: Times; see `PRESETS`.
        rng: Source of every chance.
        now: Monotonic seconds.
        keys: Public keys by name of those that may take part; None without encryption.
        join: Addresses of further nodes, whose names are not known.

    Attributes:
        known: What is known about each node by name, with times and texts for people; it follows the changes. This node
            and the contacts that nobody has heard of yet (`unknown`) are among them.
        members: The members by name, of whom somebody has heard; it follows the changes.
        counters: Events and refusals by name.

    Raises:
        ValueError: `own` is not alive, or an address is none.
    """

    def __init__(
        self,
        own: Member,
        contacts: Mapping[NodeId, str],
        settings: MembershipSettings,
        rng: np.random.Generator,
        now: float,
        keys: Mapping[NodeId, str] | None = None,
        join: Sequence[str] = (),
    ) -> None:
        if own.state != "alive":
            raise ValueError(f"a node that starts is alive, not {own.state}")
        self._knowledge = Knowledge(own, contacts, settings, rng, now, keys)
        self._identity = Identity(self._knowledge)
        self._claims = Claims(self._knowledge, self._identity)
        self._gossip = Gossip(self._knowledge, now)
        self._probing = Probing(self._knowledge, self._claims, self._gossip, now)
        self._relaying = Relaying(self._knowledge, self._gossip)
        self._syncing = Syncing(self._knowledge, now)
        self._contacts = Contacts(self._knowledge, self._identity, self._syncing, join, now)
        # A host may take its time before it begins.
        self._awaited_at = math.inf
        self.known: Mapping[NodeId, Known] = self._knowledge.roster.known
        self.members: Mapping[NodeId, Member] = self._knowledge.roster.members
        self.counters: Counter[str] = self._knowledge.counters

    @property
    def deadline(self) -> float:
        """Monotonic seconds at which `on_tick` wants to be called next; infinite after the end."""
        if self._is_over:
            return math.inf
        deadline = min(self._identity.deadline, self._contacts.deadline, self._claims.deadline, self._gossip.deadline)
        if self._knowledge.phase is Phase.JOINING:
            return deadline
        return min(deadline, self._probing.deadline, self._syncing.deadline)

    @property
    def health(self) -> int:
        """0 while this node trusts its own judgement, up to 7 the more often it seems to be the slow one itself."""
        return self._knowledge.health.score

    @property
    def _is_over(self) -> bool:
        return self._knowledge.phase in (Phase.LEFT, Phase.SILENT)

    def on_tick(self, now: float) -> list[Action]:
        """Do what is due.

        Args:
            now: Monotonic seconds.
        """
        if self._is_over:
            return []
        # What has come in since the last tick can have made something due in the past, and no host could be in time.
        late = now - max(self.deadline, self._awaited_at)
        if late > STALL_INTERVALS * self._knowledge.settings.probe_interval:
            self._wake(late, now)
        self._identity.on_tick(now)
        self._contacts.on_tick(now)
        if self._knowledge.phase is Phase.MEMBER:
            self._probing.on_tick(now)
            self._syncing.on_tick(now)
        # After the probes: one more accuser can end a suspicion at once.
        self._claims.on_tick(now)
        self._gossip.on_tick(now)
        self._awaited_at = self.deadline
        return self._knowledge.take_actions()

    def on_request(self, request: MemberRequest, sender: NodeId, now: float) -> tuple[MemberReply, list[Action]]:
        """Answer another node.

        Args:
            request: What it asks.
            sender: Its name, as it claims.
            now: Monotonic seconds.
        """
        if isinstance(request, SyncRequest):
            self._claims.take(request.members, now, is_list=True)
            return self._syncing.reply(request, now), self._knowledge.take_actions()
        self._claims.take(request.rumours, now)
        if not self._is_over:
            if isinstance(request, RelayedRequest):
                self._probing.on_relayed(request, sender)
            elif isinstance(request, RelayRequest):
                self._relaying.on_request(request, sender, now)
        reply = ProbeReply(self._identity.life, self._gossip.rows_for(sender, now, request.rumours))
        return reply, self._knowledge.take_actions()

    def on_reply(self, ask_id: int, sender: NodeId, reply: Message, now: float) -> list[Action]:
        """Take in a reply; one that nobody waits for is passed over, and a refusal is no answer.

        Args:
            ask_id: The id of the `Ask`.
            sender: The name of the node that has answered, as it claims.
            reply: What it said.
            now: Monotonic seconds.
        """
        question = self._knowledge.answered(ask_id)
        if question is None or self._is_over:
            self.counters["replies-unexpected"] += 1
            return []
        wanted = SyncReply if isinstance(question.request, SyncRequest) else ProbeReply
        if isinstance(reply, Refusal):
            self._blame(question, f"{question.address} refuses: {printable(reply.message)}", "replies-refused")
            return []
        if not isinstance(reply, ProbeReply | SyncReply) or not isinstance(reply, wanted):
            self._blame(question, f"{question.address} answers something else", "replies-wrong")
            return []
        first_hand = sender if self._is_at(sender, question.address) else ""
        if isinstance(reply, SyncReply):
            self._claims.take(reply.members, now, first_hand, is_list=True)
        else:
            self._claims.take(reply.rumours, now, first_hand)
        if question.name and sender != question.name:
            self._blame(question, f"{question.address} is another node: {printable(sender)}", "wrong-node")
        elif question.on_answer is not None:
            question.on_answer(Answer(sender, question.address, reply, now))
        return self._knowledge.take_actions()

    def on_heard(self, name: NodeId, now: float) -> None:
        """A node has asked this one for something else: it is alive, and need not be probed for now."""
        known = self.known.get(name)
        if known is not None and known.member.is_present:
            self._probing.on_heard(name, now)

    def rumours(self, now: float) -> tuple[Row, ...]:
        """Rows that the host may send along with other messages; none while there is nothing to tell."""
        return self._gossip.news(now)

    def on_rumours(self, rows: Sequence[Row], now: float) -> list[Action]:
        """Take in rows that came along with another message."""
        self._claims.take(rows, now)
        return self._knowledge.take_actions()

    def leave(self, now: float) -> list[Action]:
        """Say goodbye: the last actions of this node, which still answers afterwards but does nothing else."""
        if self._is_over:
            return []
        knowledge = self._knowledge
        if knowledge.phase is Phase.JOINING:
            knowledge.phase = Phase.SILENT
            return []
        knowledge.phase = Phase.LEFT
        knowledge.roster.put(replace(knowledge.own, state="left"), now)
        for name in knowledge.some(2 * knowledge.settings.fanout):
            self._gossip.tell(name, now)
        return knowledge.take_actions()

    def _wake(self, late: float, now: float) -> None:
        """This node did not run for a while: what it has missed says nothing about others."""
        self.counters["stalls"] += 1
        self._knowledge.health.worst()
        self._claims.postpone(late)
        self._probing.void(now)
        self._syncing.with_some(self._knowledge.settings.fanout, now)

    def _is_at(self, name: NodeId, address: str) -> bool:
        """Whether a node, by what is known, has this address, so that its word about itself counts."""
        known = self.known.get(name)
        return known is None or address in (known.member.address, self._knowledge.roster.contacts.get(name))

    def _blame(self, question: Question, error: str, counter: str) -> None:
        self.counters[counter] += 1
        known = self.known.get(question.name)
        if known is not None and known.member.name != self._knowledge.own.name:
            known.error = error
