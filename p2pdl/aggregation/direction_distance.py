"""Direction and distance: who is behind moves the weights further, while the sum of all keeps its length.

Tsai, "Large scale deep learning parameter server" (2017): with g_c the latest gradient of worker c, its new distance is
t a_c, where t |sum_c a_c g_c / |g_c|| = |sum_c g_c|.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pdl.aggregation.contract import State, Update, place_of
from p2pdl.aggregation.saved import named, saved
from p2pdl.errors import RejectedWeights
from p2pdl.types import Float32Vector, Indices, NodeId

BLOCK = 16_384
"""Entries that are added at a time: their float64 copies stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest gradient of a worker.

    Attributes:
        start: First entry of a dense one.
        indices: Entries of a sparse one; None for a dense one.
        values: Shape (count,), float32.
        clock: Its iteration.
        length: Its 2-norm.
        share: a_c.
    """

    start: int
    indices: Indices | None
    values: Float32Vector
    clock: int
    length: float
    share: float

    @property
    def factor(self) -> float:
        """By what the values are multiplied in the sum of directions; a zero gradient has no direction."""
        return self.share / self.length if self.length else 0.0


class DirectionDistance:
    """Gives the pushed gradient its new distance, by sums that are kept as gradients come and go.

    a_c = 1 / (1 + iterations by which c is ahead of the slowest): the slowest has 1. It stays what it was when the
    gradient came; to follow the slowest for all workers would mean to add up all gradients again at each push. Workers
    count from their first push until they are forgotten.

    Where directions nearly cancel, t grows beyond any bound. A gradient whose new distance would be more than all
    latest gradients laid end to end keeps its own.

    Memory: the latest gradient of each worker (4 bytes for each of its entries, 12 if sparse), and 16 bytes for each
    entry of the vector: the sums are float64, so that gradients that come and go leave nothing behind. Time of a push:
    O(size), whatever the number of workers.

    Args:
        size: Entries of the server's vector.
    """

    name = "direction-distance"

    def __init__(self, size: int) -> None:
        self._sum = np.zeros(size, np.float64)
        self._directions = np.zeros(size, np.float64)
        self._latest: dict[NodeId, Latest] = {}

    def on_pull(self, worker: NodeId) -> None:
        """Nothing to note."""

    def scaled(self, update: Update) -> Float32Vector:
        """The gradient with its new distance; one of length 0 as it is.

        Raises:
            RejectedWeights: The gradient is not finite (`not-finite`).
        """
        length = _norm(update.values)
        if not math.isfinite(length):
            raise RejectedWeights(
                f"{update.worker}: its update of iteration {update.clock} is not finite",
                "look at that worker: its training has diverged",
                code="not-finite",
            )
        self.forget(update.worker)
        slowest = min((latest.clock for latest in self._latest.values()), default=update.clock)
        share = 1.0 / (1 + max(0, update.clock - slowest))
        indices = None if update.indices is None else update.indices.copy()
        latest = Latest(update.start, indices, update.values.copy(), update.clock, length, share)
        self._latest[update.worker] = latest
        self._add(latest, 1.0)
        wanted = share * _norm(self._sum)
        directions = _norm(self._directions)
        end_to_end = math.fsum(latest.length for latest in self._latest.values())
        if length == 0.0 or wanted > end_to_end * directions:
            return update.values
        scaled = np.empty_like(update.values)
        # The ratio alone may be more than float32 can hold.
        np.multiply(update.values, wanted / directions / length, out=scaled, dtype=np.float64, casting="same_kind")
        return scaled

    def forget(self, worker: NodeId) -> None:
        """Take the worker's latest gradient out of the sums."""
        latest = self._latest.pop(worker, None)
        if latest is not None:
            self._add(latest, -1.0)

    def state(self) -> State:
        """The sums, and for each worker its latest gradient with its clock, length and share."""
        arrays: dict[str, NDArray[np.generic]] = {"sum": self._sum, "directions": self._directions}
        for worker, latest in self._latest.items():
            arrays[f"values/{worker}"] = latest.values
            arrays[f"scale/{worker}"] = np.array([latest.length, latest.share])
            arrays[f"clock/{worker}"] = np.array([latest.clock, latest.start], np.int64)
            if latest.indices is not None:
                arrays[f"indices/{worker}"] = latest.indices.astype(np.int64)
        return arrays

    def restore(self, state: State) -> None:
        """Go on from a state.

        Raises:
            CheckpointMismatch: It is of another rule or size.
        """
        size = self._sum.shape
        sums = saved(state, "sum", np.float64, size), saved(state, "directions", np.float64, size)
        latest = {}
        for worker in named(state, "values"):
            values = saved(state, f"values/{worker}", np.float32, None)
            length, share = saved(state, f"scale/{worker}", np.float64, (2,)).tolist()
            clock, start = saved(state, f"clock/{worker}", np.int64, (2,)).tolist()
            sparse = f"indices/{worker}" in state
            indices = saved(state, f"indices/{worker}", np.int64, values.shape).astype(np.intp) if sparse else None
            latest[worker] = Latest(start, indices, values, clock, length, share)
        (self._sum, self._directions), self._latest = sums, latest

    def _add(self, latest: Latest, sign: float) -> None:
        for begin in range(0, latest.values.size, BLOCK):
            block = latest.values[begin : begin + BLOCK].astype(np.float64)
            indices = None if latest.indices is None else latest.indices[begin : begin + BLOCK]
            place = place_of(block.size, latest.start + begin, indices)
            self._sum[place] += sign * block
            block *= sign * latest.factor
            self._directions[place] += block


def _norm(values: NDArray[np.float32] | NDArray[np.float64]) -> float:
    return math.sqrt(np.einsum("i,i->", values, values, dtype=np.float64))
