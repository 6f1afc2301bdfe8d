"""Comparing the whole list with another member: 64 bits if both agree, what the other lacks if not.

The push-pull of memberlist, with a digest before it, so that members in agreement exchange nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2pdl.protocol.membership.knowledge import Answer, Knowledge, Phase
from p2pdl.protocol.membership.members import Row, from_row
from p2pdl.protocol.messages import MEMBER_ROWS, SyncReply, SyncRequest
from p2pdl.types import NodeId

LIST_BYTES = 56 << 10
"""Bytes of a list in one message, at most: what a header holds, less what else it holds."""

ROW_BYTES = 80
"""Bytes of a row on the wire besides its texts, at most."""


class Syncing:
    """Compares lists, now and then and when asked to.

    Args:
        knowledge: What the node knows.
        now: Monotonic seconds.
    """

    def __init__(self, knowledge: Knowledge, now: float) -> None:
        self._knowledge = knowledge
        self._next_at = now + knowledge.settings.sync_interval * knowledge.rng.uniform(0.25, 1.0)

    @property
    def deadline(self) -> float:
        """When the next comparison is due."""
        return self._next_at

    def on_tick(self, now: float) -> None:
        """Compare lists with somebody if it is time."""
        knowledge = self._knowledge
        if now < self._next_at:
            return
        self._next_at = now + knowledge.settings.sync_interval * knowledge.rng.uniform(0.75, 1.25)
        knowledge.forget(now)
        self.with_some(1, now)

    def with_some(self, count: int, now: float) -> None:
        """Compare lists with so many members."""
        for name in self._knowledge.some(count):
            self.begin(name, self._knowledge.roster.known[name].member.address, now)

    def begin(self, name: NodeId, address: str, now: float, on_answer: Callable[[Answer], None] | None = None) -> None:
        """Compare lists with one node.

        Args:
            name: The node; empty for whoever is at the address.
            address: Where.
            now: Monotonic seconds.
            on_answer: Called with its first answer.
        """

        def answered(answer: Answer) -> None:
            assert isinstance(answer.reply, SyncReply)
            self._send_what_is_lacking(answer, answer.reply)
            if on_answer is not None:
                on_answer(answer)

        self._knowledge.counters["syncs"] += 1
        self._knowledge.ask(name, address, SyncRequest(self._knowledge.roster.digest, ()), now, answered)

    def reply(self, request: SyncRequest, now: float) -> SyncReply:
        """The answer to a request whose rows have been taken in."""
        digest = self._knowledge.roster.digest
        if digest == request.digest:
            return SyncReply(digest, ())
        if not request.members:
            self._knowledge.counters["lists"] += 1
            return SyncReply(digest, self._cut(self._names(), now))
        heard = {row.get("name") for row in request.members}
        return SyncReply(digest, self._cut([name for name in self._better(request.members, now) if name in heard], now))

    def _send_what_is_lacking(self, answer: Answer, reply: SyncReply) -> None:
        knowledge = self._knowledge
        if knowledge.phase is not Phase.MEMBER or reply.digest == knowledge.roster.digest:
            return
        rows = self._cut(self._better(reply.members, answer.now), answer.now)
        if rows:
            request = SyncRequest(knowledge.roster.digest, rows)
            knowledge.ask(answer.sender, answer.address, request, answer.now)

    def _names(self) -> list[NodeId]:
        """All members, as far as this node says anything about them."""
        members, own = self._knowledge.roster.members, self._knowledge.own.name
        says_itself = self._knowledge.phase in (Phase.MEMBER, Phase.LEFT)
        return [name for name in members if name != own or says_itself]

    def _better(self, rows: Sequence[Row], now: float) -> list[NodeId]:
        """Members that a list lacks, or about which it says less than this node knows."""
        roster = self._knowledge.roster
        by_name = {row.get("name"): row for row in rows}
        found = []
        for name in self._names():
            row = by_name.get(name)
            if row is None or not (roster.has_row(row) or _says_as_much(row, roster.members[name].order)):
                found.append(name)
        return found

    def _cut(self, names: list[NodeId], now: float) -> tuple[Row, ...]:
        """The rows of these members, or of some of them by chance if a message cannot hold all."""
        roster, own = self._knowledge.roster, self._knowledge.own.name
        rows = [roster.row(name, now) for name in names]
        sizes = [sum(len(value.encode()) for value in row.values() if type(value) is str) + ROW_BYTES for row in rows]
        if sum(sizes) <= LIST_BYTES and len(rows) <= MEMBER_ROWS:
            return tuple(rows)
        self._knowledge.counters["lists-cut"] += 1
        chosen: list[Row] = []
        room = LIST_BYTES
        for place in sorted(self._knowledge.rng.permutation(len(rows)), key=lambda place: names[place] != own):
            room -= sizes[place]
            if room < 0 or len(chosen) == MEMBER_ROWS:
                break
            chosen.append(rows[place])
        return tuple(chosen)


def _says_as_much(row: Row, order: tuple[int, int, int, str, str]) -> bool:
    try:
        return from_row(row).member.order >= order
    except ValueError:
        return False
