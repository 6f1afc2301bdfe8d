"""Which samples belong to which node: partitions of the training set and their registry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from p2pdl.partition.by_class import ByClass
from p2pdl.partition.contract import Indices, Labels, Partition
from p2pdl.partition.dirichlet import Dirichlet
from p2pdl.partition.iid import Iid
from p2pdl.partition.whole import Whole

__all__ = ["PARTITIONS", "Indices", "Labels", "Partition", "partition"]

PARTITIONS: dict[str, Callable[[float], Partition]] = {
    "iid": lambda alpha: Iid(),
    "dirichlet": Dirichlet,
    "by-class": lambda alpha: ByClass(),
    "all": lambda alpha: Whole(),
}
"""Partitions by the name that a configuration uses."""


def partition(name: str, labels: Labels, nodes: int, seed: int, alpha: float = 0.3) -> list[Indices]:
    """Deal a training set out to the nodes of a cluster.

    Every node computes the same answer from the same arguments, and takes its own part of it.

    Args:
        name: A key of `PARTITIONS`.
        labels: The labels of the training set, one for each sample; integer classes, shape (samples,),
            where the partition reads them.
        nodes: Number of nodes.
        seed: Seed of the draws, 0 or more.
        alpha: Concentration; read by `dirichlet` only.

    Returns:
        For each node the positions of its samples, int64, ascending, at least one; disjoint and covering
        the training set, except for `all`.

    Raises:
        ValueError: The name is unknown, or a number is out of range.
        DataUnavailable: The training set cannot be dealt out like this.
    """
    if name not in PARTITIONS:
        raise ValueError(f"there is no partition {name!r}; there are {', '.join(PARTITIONS)}")
    if nodes < 1:
        raise ValueError(f"a training set cannot be dealt out to {nodes} nodes")
    return PARTITIONS[name](alpha).split(labels, nodes, np.random.default_rng(seed))
