"""What a topology decides: from whom a node pulls in a round of exchanges."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import numpy as np

from p2pdl.types import MixingMatrix, NodeId


class Topology(Protocol):
    """The rule that names the peers a node pulls from.

    It is built from the cluster's whole list of nodes in file order, so that a node keeps its place
    while others are dead. Nodes which joined later stand behind the list, in sorted order.
    """

    def choose(
        self, self_id: NodeId, alive: Collection[NodeId], round: int, rng: np.random.Generator
    ) -> tuple[NodeId, ...]:
        """Name the peers to pull from, in the order of the pulls.

        Args:
            self_id: The node that asks; never part of the answer.
            alive: The nodes believed to be reachable; it does not matter whether `self_id` is among them.
            round: The asking node's own count of exchanges, from 0.
            rng: The only source of randomness.

        Returns:
            Distinct nodes out of `alive`; empty where there is nobody to pull from.
        """
        ...

    def mixing_matrix(self, n: int, round: int = 0) -> MixingMatrix:
        """How one round of `mean` merges averages n live nodes.

        Args:
            n: Number of nodes, all alive, at least 1.
            round: The round that every node is in.

        Returns:
            Row-stochastic float64 matrix, shape (n, n): row i belongs to the node in place i. It is an
            expectation where the choice is random.

        Raises:
            ValueError: There is no such matrix for n nodes.
        """
        ...
