"""Ring: every node pulls from the nearest live node before it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from p2pdl.topology.mixing import averaging_matrix
from p2pdl.topology.placement import Placement, pull_from_before
from p2pdl.types import MixingMatrix, NodeId


class Ring:
    """One pull a round, always from the same neighbour: cheapest to reason about, slowest to mix.

    Args:
        nodes: The cluster's nodes in file order.
    """

    def __init__(self, nodes: Sequence[NodeId]) -> None:
        self._placement = Placement(nodes)

    def choose(
        self, self_id: NodeId, alive: Collection[NodeId], round: int, rng: np.random.Generator
    ) -> tuple[NodeId, ...]:
        """Name the nearest live predecessor; the dead are passed over, so the ring closes round them."""
        return self._placement.live_before(self_id, alive, distance=1)

    def mixing_matrix(self, n: int, round: int = 0) -> MixingMatrix:
        """One half for the node, one half for the one before it; doubly stochastic, shape (n, n)."""
        return averaging_matrix(pull_from_before(n, distance=1))
