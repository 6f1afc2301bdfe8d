"""Whole clusters of the real protocol cores, deterministic under a virtual clock."""

from __future__ import annotations

import numpy as np
import pytest

from p2pdl.protocol.pull import PullSettings
from p2pdl.simulation.cluster import SimulatedCluster
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.types import Float32Vector

SIZE = 64
SPEC = WeightSpec.layout([("w", (SIZE,), "float32", True)])


def idle(index: int):
    return lambda weights, step: (weights, 1.0)


def descend(targets: np.ndarray, rate: float = 0.1):
    """Node i minimises |x - target_i|^2 / 2 by gradient descent."""

    def of(index: int):
        def step(weights: Float32Vector, number: int) -> tuple[Float32Vector, float]:
            distance = weights - targets[index]
            return (weights - rate * distance).astype(np.float32), float(0.5 * np.mean(distance**2))

        return step

    return of


def initial(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, SIZE)).astype(np.float32)


@pytest.mark.parametrize("topology", ["ring", "random", "exponential"])
def test_nodes_that_only_exchange_reach_consensus_inside_the_hull(topology):
    start = initial(8)
    cluster = SimulatedCluster(start, SPEC, idle, steps=400, topology_name=topology)
    before = cluster.consensus_error()
    cluster.run(41.0)
    assert cluster.consensus_error() < 1e-4 * before
    final = cluster.vectors().mean(axis=0)
    assert (final >= start.min(axis=0)).all() and (final <= start.max(axis=0)).all()


def test_one_way_pulls_drift_from_the_mean_by_no_more_than_the_spread():
    # One-way averaging does not conserve the mean: with n = 8 nodes its drift has variance of about 1 / (2 n) of the
    # initial spread, and less where the first steps towards nodes that began apart are clipped; consensus error alone
    # would not see that.
    drifts = []
    for seed in range(6):
        start = initial(8, seed)
        cluster = SimulatedCluster(start, SPEC, idle, steps=200, seed=seed)
        cluster.run(21.0)
        drifts.append(cluster.vectors().mean(axis=0) - start.mean(axis=0))
    rms = float(np.sqrt(np.mean(np.square(drifts))))
    assert 0.05 < rms < 0.5


def test_a_cluster_that_trains_on_different_targets_ends_near_the_mean_target():
    targets = initial(4, seed=5)
    cluster = SimulatedCluster(initial(4), SPEC, descend(targets, rate=0.02), steps=1500, topology_name="random")
    cluster.run(151.0)
    assert all(node.step == 1500 for node in cluster.nodes.values())
    average = cluster.vectors().mean(axis=0)
    assert float(np.abs(average - targets.mean(axis=0)).mean()) < 0.1
    alone = float(np.abs(targets - targets.mean(axis=0)).mean())
    assert float(np.abs(cluster.vectors() - targets.mean(axis=0)).mean()) < 0.35 * alone


def test_the_same_seed_gives_the_same_run_bit_for_bit():
    def run() -> tuple[bytes, int]:
        cluster = SimulatedCluster(initial(5), SPEC, idle, steps=60, seed=3)
        cluster.network.faults.loss = 0.1
        cluster.network.faults.delay = (0.001, 0.2)
        cluster.run(20.0)
        return cluster.vectors().tobytes(), len(cluster.network.journal)

    assert run() == run()


def test_a_lossy_slow_network_costs_no_node_a_step():
    cluster = SimulatedCluster(initial(6), SPEC, idle, steps=300, seed=1)
    cluster.network.faults.loss = 0.2
    cluster.network.faults.delay = (0.0, 0.5)
    cluster.run(31.0)
    for node in cluster.nodes.values():
        assert node.step == 300
        assert np.allclose(np.diff(node.step_times), 0.1)
        assert node.merges > 0 and node.failures["timeout"] > 0


@pytest.mark.parametrize("fault", ["crash", "pause", "cut"])
def test_a_node_that_falls_silent_costs_the_others_nothing(fault):
    cluster = SimulatedCluster(initial(4), SPEC, idle, steps=600, seed=2, topology_name="ring")
    cluster.run(10.0)
    if fault == "crash":
        cluster.nodes["node1"].crash()
    elif fault == "pause":
        cluster.network.faults.paused.add("node1")
    else:
        cluster.network.faults.cut |= {("node1", f"node{n}") for n in (2, 3, 4)}
        cluster.network.faults.cut |= {(f"node{n}", "node1") for n in (2, 3, 4)}
    merges = {name: node.merges for name, node in cluster.nodes.items()}
    cluster.run(51.0)
    for name in ("node2", "node3", "node4"):
        node = cluster.nodes[name]
        assert node.step == 600
        assert node.merges > merges[name] + 50, "the ring closes over the silent node"


def test_a_peer_that_comes_back_is_merged_with_again():
    cluster = SimulatedCluster(initial(2), SPEC, idle, steps=2000, seed=4)
    cluster.run(5.0)
    cluster.network.faults.cut |= {("node1", "node2"), ("node2", "node1")}
    cluster.run(60.0)
    merges = cluster.nodes["node1"].merges
    cluster.network.faults.cut.clear()
    cluster.run(40.0)
    assert cluster.nodes["node1"].merges > merges + 50


