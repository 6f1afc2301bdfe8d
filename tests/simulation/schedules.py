"""A cluster on the in-memory network, every fault that may befall it, and nodes that are checked as they go along."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from p2pdl import merge, topology
from p2pdl.clock import VirtualClock
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.simulation.node import LocalStep, SimulatedNode
from p2pdl.spec import WeightSpec, shard_digests
from p2pdl.transport.memory import Faults, MemoryNetwork
from p2pdl.types import Float32Vector, Indices, NodeId

STEP_SECONDS = 0.5

FAULT_SECONDS = 30.0

HEALING_SECONDS = 400.0
"""More than a peer is left alone at most after failures of half a minute: 30 s, or 240 s in quarantine, and then some
exchanges."""

CODECS = ["float32", "float32", "float32", "int8", "mean-threshold"]
DELTA_CODECS = {"mean-threshold"}


class Ledger:
    """What all nodes of a run have published, as digests by node."""

    def __init__(self) -> None:
        self._published: dict[NodeId, set[tuple[int, ...]]] = {}
        self.compared = 0

    def note(self, node: NodeId, vector: Float32Vector) -> None:
        """A version has been published."""
        self._published.setdefault(node, set()).add(shard_digests(vector))

    def compare(self, node: NodeId, received: Float32Vector) -> None:
        """What a puller is about to merge is, to the bit, something that this node has published."""
        assert shard_digests(received) in self._published[node]
        self.compared += 1


class Keeping(Inbox):
    """An inbox that keeps what it was given, as it was given."""

    def __init__(self, spec: WeightSpec) -> None:
        super().__init__(spec)
        self.received: dict[int, Float32Vector] = {}

    def expect(self, base: Float32Vector | None, raw: bool = False) -> None:
        super().expect(base, raw)
        self.received.clear()

    def accept(self, offset: int, values: Float32Vector, indices: Indices | None = None) -> None:
        super().accept(offset, values, indices)
        assert np.isfinite(values).all() and offset not in self.received
        self.received[offset] = values.copy()

    def whole(self) -> Float32Vector:
        """Everything received, in order."""
        return np.concatenate([self.received[offset] for offset in sorted(self.received)])


class Watched(SimulatedNode):
    """A node whose publications and merges are checked as they happen.

    Args:
        ledger: Of the whole run.
        incarnation: Its life.
        *arguments: Those of `SimulatedNode`.
    """

    def __init__(self, ledger: Ledger, incarnation: str, *arguments, codec: str) -> None:
        super().__init__(*arguments, codec=codec, incarnation=incarnation)
        self._ledger = ledger
        self._is_exact = codec == "float32"
        self._inbox = self._keeping = Keeping(arguments[4])
        self.history: list[tuple[int, Float32Vector]] = []
        self.began = self._network.clock.now()

    def _publish(self, now: float) -> None:
        super()._publish(now)
        snapshot = self._view.load()
        assert snapshot is not None and np.isfinite(snapshot.vector).all()
        self._ledger.note(self.name, snapshot.vector)
        self.history.append((self.step, snapshot.vector))

    def _merge(self, snapshot: SnapshotReply) -> None:
        if self._is_exact:
            self._ledger.compare(self._peer, self._keeping.whole())
        super()._merge(snapshot)
        assert np.isfinite(self.weights).all()


def local_step(target: Float32Vector, quiet_from: int) -> LocalStep:
    """Descends towards a target of the node's own, and stands still later: only exchanges bring nodes together."""

    def step(weights: Float32Vector, number: int) -> tuple[Float32Vector, float]:
        if number >= quiet_from:
            return weights, 1.0
        distance = weights - target
        return (weights - 0.02 * distance).astype(np.float32), float(0.5 * np.mean(distance**2))

    return step


