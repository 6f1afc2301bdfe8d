"""What a parameter server does with an update: what one is, and what a rule for it decides.

One sign for all: an update is what is subtracted from the weights, times the optimizer's rate. A gradient is one; so is
what a worker's own optimizer did, as weights before less weights after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from p2pdl.types import Float32Vector, Indices, NodeId

State = Mapping[str, NDArray[Any]]
"""Named arrays of a checkpoint."""


def place_of(count: int, start: int, indices: Indices | None) -> slice | Indices:
    """Where values stand in the server's vector, for use as an index: a slice unless there are `indices`."""
    return slice(start, start + count) if indices is None else indices


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """What a worker has pushed.

    A dense update is about its own entries only, all of the vector or a range of it. A sparse one is about the whole
    vector: entries that it does not name are zero.

    Attributes:
        worker: Who pushed it.
        clock: The iteration that it belongs to.
        staleness: Versions of the weights between those that the worker had pulled and the present ones, 0 at least.
        start: First entry of a dense update in the server's vector; not read for a sparse one.
        indices: Entries of a sparse update, strictly ascending and within the vector; None for a dense one.
        values: Finite, shape (count,), float32; nobody writes into them.
        samples: Training samples behind it.

    Raises:
        ValueError: The staleness is negative, or there is not one value for each index.
    """

    worker: NodeId
    clock: int
    staleness: int
    start: int
    indices: Indices | None
    values: Float32Vector
    samples: int

    def __post_init__(self) -> None:
        if self.staleness < 0:
            raise ValueError(f"an update has a staleness of at least 0, not {self.staleness}")
        if self.indices is not None and self.indices.shape != self.values.shape:
            raise ValueError(f"there are {self.values.size} values for {self.indices.size} indices")

    @property
    def place(self) -> slice | Indices:
        """Where the values stand in the server's vector, for use as an index."""
        return place_of(self.values.size, self.start, self.indices)


class UpdateRule(Protocol):
    """The rule that scales updates by how late they are, or by what the others have sent.

    Attributes:
        name: The name that a configuration uses.
    """

    name: str

    def on_pull(self, worker: NodeId) -> None:
        """Note that the worker has got the weights as they are now."""
        ...

    def scaled(self, update: Update) -> Float32Vector:
        """What to apply in the update's place; call it once for each update, when it is applied.

        Returns:
            The same shape as `update.values`: these themselves where nothing changes, otherwise a new array. The rule
            does not write into `update.values`, and keeps no reference to them.

        Raises:
            PeerError: The update cannot be weighed, and must not be applied; the rule is as it was.
        """
        ...

    def forget(self, worker: NodeId) -> None:
        """Drop what is kept for a worker that has left; no matter if there is nothing."""
        ...

    def state(self) -> State:
        """What a checkpoint has to hold; the arrays are the rule's own, to be copied before the next update."""
        ...

    def restore(self, state: State) -> None:
        """Go on from a state of the same rule for a vector of the same size.

        Raises:
            CheckpointMismatch: It is of another rule or size; the rule is as it was.
        """
        ...
