"""What a message tells besides its own purpose, and the rounds of messages that have no other purpose.

Das, Gupta, Motivala (2002), "SWIM", section 4.1, with the separate rounds of memberlist: with probes alone, every step
of an infection would take a probe interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from p2pdl.protocol.membership.knowledge import Knowledge, Phase
from p2pdl.protocol.membership.members import Row
from p2pdl.protocol.messages import RUMOUR_ROWS, ProbeRequest
from p2pdl.types import NodeId


class Gossip:
    """Puts rumours on messages.

    Args:
        knowledge: What the node knows.
        now: Monotonic seconds.
    """

    def __init__(self, knowledge: Knowledge, now: float) -> None:
        self._knowledge = knowledge
        self._next_at = now

    @property
    def deadline(self) -> float:
        """When the next round is due; never while there is nothing to tell."""
        return self._next_at if self._has_news else math.inf

    def on_tick(self, now: float) -> None:
        """Send a round if one is due."""
        knowledge = self._knowledge
        if not self._has_news or now < self._next_at:
            return
        self._next_at = now + knowledge.settings.gossip_interval
        for name in knowledge.some(knowledge.settings.fanout):
            if not knowledge.rumours:
                return
            knowledge.counters["gossips"] += 1
            self.tell(name, now)

    def tell(self, name: NodeId, now: float) -> None:
        """Send a member what there is to tell."""
        request = ProbeRequest(name, self.rows_for(name, now))
        self._knowledge.ask(name, self._knowledge.roster.known[name].member.address, request, now)

    def rows_for(self, name: NodeId, now: float, heard: Sequence[Row] | None = None) -> tuple[Row, ...]:
        """The rows of a message: this node's own, then what the receiver must know of itself, then rumours.

        Args:
            name: The receiver.
            now: Monotonic seconds.
            heard: In a reply, the rows of the request.
        """
        knowledge = self._knowledge
        roster = knowledge.roster
        if knowledge.phase not in (Phase.MEMBER, Phase.LEFT):
            return ()
        told = [knowledge.own.name]
        if self._must_tell(name, now, heard):
            told.append(name)
        if knowledge.rumours:
            skip = [str(row["name"]) for row in heard or () if roster.would_say(row, now)]
            room = RUMOUR_ROWS - len(told)
            told += knowledge.rumours.pick(room, knowledge.settings.sends(roster.size), told, skip)
        return tuple(roster.row(other, now) for other in told)

    def news(self, now: float) -> tuple[Row, ...]:
        """Rows for a message to nobody in particular; none if there is nothing new."""
        return self.rows_for("", now) if self._knowledge.rumours else ()

    @property
    def _has_news(self) -> bool:
        """Whether there is something to tell, somebody to tell it to, and the right to speak."""
        knowledge = self._knowledge
        return bool(knowledge.rumours and knowledge.roster.present) and knowledge.phase is Phase.MEMBER

    def _must_tell(self, name: NodeId, now: float, heard: Sequence[Row] | None) -> bool:
        """Whether the receiver is held for something else than it says, and should have the chance to contradict."""
        roster = self._knowledge.roster
        known = roster.known.get(name)
        if known is None or name == self._knowledge.own.name or known.member.state == "unknown":
            return False
        if heard is None:
            return known.member.state != "alive"
        return roster.row(name, now) not in heard
