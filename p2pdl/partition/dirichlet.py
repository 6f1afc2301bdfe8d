"""Dirichlet: each class is split over the nodes in proportions drawn from Dir(alpha).

"Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", Hsu, Qi and
Brown, 2019, made alpha the measure of skew; proportions per class over the nodes, which deal out every
sample, are those of "Bayesian Nonparametric Federated Learning of Neural Networks", Yurochkin et al., 2019,
section 4.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from p2pdl.partition.contract import Indices, Labels, class_members, require_samples

DRAWS = 100
"""Draws before a node that has too little is given samples of the others."""

LEAST_SHARE = 0.01
"""What a node must have at least, as a part of an equal share."""


class Dirichlet:
    """Small alpha gives each class to few nodes, large alpha comes near equal proportions.

    Every node ends with at least 1 % of an equal share, and one sample: the proportions are drawn anew, up
    to 100 times, until that holds; then the largest parts give what is missing.

    Args:
        alpha: Concentration, above 0 and finite.

    Raises:
        ValueError: alpha is not such a number.
    """

    def __init__(self, alpha: float) -> None:
        if not (math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha must be a finite number above 0, not {alpha}")
        # Equal proportions long before that, and the draws would overflow long after it.
        self._alpha = min(alpha, 1e9)

    def split(self, labels: Labels, nodes: int, rng: np.random.Generator) -> list[Indices]:
        """Draw the proportions of each class, in ascending order of the labels, and cut it accordingly."""
        require_samples(labels, nodes)
        members = class_members(labels, "dirichlet")
        least = max(1, int(LEAST_SHARE * len(labels) / nodes))
        for _ in range(DRAWS):
            owner = self._draw(members, len(labels), nodes, rng)
            if np.bincount(owner, minlength=nodes).min() >= least:
                break
        else:
            _fill_up(owner, nodes, least, rng)
        return [np.flatnonzero(owner == node) for node in range(nodes)]

    def _draw(self, members: list[Indices], samples: int, nodes: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """One draw: the node that owns each sample, shape (samples,)."""
        owner = np.empty(samples, np.int64)
        for of_class in members:
            proportions = rng.dirichlet(np.full(nodes, self._alpha))
            cuts = np.rint(np.cumsum(proportions)[:-1] * len(of_class)).astype(np.int64)
            for node, part in enumerate(np.split(rng.permutation(of_class), cuts)):
                owner[part] = node
        return owner


def _fill_up(owner: NDArray[np.int64], nodes: int, least: int, rng: np.random.Generator) -> None:
    """Move random samples, in place, from the largest part to each that has fewer than `least`."""
    counts = np.bincount(owner, minlength=nodes)
    while counts.min() < least:
        poor, rich = int(counts.argmin()), int(counts.argmax())
        # The largest part can spare it: it is an equal share at least, a hundred times what is missing,
        # or a single sample is missing and it has two.
        moved = least - counts[poor]
        owner[rng.choice(np.flatnonzero(owner == rich), size=moved, replace=False)] = poor
        counts[poor] += moved
        counts[rich] -= moved
