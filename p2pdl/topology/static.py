"""Static: every node pulls from the nodes that a graph in the configuration names for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from p2pdl.topology.mixing import averaging_matrix
from p2pdl.topology.placement import Placement
from p2pdl.types import MixingMatrix, NodeId


class Static:
    """All live sources of a node are pulled from in each round, in the order of the graph.

    A node outside the list, which joined later, has no entry in the graph. It pulls from the nearest live
    node before it, so that it can catch up; nobody pulls from it unless the graph is changed.

    Args:
        nodes: The cluster's nodes in file order.
        graph: For each node of the list, those it pulls from; an empty list for none.

    Raises:
        ValueError: The graph leaves out a node, names an unknown one, or lets one pull from itself or
            twice from another.
    """

    def __init__(self, nodes: Sequence[NodeId], graph: Mapping[NodeId, Sequence[NodeId]]) -> None:
        self._placement = Placement(nodes)
        mistakes = graph_mistakes(nodes, graph)
        if mistakes:
            raise ValueError("the graph of the static topology is wrong: " + "; ".join(mistakes))
        self._sources = {node: tuple(graph[node]) for node in nodes}

    def choose(
        self, self_id: NodeId, alive: Collection[NodeId], round: int, rng: np.random.Generator
    ) -> tuple[NodeId, ...]:
        """Name the live sources of the node; none where all of them are dead, whoever else lives."""
        if self_id not in self._placement:
            return self._placement.live_before(self_id, alive, distance=1)
        live = frozenset(alive)
        return tuple(source for source in self._sources[self_id] if source in live)

    def mixing_matrix(self, n: int, round: int = 0) -> MixingMatrix:
        """1 / (k + 1) for the node and each of its k sources, shape (n, n).

        Places beyond the list are those of nodes that joined later.

        Raises:
            ValueError: n is less than the number of nodes in the list.
        """
        nodes = self._placement.nodes
        if n < len(nodes):
            raise ValueError(f"the graph has {len(nodes)} nodes, so there is no matrix for {n}")
        places = {node: place for place, node in enumerate(nodes)}
        pulls = [tuple(places[source] for source in self._sources[node]) for node in nodes]
        pulls += [(place - 1,) if place else () for place in range(len(nodes), n)]
        return averaging_matrix(pulls)


def graph_mistakes(nodes: Sequence[NodeId], graph: Mapping[NodeId, Sequence[NodeId]]) -> list[str]:
    """Say everything that is wrong with a graph; empty if nothing is.

    Args:
        nodes: The cluster's nodes.
        graph: For each node, those it pulls from.
    """
    mistakes = [
        f"{node} has no entry (write an empty list if it pulls from nobody)" for node in nodes if node not in graph
    ]
    for node, sources in graph.items():
        if node not in nodes:
            mistakes.append(f"{node} is not in the list of nodes")
        unknown = sorted({source for source in sources if source not in nodes})
        mistakes += [f"{node} pulls from {source}, which is not in the list of nodes" for source in unknown]
        mistakes += [f"{node} pulls from itself"] if node in sources else []
        repeated = sorted({source for source in sources if list(sources).count(source) > 1})
        mistakes += [f"{node} pulls from {source} more than once" for source in repeated]
    return mistakes
