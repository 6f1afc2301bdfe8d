"""Real models in a simulated cluster: what is trained, masked, encoded and merged is real, only the network is not.

All nodes take a step, pull, and merge what has arrived after their next step, as nodes of equal speed do whose pulls
fit into a step. The same seed gives the same run, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from p2pdl.errors import DivergedError
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import aligned_empty
from p2pdl.simulation.cluster import SimulatedCluster
from p2pdl.spec import WeightSpec, shards_in
from p2pdl.training.evaluate import Evaluation, evaluate
from p2pdl.training.preparation import Preparation
from p2pdl.training.weights import ModelWeights, spec_of
from p2pdl.types import Float32Vector

STEP_SECONDS = 1.0
"""Virtual time between two exchanges: a pull takes a few thousandths of it."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a cluster is after some steps.

    Attributes:
        step: Optimizer steps that each node has done.
        nbytes: Bytes of all messages that have reached a node by then, the nodes' mean.
        accuracy: Test accuracy of the consensus, the mean of all nodes' weights.
        loss: Its test loss.
        distance: Root mean square of the distance of a node's weights from the consensus.
    """

    step: int
    nbytes: float
    accuracy: float
    loss: float
    distance: float


class LocalModel:
    """A node's own model and optimizer, which train a flat vector.

    Args:
        parts: The node's data, model and compiled step.
    """

    def __init__(self, parts: Preparation) -> None:
        self._parts = parts
        self._variables = [*parts.model.variables, *parts.optimizer.variables]
        self._initial = [variable.numpy() for variable in self._variables]
        self.spec: WeightSpec = spec_of(parts.model)
        self._weights = ModelWeights(parts.model, aligned_empty(self.spec.size))

    def reset(self) -> Float32Vector:
        """Begin anew: the initial weights, with an optimizer that has done nothing."""
        for variable, value in zip(self._variables, self._initial, strict=True):
            variable.assign(value)
        return self._vector()

    def train(self, vector: Float32Vector, first: int, steps: int) -> tuple[Float32Vector, float]:
        """Take some steps.

        Args:
            vector: The weights to start from.
            first: Number of the first step, which decides the batch.
            steps: How many.

        Returns:
            The weights afterwards, and the mean loss of the batches.

        Raises:
            DivergedError: A loss is not finite.
        """
        self._weights.assign(vector)
        losses = [self._step(first + number) for number in range(steps)]
        if not all(map(math.isfinite, losses)):
            raise DivergedError(f"a loss of steps {first} to {first + steps} is not finite", "lower --learning-rate")
        return self._vector(), sum(losses) / steps

    def _step(self, number: int) -> float:
        self._parts.set_pace(number)
        return float(self._parts.step(*self._parts.batches.batch(number)))

    def test(self, vector: Float32Vector, samples: int) -> Evaluation:
        """Evaluate weights on so many samples of the test set, at most."""
        self._weights.assign(vector)
        inputs, labels = self._parts.evaluation_sets()["test"]
        return evaluate(self._parts.model, inputs, labels, self._parts.loss, samples)

    def _vector(self) -> Float32Vector:
        vector = np.zeros(self.spec.size, np.float32)
        self._weights.copy_to(vector)
        return vector


class LockStep:
    """A run of a cluster.

    Args:
        models: One for each node, of the same layout; they begin anew.
        codec: How weights are pulled, as on the wire.
        steps: Optimizer steps of each node.
        exchange_every: Steps from one pull to the next.
        topology: Whom to pull from.
        merge: How to merge.
        seed: Of the topology's chance.
    """

    def __init__(
        self,
        models: Sequence[LocalModel],
        codec: str,
        steps: int,
        exchange_every: int = 1,
        topology: str = "random",
        merge: str = "contribution",
        seed: int = 0,
    ) -> None:
        self._models = models
        self._every = exchange_every
        self._exchanges = steps // exchange_every
        self._nbytes = 0
        spec = models[0].spec
        # A whole pull in flight at once: a node is done before the next one asks, and none finds a peer busy.
        settings = PullSettings(window=shards_in(spec.size))
        self.cluster = SimulatedCluster(
            np.stack([model.reset() for model in models]),
            spec,
            lambda node: lambda vector, step: models[node].train(vector, step * exchange_every, exchange_every),
            self._exchanges,
            topology,
            merge_name=merge,
            step_seconds=STEP_SECONDS,
            seed=seed,
            settings=settings,
            codec=codec,
        )

    def run(self, look_every: int, samples: int) -> Iterator[Look]:
        """Train to the end, and look at the consensus now and then.

        Args:
            look_every: Steps between two looks; there is one at the end too.
            samples: Test samples of each look.
        """
        between = max(1, look_every // self._every)
        nodes = self.cluster.nodes.values()
        network = self.cluster.network
        goal = 0

        def is_there() -> bool:
            return all(node.step >= goal for node in nodes)

        while goal < self._exchanges:
            goal = min(goal + between, self._exchanges)
            network.run_until(math.inf, is_there)
            self._nbytes += sum(entry.nbytes for entry in network.journal if entry.event == "delivered")
            network.journal.clear()
            tested = self._models[0].test(self.consensus(), samples)
            distance = math.sqrt(self.cluster.consensus_error())
            yield Look(goal * self._every, self._nbytes / len(nodes), tested.accuracy, tested.loss, distance)

    def consensus(self) -> Float32Vector:
        """The mean of all nodes' weights, which the final merge would make."""
        mean: Float32Vector = self.cluster.vectors().mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    def accuracies(self, samples: int) -> list[float]:
        """Each node's own test accuracy now."""
        return [self._models[0].test(vector, samples).accuracy for vector in self.cluster.vectors()]
