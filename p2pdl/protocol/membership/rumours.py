"""What a node still has to tell, and how often it has told it.

Das, Gupta, Motivala (2002), "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol",
section 4.1: news travels on other messages, what was sent least goes first, and is dropped after lambda log n sends.
"""

from __future__ import annotations

from collections.abc import Collection

from p2pdl.types import NodeId


class Rumours:
    """Names of members about whom there is news; what the news is, the list of members says when it is sent."""

    def __init__(self) -> None:
        self._sends: dict[NodeId, int] = {}
        self._by_sends: list[dict[NodeId, None]] = []

    def __bool__(self) -> bool:
        return bool(self._sends)

    def __len__(self) -> int:
        return len(self._sends)

    def add(self, name: NodeId) -> None:
        """There is news about a member, which has not been sent yet."""
        self.drop(name)
        self._put(name, 0)

    def drop(self, name: NodeId) -> None:
        """There is nothing to tell about a member any more."""
        sends = self._sends.pop(name, None)
        if sends is not None:
            del self._by_sends[sends][name]

    def pick(self, count: int, limit: int, told: Collection[NodeId], skip: Collection[NodeId] = ()) -> list[NodeId]:
        """Choose what goes into a message: what was sent least, and of that the newest.

        Args:
            count: Names at most.
            limit: Sends after which a rumour is dropped.
            told: Names that the message tells of anyway.
            skip: Names that the receiver knows the news of.
        """
        picked: list[NodeId] = []
        sent: list[NodeId] = []
        for names in self._by_sends:
            for name in reversed(names):
                if name in told:
                    sent.append(name)
                elif name not in skip and len(picked) < count:
                    picked.append(name)
                    sent.append(name)
            if len(picked) == count:
                break
        for name in sent:
            sends = self._sends[name] + 1
            self.drop(name)
            if sends < limit:
                self._put(name, sends)
        return picked

    def _put(self, name: NodeId, sends: int) -> None:
        while len(self._by_sends) <= sends:
            self._by_sends.append({})
        self._sends[name] = sends
        self._by_sends[sends][name] = None
