"""What a parameter server is told, and what it keeps: of each worker, and of each shard of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from p2pdl.aggregation import (
    Collection,
    OptimizerSettings,
    ServerOptimizer,
    Update,
    UpdateRule,
    make_optimizer,
    make_rule,
)
from p2pdl.spec import SHARD_ELEMENTS
from p2pdl.synchronisation import PolicySettings
from p2pdl.types import Float32Vector

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class ParameterServerSettings:
    """How a parameter server works.

    Attributes:
        policy: Name of the synchronisation policy.
        policy_settings: What it can be told.
        rule: Name of the update rule.
        optimizer: Name of the server's optimizer; `none` where those of the workers do its work.
        optimizer_settings: What it can be told.
        rate: By what each update is multiplied; None for one divided by the number of workers.
        values: How the values of a push are coded.
        lease: Seconds after which a worker that was not heard of takes no part any more.
        expected: Workers that are waited for before the first iteration begins.
        start_wait: Seconds for which they are, from when the first one has joined.
    """

    policy: str = "bsp"
    policy_settings: PolicySettings = PolicySettings()
    rule: str = "consgd"
    optimizer: str = "sgd"
    optimizer_settings: OptimizerSettings = OptimizerSettings()
    rate: float | None = None
    values: str = "float32"
    lease: float = 10.0
    expected: int = 1
    start_wait: float = 30.0


@dataclass(slots=True)
class Worker:
    """One that takes part.

    Attributes:
        clock: The iteration that it does next.
        heard: When it was last heard of.
        pushed: Shards of that iteration that have come.
    """

    clock: int
    heard: float
    pushed: set[int] = field(default_factory=set)


@dataclass(slots=True)
class WeightShard:
    """One key of the server: its weights, and what weighs and applies the updates of it.

    Attributes:
        weights: A view of the server's vector.
        rule: Scales updates.
        optimizer: Applies them.
        collection: Adds up those of one iteration; None where they are applied as they come.
    """

    weights: Float32Vector
    rule: UpdateRule
    optimizer: ServerOptimizer
    collection: Collection | None

    def take(self, update: Update, rate: float) -> None:
        """Collect an update, or apply it.

        Args:
            update: Of this shard; its indices count from the shard's beginning.
            rate: By what it is multiplied if it is applied at once.

        Raises:
            PeerError: The rule cannot weigh it; nothing has changed.
        """
        values = self.rule.scaled(update)
        if self.collection is not None:
            self.collection.add(update, values)
        else:
            self.optimizer.apply(self.weights, values, rate=rate, indices=update.indices)

    def complete(self, rate: float) -> bool:
        """Apply the mean of what was collected.

        Args:
            rate: By what it is multiplied.

        Returns:
            False if nothing was.
        """
        if self.collection is None or not self.collection.count:
            return False
        self.optimizer.apply(self.weights, self.collection.take(), rate=rate)
        return True

    def state(self, number: int) -> Arrays:
        """What a checkpoint holds of rule and optimizer, under the shard's number."""
        return {f"rule/{number}/{name}": array for name, array in self.rule.state().items()} | {
            f"optimizer/{number}/{name}": array for name, array in self.optimizer.state().items()
        }

    def restore(self, number: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave.

        Raises:
            CheckpointMismatch: It was made with another rule or optimizer.
        """
        self.rule.restore(_below(arrays, f"rule/{number}/"))
        self.optimizer.restore(_below(arrays, f"optimizer/{number}/"))


def shards_of(vector: Float32Vector, settings: ParameterServerSettings, collects: bool) -> list[WeightShard]:
    """A vector cut into shards.

    Args:
        vector: The server's weights.
        settings: What the rules and optimizers are.
        collects: Whether the updates of an iteration are applied together.
    """
    shards = []
    for start in range(0, vector.size, SHARD_ELEMENTS):
        weights = vector[start : start + SHARD_ELEMENTS]
        rule = make_rule(settings.rule, weights.size)
        optimizer = make_optimizer(settings.optimizer, weights.size, settings.optimizer_settings)
        shards.append(WeightShard(weights, rule, optimizer, Collection(weights.size) if collects else None))
    return shards


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
