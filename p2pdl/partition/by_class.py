"""By class: whole classes are dealt round the nodes, the hardest case for averaging."""

from __future__ import annotations

import numpy as np

from p2pdl.errors import DataUnavailable
from p2pdl.partition.contract import Indices, Labels, class_members, require_samples


class ByClass:
    """Node i has the classes whose index is i modulo the number of nodes.

    With fewer classes than nodes, node i has the class of index i modulo the number of classes, and the
    nodes of one class share its samples evenly.
    """

    def split(self, labels: Labels, nodes: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the classes out, in ascending order of their labels.

        Raises:
            DataUnavailable: There are fewer samples than nodes, the labels are not integer classes, or a
                class has fewer samples than nodes which share it.
        """
        require_samples(labels, nodes)
        members = class_members(labels, "by-class")
        if len(members) >= nodes:
            return [np.sort(np.concatenate(members[node::nodes])) for node in range(nodes)]
        parts: list[Indices] = [np.empty(0, np.int64)] * nodes
        for index, samples in enumerate(members):
            sharers = range(index, nodes, len(members))
            if len(samples) < len(sharers):
                raise DataUnavailable(
                    f"class {labels[samples[0]]} has {len(samples)} samples for {len(sharers)} nodes: "
                    f"{len(members)} classes are dealt out to {nodes} nodes",
                    "use fewer nodes, or set data.partition to iid or dirichlet",
                )
            shares = np.array_split(rng.permutation(samples), len(sharers))
            for node, share in zip(sharers, shares, strict=True):
                parts[node] = np.sort(share)
        return parts
