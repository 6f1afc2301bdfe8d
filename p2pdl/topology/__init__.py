"""Who pulls from whom: topologies, their mixing matrices, and the registry of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from p2pdl.topology.contract import Topology
from p2pdl.topology.exponential import Exponential
from p2pdl.topology.random_peers import RandomPeers
from p2pdl.topology.ring import Ring
from p2pdl.topology.static import Static, graph_mistakes
from p2pdl.types import NodeId

__all__ = ["TOPOLOGIES", "Graph", "Topology", "create", "graph_mistakes"]

Graph = Mapping[NodeId, Sequence[NodeId]]
"""For each node, the nodes it pulls from."""

TOPOLOGIES: dict[str, Callable[[Sequence[NodeId], int, Graph], Topology]] = {
    "ring": lambda nodes, peers, graph: Ring(nodes),
    "random": lambda nodes, peers, graph: RandomPeers(nodes, peers),
    "exponential": lambda nodes, peers, graph: Exponential(nodes),
    "static": lambda nodes, peers, graph: Static(nodes, graph),
}
"""Topologies by the name that a configuration uses."""


def create(name: str, nodes: Sequence[NodeId], *, peers: int = 1, graph: Graph | None = None) -> Topology:
    """Build the topology of a cluster.

    Args:
        name: A key of `TOPOLOGIES`.
        nodes: The cluster's nodes in file order.
        peers: Distinct peers per round; read by `random` only.
        graph: For each node, those it pulls from; read by `static` only.

    Raises:
        ValueError: The name is unknown, or the other arguments do not suit the topology.
    """
    if name not in TOPOLOGIES:
        raise ValueError(f"there is no topology {name!r}; there are {', '.join(TOPOLOGIES)}")
    return TOPOLOGIES[name](nodes, peers, graph or {})