def test_corrupted_shards_never_reach_the_weights():
    size = 2 * SHARD_ELEMENTS + 7
    spec = WeightSpec.layout([("w", (size,), "float32", True)])
    start = np.stack([np.full(spec.size, value, np.float32) for value in (1.0, 2.0, 3.0)])
    cluster = SimulatedCluster(start, spec, idle, steps=60, seed=7, settings=PullSettings(10.0, 1.0, 1, 2))
    cluster.network.faults.corruption = 0.3
    cluster.run(8.0)
    vectors = cluster.vectors()
    assert vectors.min() >= 1.0 and vectors.max() <= 3.0
    # Each node's vector stays constant: no single element was changed by a damaged shard.
    assert (np.ptp(vectors[:, :size], axis=1) == 0).all()
    assert sum(sum(node.failures.values()) for node in cluster.nodes.values()) > 0


def test_a_node_slower_than_the_others_slows_nobody():
    cluster = SimulatedCluster(
        initial(3), SPEC, idle, steps=200, step_seconds={"node1": 0.1, "node2": 0.1, "node3": 1.0}, seed=8
    )
    cluster.run(20.5)
    assert cluster.nodes["node1"].step == cluster.nodes["node2"].step == 200
    assert cluster.nodes["node3"].step == 20


MIXED = WeightSpec.layout(
    [("kernel", (320,), "float32", True), ("mean", (16,), "float32", False), ("output", (176,), "float32", True)]
)


def consensus(codec: str, loss: float) -> tuple[float, SimulatedCluster]:
    """By what factor the nodes' distance from their mean has fallen after a time in which they only exchange."""
    start = np.random.default_rng(0).normal(size=(6, MIXED.size)).astype(np.float32)
    cluster = SimulatedCluster(start, MIXED, idle, steps=300, codec=codec, clip=None)
    cluster.network.faults.loss = loss
    before = cluster.consensus_error()
    cluster.run(31.0)
    vectors = cluster.vectors()
    # A delta moves towards what the peer's weights have become, and may overshoot where those move on meanwhile.
    assert np.abs(vectors).max() < 1.5 * np.abs(start).max()
    return cluster.consensus_error() / before, cluster


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_whatever_the_codec_the_nodes_reach_consensus(loss):
    plain, reference = consensus("float32", loss)
    assert plain < 1e-6
    for codec in ("int8", "top-k:0.1:int8", "mean-threshold"):
        error, cluster = consensus(codec, loss)
        # Lost messages leave some pulls undone; what a lost delta has carried comes again with a later change.
        assert error < (1e-4 if loss else 1e-8), codec
        merges = sum(node.merges for node in cluster.nodes.values())
        assert merges > 0.8 * sum(node.merges for node in reference.nodes.values()), codec
        failures = {code for node in cluster.nodes.values() for code in node.failures}
        assert failures <= ({"timeout", "busy"} if loss else set()), codec


def test_whatever_the_codec_nodes_that_train_end_near_the_mean_target():
    targets = initial(4, seed=5)
    alone = float(np.abs(targets - targets.mean(axis=0)).mean())

    def distance(codec: str) -> float:
        step = descend(targets, rate=0.02)
        # Of the codec alone: clipping holds nodes apart that send the largest changes only.
        cluster = SimulatedCluster(initial(4), SPEC, step, steps=600, topology_name="random", codec=codec, clip=None)
        cluster.run(61.0)
        assert all(node.step == 600 for node in cluster.nodes.values())
        return float(np.abs(cluster.vectors() - targets.mean(axis=0)).mean()) / alone

    plain = distance("float32")
    assert distance("int8") < 1.5 * plain
    assert distance("mean-threshold") < 3 * plain
    # A tenth of the entries in each exchange holds the nodes together a good deal less tightly.
    assert distance("top-k:0.1:int8") < 0.35


def test_corrupted_deltas_never_reach_the_weights():
    size = SHARD_ELEMENTS + 16
    spec = WeightSpec.layout([("w", (size,), "float32", True)])
    start = np.stack([np.full(spec.size, value, np.float32) for value in (1.0, 2.0, 3.0)])
    settings = PullSettings(10.0, 1.0, 1, 2)
    cluster = SimulatedCluster(start, spec, idle, steps=60, seed=7, settings=settings, codec="mean-threshold")
    # More of it leads to quarantine within these few seconds.
    cluster.network.faults.corruption = 0.15
    cluster.run(8.0)
    vectors = cluster.vectors()
    assert vectors.min() >= 1.0 and vectors.max() <= 3.0
    assert sum(node.merges for node in cluster.nodes.values()) > 3
    assert sum(node.failures["digest"] for node in cluster.nodes.values()) > 0
    # All elements were equal at the start: only damage could make them differ within a shard.
    assert (np.ptp(vectors[:, :SHARD_ELEMENTS], axis=1) == 0).all()
    assert (np.ptp(vectors[:, SHARD_ELEMENTS:], axis=1) == 0).all()
