"""Peers that are refused for standing apart: the few can be wrong, but if most stand apart it is this node that does.

A node that was cut off or asleep finds all others far away, and so does a half of a cluster that has come together
again. If such peers were refused, and kept away for being refused, the two would never meet.
"""

from __future__ import annotations

from collections.abc import Collection

from p2pdl.types import NodeId


class Outliers:
    """Remembers which peers were last found to stand apart."""

    def __init__(self) -> None:
        self._apart: set[NodeId] = set()

    def on_apart(self, peer: NodeId, answering: Collection[NodeId]) -> bool:
        """Note that a peer stands apart; True if it is one of a few, and False if most of the peers do.

        Args:
            peer: The peer.
            answering: The peers that this node can hear of; others have no say.
        """
        self._apart = self._apart.intersection(answering) | {peer}
        return 2 * len(self._apart) <= len(self._apart.union(answering))

    def are_half(self, answering: Collection[NodeId]) -> bool:
        """Whether as many peers stand apart as do not: between two halves nothing says which of them is wrong.

        Args:
            answering: The peers that this node can hear of.
        """
        return 2 * len(self._apart) == len(self._apart.union(answering))

    def on_near(self, peer: NodeId) -> None:
        """Note that a peer does not stand apart."""
        self._apart.discard(peer)
