"""A cluster of simulated nodes: made in one call, moved on together, measured as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from p2pdl import merge, topology
from p2pdl.clock import VirtualClock
from p2pdl.protocol.pull import PullSettings
from p2pdl.simulation.node import LocalStep, SimulatedNode
from p2pdl.spec import WeightSpec
from p2pdl.transport.memory import MemoryNetwork
from p2pdl.types import Float32Vector, NodeId


class SimulatedCluster:
    """Nodes `node1`, `node2`, ... on one in-memory network.

    Args:
        initial: Initial vectors, shape (n, spec.size).
        spec: The model's layout.
        local_step: Makes each node's training step from the node's index.
        steps: Steps that each node does.
        topology_name: Whom to pull from.
        peers: Peers of one exchange, for `random`.
        merge_name: How to merge.
        step_seconds: Time of one step, for each node or for all.
        seed: Of every chance: the same seed gives the same run.
        settings: Of every pull.
        codec: How weights are pulled, as on the wire.
        clip: The radius of `Clipping`, in usual distances; None for none.
    """

    def __init__(
        self,
        initial: Float32Vector,
        spec: WeightSpec,
        local_step: Callable[[int], LocalStep],
        steps: int,
        topology_name: str = "random",
        peers: int = 1,
        merge_name: str = "mean",
        step_seconds: float | Mapping[NodeId, float] = 0.1,
        seed: int = 0,
        settings: PullSettings | None = None,
        codec: str = "float32",
        clip: float | None = merge.DEFAULT_CLIP,
    ) -> None:
        self.network = MemoryNetwork(VirtualClock(), seed)
        names = [f"node{index + 1}" for index in range(len(initial))]
        self.nodes: dict[NodeId, SimulatedNode] = {}
        for index, name in enumerate(names):
            seconds = step_seconds if isinstance(step_seconds, int | float) else step_seconds[name]
            self.nodes[name] = SimulatedNode(
                name,
                [other for other in names if other != name],
                self.network,
                initial[index],
                spec,
                topology.create(topology_name, names, peers=peers),
                merge.create(merge_name),
                local_step(index),
                seconds,
                steps,
                seed + index,
                settings or PullSettings(timeout=10.0, request_timeout=1.0),
                codec,
                clip,
            )

    def run(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        self.network.run_until(self.network.clock.now() + seconds)

    def vectors(self) -> Float32Vector:
        """All nodes' weights, shape (n, size)."""
        return np.stack([node.weights for node in self.nodes.values()])

    def consensus_error(self) -> float:
        """Mean squared distance of the nodes from their mean, for each element."""
        vectors = self.vectors().astype(np.float64)
        return float(np.mean((vectors - vectors.mean(axis=0)) ** 2))
