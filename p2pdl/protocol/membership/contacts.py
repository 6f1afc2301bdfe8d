"""Finding the others: the addresses that a node begins with, and those of members that are dead, asked again and again.

A node that has just started says nothing of itself until it has seen the list of somebody who has been there before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2pdl.protocol.membership.identity import Identity
from p2pdl.protocol.membership.knowledge import Answer, Knowledge, Phase
from p2pdl.protocol.membership.syncing import Syncing
from p2pdl.protocol.messages import SyncReply
from p2pdl.types import NodeId

JOINING_INTERVALS = 2.0
"""Probe intervals after which a newcomer waits for nobody any longer."""


@dataclass(slots=True)
class _Attempts:
    """When an address is asked next, and how much later the time after that."""

    due: float
    pause: float


class Contacts:
    """Asks those that are not there.

    Args:
        knowledge: What the node knows.
        identity: Says whether this node may use its name.
        syncing: How they are asked.
        join: Addresses of nodes whose names are not known.
        now: Monotonic seconds.
    """

    def __init__(
        self, knowledge: Knowledge, identity: Identity, syncing: Syncing, join: Sequence[str], now: float
    ) -> None:
        self._knowledge = knowledge
        self._identity = identity
        self._syncing = syncing
        self._join: dict[str, NodeId] = dict.fromkeys(join, "")
        self._attempts: dict[tuple[NodeId, str], _Attempts] = {}
        self._answered: set[str] = set()
        self._has_met_a_member = False
        self._began_at = self._next_at = now

    @property
    def deadline(self) -> float:
        """When somebody is asked, or looked for in the list."""
        return self._next_at

    def on_tick(self, now: float) -> None:
        """Ask whoever is due: several in the beginning, then one at a time, however many do not answer."""
        if now < self._next_at:
            return
        knowledge, settings = self._knowledge, self._knowledge.settings
        is_first = not self._attempts
        self._attempts = {it: self._attempts.get(it) or self._first_attempt(*it, now) for it in self._targets()}
        due = sorted((attempts.due, *target) for target, attempts in self._attempts.items() if attempts.due <= now)
        is_joining = knowledge.phase is Phase.JOINING
        for _, name, address in due[: settings.fanout if is_first and is_joining else 1]:
            self._ask(name, address, now)
        is_alone = bool(self._attempts) and not knowledge.roster.present
        self._next_at = now + (settings.gossip_interval if is_joining or is_alone else settings.probe_interval)
        self._announce_if_ready(now)

    def _targets(self) -> list[tuple[NodeId, str]]:
        """Names and addresses of those that are not there; the name is empty where it is not known.

        A newcomer wants the list of anybody, also of members that it has heard of by chance.
        """
        roster = self._knowledge.roster
        targets = []
        if self._knowledge.phase is Phase.JOINING:
            targets += [(name, roster.known[name].member.address) for name in roster.present]
        for name in roster.absent:
            addresses = {roster.known[name].member.address: None}
            if name in roster.contacts:
                addresses[roster.contacts[name]] = None
            targets += [(name, address) for address in addresses]
        unmet = [address for address, name in self._join.items() if name not in roster.known]
        if unmet:
            known = {known.member.address for known in roster.known.values()}
            targets += [("", address) for address in unmet if address not in known]
        return targets

    def _first_attempt(self, name: NodeId, address: str, now: float) -> _Attempts:
        settings, rng = self._knowledge.settings, self._knowledge.rng
        known = self._knowledge.roster.known.get(name)
        if known is not None and known.member.is_gone:
            return _Attempts(now + settings.dead_contact * rng.uniform(0.5, 1.0), settings.dead_contact)
        # At once, in random order.
        return _Attempts(now - rng.random(), settings.probe_interval)

    def _ask(self, name: NodeId, address: str, now: float) -> None:
        settings, attempts = self._knowledge.settings, self._attempts[name, address]
        attempts.due = now + attempts.pause * self._knowledge.rng.uniform(0.75, 1.25)
        attempts.pause = min(2.0 * attempts.pause, settings.dead_contact)
        known = self._knowledge.roster.known.get(name)
        if known is not None and known.member.state == "unknown":
            known.error = known.error or f"no answer from {address} yet"
        self._knowledge.counters["contacts"] += 1
        self._syncing.begin(name, address, now, self._on_answer)

    def _on_answer(self, answer: Answer) -> None:
        assert isinstance(answer.reply, SyncReply)
        self._answered.add(answer.address)
        if answer.address in self._join:
            self._join[answer.address] = answer.sender
        # A node that is joining itself leaves its own row out, and cannot say who has been there before.
        if any(row.get("name") == answer.sender for row in answer.reply.members):
            self._has_met_a_member = True
        self._announce_if_ready(answer.now)

    def _announce_if_ready(self, now: float) -> None:
        knowledge = self._knowledge
        if knowledge.phase is not Phase.JOINING or self._identity.is_checking:
            return
        if (
            self._has_met_a_member
            or now >= self._began_at + JOINING_INTERVALS * knowledge.settings.probe_interval
            or all(address in self._answered for _, address in self._targets())
        ):
            knowledge.phase = Phase.MEMBER
            knowledge.rumours.add(knowledge.own.name)
