"""Probing a member for another one, which has had no answer.

Das, Gupta, Motivala (2002), "SWIM", section 3.1: the indirect probe.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pdl.protocol.membership.gossip import Gossip
from p2pdl.protocol.membership.knowledge import Answer, Knowledge
from p2pdl.protocol.messages import RUMOUR_ROWS, ProbeRequest, RelayedRequest, RelayRequest
from p2pdl.types import NodeId

RELAYS_AT_ONCE = 64
"""Probes that a node does for others at one time; whoever asks for more only hears that it was asked."""


@dataclass(frozen=True, slots=True)
class _Errand:
    target: NodeId
    asker: NodeId
    sequence: int
    expires: float


class Relaying:
    """Probes for others.

    Args:
        knowledge: What the node knows.
        gossip: Puts rumours on messages.
    """

    def __init__(self, knowledge: Knowledge, gossip: Gossip) -> None:
        self._knowledge = knowledge
        self._gossip = gossip
        self._errands: list[_Errand] = []

    def on_request(self, request: RelayRequest, asker: NodeId, now: float) -> None:
        """Probe a member, and tell the asker if it answers."""
        knowledge = self._knowledge
        self._errands = [errand for errand in self._errands if errand.expires > now]
        if len(self._errands) >= RELAYS_AT_ONCE or asker not in knowledge.roster.members:
            knowledge.counters["relays-refused"] += 1
            return
        expires = now + knowledge.settings.probe_interval
        errand = _Errand(request.target, asker, request.sequence, expires)
        self._errands.append(errand)
        knowledge.counters["relays"] += 1
        # This node may know better where the member is.
        known = knowledge.roster.members.get(request.target)
        address = known.address if known else request.address
        rows = self._gossip.rows_for(request.target, now)
        knowledge.ask(
            request.target,
            address,
            ProbeRequest(request.target, rows),
            now,
            lambda answer: self._on_answer(errand, answer),
        )

    def _on_answer(self, errand: _Errand, answer: Answer) -> None:
        knowledge = self._knowledge
        self._errands = [other for other in self._errands if other is not errand]
        asker = knowledge.roster.members.get(errand.asker)
        if asker is None:
            return
        rows = self._gossip.rows_for(errand.asker, answer.now)
        target = knowledge.roster.members.get(errand.target)
        if target is not None and rows:
            # What the member said of itself, which may be its refutation.
            row = knowledge.roster.row(errand.target, answer.now)
            rows = (rows[0], row, *(other for other in rows[1:] if other != row))[:RUMOUR_ROWS]
        knowledge.ask(asker.name, asker.address, RelayedRequest(errand.target, errand.sequence, rows), answer.now)
