"""Iid: the samples are shuffled and dealt out in equal parts."""

from __future__ import annotations

import numpy as np

from p2pdl.partition.contract import Indices, Labels, require_samples


class Iid:
    """Every node sees the same distribution; the sizes differ by one sample at most."""

    def split(self, labels: Labels, nodes: int, rng: np.random.Generator) -> list[Indices]:
        """Cut one permutation of the samples into equal parts."""
        require_samples(labels, nodes)
        return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), nodes)]