class Schedule:
    """A cluster, and what becomes of it: all of it drawn from one seed.

    Args:
        seed: The seed.
        spec: The model.
    """

    def __init__(self, seed: int, spec: WeightSpec) -> None:
        self.seed = seed
        self.spec = spec
        self.ledger = Ledger()
        self.rng = np.random.default_rng(seed)
        self.network = MemoryNetwork(VirtualClock(), seed)
        self.names = [f"node{number + 1}" for number in range(self.rng.integers(3, 6))]
        self.topology = str(self.rng.choice(["random", "ring", "exponential"]))
        self.rule = str(self.rng.choice(["mean", "contribution"]))
        self.codec = str(self.rng.choice(CODECS))
        self.targets = self.rng.normal(size=(len(self.names), self.spec.size)).astype(np.float32)
        start = self.rng.normal(size=self.spec.size).astype(np.float32)
        self.nodes = {name: self.start(name, start, 0, 0) for name in self.names}
        self.down: set[NodeId] = set()

    def start(self, name: NodeId, weights: Float32Vector, step: int, life: int) -> Watched:
        """Start a node at some step, in a life of its own."""
        index = self.names.index(name)
        node = Watched(
            self.ledger,
            str(life + 1),
            name,
            [other for other in self.names if other != name],
            self.network,
            weights,
            self.spec,
            topology.create(self.topology, self.names, peers=1),
            merge.create(self.rule),
            local_step(self.targets[index], int(FAULT_SECONDS / STEP_SECONDS)),
            STEP_SECONDS,
            10**9,
            self.seed * 100 + 10 * life + index,
            PullSettings(4.0, 1.0, 1, 2),
            codec=self.codec,
        )
        node.step = step
        return node

    def faults(self) -> dict[str, Callable[[], None]]:
        """Everything that may happen."""
        faults, rng = self.network.faults, self.rng
        pairs = [(one, other) for one in self.names for other in self.names if one != other]

        def lose() -> None:
            faults.loss = float(rng.uniform(0.0, 0.5))

        def delay() -> None:
            longest = float(rng.choice([0.05, 0.5, 2.0]))
            faults.delay = (float(rng.uniform(0.0, longest)), longest)

        def narrow() -> None:
            faults.bandwidth = 4 * self.spec.size / float(rng.uniform(0.1, 2.0))

        def repeat() -> None:
            faults.duplication = float(rng.uniform(0.0, 0.5))

        def reorder() -> None:
            faults.reordering = float(rng.uniform(0.0, 1.0))

        def corrupt() -> None:
            faults.corruption = float(rng.uniform(0.0, 0.3))

        def cut_one_way() -> None:
            faults.cut.add(pairs[rng.integers(len(pairs))])

        def part() -> None:
            here = {name for name in self.names if rng.random() < 0.5}
            faults.cut |= {(one, other) for one, other in pairs if (one in here) != (other in here)}

        def mend() -> None:
            faults.cut.clear()

        def pause() -> None:
            faults.paused.add(str(rng.choice(self.names)))

        def go_on() -> None:
            faults.paused.clear()

        def crash() -> None:
            standing = sorted(set(self.names) - self.down)
            if len(standing) > 2:
                self.crash(str(rng.choice(standing)))

        def come_back() -> None:
            if self.down:
                self.come_back(str(rng.choice(sorted(self.down))))

        actions = (lose, delay, narrow, repeat, reorder, corrupt, cut_one_way, part, mend, pause, go_on, crash)
        return {action.__name__: action for action in (*actions, come_back, come_back)}

    def crash(self, name: NodeId) -> None:
        """Kill a node."""
        self.nodes[name].crash()
        self.down.add(name)

    def come_back(self, name: NodeId) -> None:
        """Start a node again from what it had some steps before its end."""
        before, back = self.nodes[name], int(self.rng.integers(1, 11))
        step, weights = before.history[-min(len(before.history), back)] if before.history else (0, before.weights)
        self.nodes[name] = self.start(name, weights, step, int(before._view.incarnation()))
        self.down.remove(name)

    def run(self) -> None:
        """Let everything happen until the faults end."""
        faults = self.faults()
        for moment in sorted(self.rng.uniform(1.0, FAULT_SECONDS, self.rng.integers(4, 20))):
            self.network.run_until(float(moment))
            faults[str(self.rng.choice(list(faults)))]()
        self.network.run_until(FAULT_SECONDS)
        self.network.faults = Faults()

    def heal(self, is_healed: Callable[[], bool]) -> bool:
        """Let time pass until a condition holds; False if it never does."""
        give_up_at = FAULT_SECONDS + HEALING_SECONDS
        while not (healed := is_healed()) and self.network.clock.now() < give_up_at:
            self.network.journal.clear()
            self.network.run_until(self.network.clock.now() + 10.0)
        return healed

    @property
    def standing(self) -> list[Watched]:
        """The nodes that run."""
        return [self.nodes[name] for name in self.names if name not in self.down]

    def consensus_error(self) -> float:
        """Mean squared distance from their mean of the nodes that run."""
        vectors = np.stack([node.weights for node in self.standing])
        return float(np.mean((vectors - vectors.mean(axis=0, dtype=np.float64)) ** 2))
