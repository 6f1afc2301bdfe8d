"""What a partition decides: which samples of the training set belong to which node."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pdl.errors import DataUnavailable

Labels = NDArray[Any]
"""One label per sample, shape (samples,) for integer classes; only those that split by class read them."""

Indices = NDArray[np.int64]
"""Positions of samples in the training set, ascending, shape (count,)."""


class Partition(Protocol):
    """The rule that deals the samples out."""

    def split(self, labels: Labels, nodes: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the samples out to the nodes.

        Args:
            labels: The labels of the training set, one for each sample.
            nodes: Number of nodes, at least 1.
            rng: The only source of randomness.

        Returns:
            For each node its samples, in ascending order, at least one.

        Raises:
            DataUnavailable: The training set cannot be dealt out like this.
        """
        ...


def require_samples(labels: Labels, nodes: int) -> None:
    """Refuse a training set which has less than one sample for each node.

    Raises:
        DataUnavailable: There are more nodes than samples.
    """
    if len(labels) < nodes:
        raise DataUnavailable(
            f"{len(labels)} training samples cannot be dealt out to {nodes} nodes",
            "use fewer nodes or more data, or set data.partition to all so that every node has everything",
        )


def class_members(labels: Labels, partition: str) -> list[Indices]:
    """The samples of each class, classes in ascending order of their labels.

    Args:
        labels: The labels of the training set.
        partition: The partition's name, for the message.

    Raises:
        DataUnavailable: The labels are not one integer class for each sample.
    """
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataUnavailable(
            f"the partition {partition} needs one integer class per sample, "
            f"and the labels are {labels.dtype} of shape {labels.shape}",
            "set data.partition to iid or all, or give the labels as integer classes",
        )
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]
