"""All: every node has the whole training set."""

from __future__ import annotations

import numpy as np

from p2pdl.partition.contract import Indices, Labels, require_samples


class Whole:
    """Nothing is dealt out; the nodes differ by the order in which they draw their batches."""

    def split(self, labels: Labels, nodes: int, rng: np.random.Generator) -> list[Indices]:
        """Give each node every sample."""
        require_samples(labels, 1)
        return [np.arange(len(labels)) for _ in range(nodes)]
