"""Places on a circle: the nodes of the file in its order, then those that joined later, sorted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from p2pdl.types import NodeId


class Placement:
    """Gives every node a place that does not move when others die.

    A node outside the list is known only while it is alive, so the places behind the list move when
    such a node comes or goes; the places in the list never do.

    Args:
        nodes: The cluster's nodes in file order.

    Raises:
        ValueError: A name stands in the list twice.
    """

    def __init__(self, nodes: Sequence[NodeId]) -> None:
        self.nodes = tuple(nodes)
        self._listed = frozenset(self.nodes)
        repeated = [node for node, count in Counter(self.nodes).items() if count > 1]
        if repeated:
            raise ValueError(f"the list of nodes names {', '.join(repeated)} more than once")

    def __contains__(self, node: NodeId) -> bool:
        return node in self._listed

    def order(self, self_id: NodeId, alive: Collection[NodeId]) -> tuple[NodeId, ...]:
        """All nodes known to `self_id`, dead ones of the list included, each at its place."""
        return self.nodes + tuple(sorted({self_id, *alive} - self._listed))

    def live_peers(self, self_id: NodeId, alive: Collection[NodeId]) -> tuple[NodeId, ...]:
        """The live nodes other than `self_id`, by place."""
        live = frozenset(alive)
        return tuple(node for node in self.order(self_id, alive) if node in live and node != self_id)

    def live_before(self, self_id: NodeId, alive: Collection[NodeId], distance: int) -> tuple[NodeId, ...]:
        """The node `distance` places before `self_id`, or the next live one further back.

        Args:
            self_id: The node to count from; it is passed over when the search comes round to it.
            alive: The nodes that count as live.
            distance: Places to go back, at least 1.

        Returns:
            One node, or none where no other is alive.
        """
        live = frozenset(alive)
        order = self.order(self_id, alive)
        place = order.index(self_id)
        for further in range(len(order)):
            node = order[(place - distance - further) % len(order)]
            if node in live and node != self_id:
                return (node,)
        return ()


def pull_from_before(n: int, distance: int) -> list[tuple[int, ...]]:
    """The places that each of n live nodes pulls from when it goes `distance` places back."""
    return [((place - distance) % n,) if n > 1 else () for place in range(n)]
