"""Random: every node pulls from s distinct live nodes drawn uniformly, anew in every round."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from p2pdl.topology.placement import Placement
from p2pdl.types import MixingMatrix, NodeId


class RandomPeers:
    """Mixes within a number of rounds that grows with log n, and needs no agreement on rounds.

    Args:
        nodes: The cluster's nodes in file order.
        peers: Distinct peers s per round; all live ones where there are fewer.

    Raises:
        ValueError: `peers` is less than 1.
    """

    def __init__(self, nodes: Sequence[NodeId], peers: int = 1) -> None:
        if peers < 1:
            raise ValueError(f"random needs at least 1 peer a round, not {peers}")
        self._placement = Placement(nodes)
        self._peers = peers

    def choose(
        self, self_id: NodeId, alive: Collection[NodeId], round: int, rng: np.random.Generator
    ) -> tuple[NodeId, ...]:
        """Draw without replacement, by place, so that the order of `alive` does not matter."""
        candidates = self._placement.live_peers(self_id, alive)
        drawn = rng.choice(len(candidates), size=min(self._peers, len(candidates)), replace=False)
        return tuple(candidates[index] for index in drawn)

    def mixing_matrix(self, n: int, round: int = 0) -> MixingMatrix:
        """The expectation, shape (n, n): 1 / (s + 1) for the node, the rest evenly over the others."""
        if n == 1:
            return np.ones((1, 1))
        own = 1.0 / (min(self._peers, n - 1) + 1)
        matrix = np.full((n, n), (1.0 - own) / (n - 1))
        np.fill_diagonal(matrix, own)
        return matrix
