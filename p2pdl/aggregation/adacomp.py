"""AdaComp's rates: each parameter's update is divided by how often it has changed since the worker's copy.

Hardy, Le Merrer, Sericola, "Distributed deep learning on edge-devices in the parameter server model" (2017):
s_k(i) = sum over u = i - d .. i - 1 of 1{dW_k(u) != 0}; the rate is a / s_k(i) where s_k(i) != 0, else a.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pdl.aggregation.contract import State, Update
from p2pdl.aggregation.saved import named, saved
from p2pdl.errors import PeerRefused
from p2pdl.types import Float32Vector, NodeId

COUNTER = np.uint16
"""Counts wrap round; a difference of two is right if no more updates lie between them than it can count."""

MOST_UPDATES = int(np.iinfo(COUNTER).max)
"""Updates that may have been applied since the pull that an update is based on."""


class AdaComp:
    """Counts for each parameter the updates that changed it, and keeps the counts of each worker's pull.

    A push costs time in proportion to its entries, a pull a copy of 2 bytes for each entry of the vector, which is also
    the memory for each worker. A worker's own updates count, until it pulls again.

    Args:
        size: Entries of the server's vector.
    """

    name = "adacomp"

    def __init__(self, size: int) -> None:
        self._counts: NDArray[np.uint16] = np.zeros(size, COUNTER)
        self._applied = 0
        self._pulled: dict[NodeId, tuple[NDArray[np.uint16], int]] = {}

    def on_pull(self, worker: NodeId) -> None:
        """Keep the present counts for the worker."""
        counts, _ = self._pulled.get(worker) or (np.empty_like(self._counts), 0)
        np.copyto(counts, self._counts)
        self._pulled[worker] = counts, self._applied

    def scaled(self, update: Update) -> Float32Vector:
        """The values, each divided by its parameter's staleness where that is not 0.

        Raises:
            PeerRefused: The worker has not pulled (`not-pulled`), or too long ago for its count (`too-stale`).
        """
        if update.worker not in self._pulled:
            raise PeerRefused(
                f"{update.worker}: has pushed without a pull before", "pull before a push", code="not-pulled"
            )
        counts, applied = self._pulled[update.worker]
        if self._applied - applied > MOST_UPDATES:
            raise PeerRefused(
                f"{update.worker}: {self._applied - applied} updates were applied since it pulled",
                f"pull at least every {MOST_UPDATES} updates",
                code="too-stale",
            )
        staleness = self._counts[update.place] - counts[update.place]
        scaled: Float32Vector = update.values / np.maximum(staleness, 1)
        self._count(update)
        return scaled

    def forget(self, worker: NodeId) -> None:
        """Drop the counts of its pull."""
        self._pulled.pop(worker, None)

    def state(self) -> State:
        """The counts, now and at each worker's pull, and how many updates there were by then."""
        arrays: dict[str, NDArray[np.generic]] = {
            "counts": self._counts,
            "applied": np.array([self._applied], np.int64),
        }
        for worker, (counts, applied) in self._pulled.items():
            arrays[f"counts/{worker}"] = counts
            arrays[f"applied/{worker}"] = np.array([applied], np.int64)
        return arrays

    def restore(self, state: State) -> None:
        """Go on from a state.

        Raises:
            CheckpointMismatch: It is of another rule or size.
        """
        size = self._counts.shape
        counts, applied = saved(state, "counts", COUNTER, size), int(saved(state, "applied", np.int64, (1,))[0])
        self._pulled = {
            worker: (
                saved(state, f"counts/{worker}", COUNTER, size),
                int(saved(state, f"applied/{worker}", np.int64, (1,))[0]),
            )
            for worker in named(state, "counts")
        }
        self._counts, self._applied = counts, applied

    def _count(self, update: Update) -> None:
        changed = update.values != 0.0
        if update.indices is None:
            self._counts[update.place] += changed
        else:
            self._counts[update.indices[changed]] += 1
        self._applied += 1
