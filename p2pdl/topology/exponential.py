"""One-peer exponential graph: in round t a node pulls from the one 2^(t mod ceil(log2 n)) places before it.

"Exponential Graph is Provably Efficient for Decentralized Deep Training", Ying, Yuan, Chen, Hu, Pan and
Yin, 2021, section 4: with n a power of two, log2(n) rounds in step average exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from p2pdl.topology.mixing import averaging_matrix
from p2pdl.topology.placement import Placement, pull_from_before
from p2pdl.types import MixingMatrix, NodeId


class Exponential:
    """One pull a round, from a distance that doubles from round to round and then starts again at 1.

    Args:
        nodes: The cluster's nodes in file order.
    """

    def __init__(self, nodes: Sequence[NodeId]) -> None:
        self._placement = Placement(nodes)

    def choose(
        self, self_id: NodeId, alive: Collection[NodeId], round: int, rng: np.random.Generator
    ) -> tuple[NodeId, ...]:
        """Name the round's node; where it is dead, the next live one further back.

        Dead nodes of the list keep their places and count in n, so that the others stay in step.
        """
        places = len(self._placement.order(self_id, alive))
        return self._placement.live_before(self_id, alive, distance(places, round))

    def mixing_matrix(self, n: int, round: int = 0) -> MixingMatrix:
        """That round's matrix, shape (n, n), doubly stochastic: one half for the node, one for its source."""
        return averaging_matrix(pull_from_before(n, distance(n, round)))


def distance(n: int, round: int) -> int:
    """Places to go back in a round among n nodes: 1, 2, 4, ... below n, then 1 again."""
    # (n - 1).bit_length() is ceil(log2 n), without the rounding of a logarithm.
    period = max(1, (n - 1).bit_length())
    return 1 << round % period
