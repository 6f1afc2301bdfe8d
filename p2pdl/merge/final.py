"""The final merge: an average of whole models weighted by samples, built up one model at a time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

import numpy as np

from p2pdl.errors import RejectedWeights
from p2pdl.merge.clipping import UNRELATED, Distance
from p2pdl.types import Float32Vector, NodeId

MOST_SAMPLES = 2.0
"""Of the median of all claims of samples, what one claim counts for at most: four times of four nodes' samples would be
the say of four honest ones."""

_PIECE = 1 << 18
"""Elements worked on at a time (1 MiB), which bounds the memory beside the average itself."""


def most_samples(claims: Iterable[int]) -> int | None:
    """How many samples one model may count for, whatever its node claims.

    Args:
        claims: Of all nodes, this one included.

    Returns:
        `MOST_SAMPLES` times the lower median of those that have any; None if none has.
    """
    positive = [claim for claim in claims if claim > 0]
    return math.ceil(MOST_SAMPLES * statistics.median_low(positive)) if positive else None


def confirm_related(node: NodeId, distance: Distance, own_scale: float, bounded: bool = True) -> None:
    """Refuse final weights that cannot come from the same training.

    The bound is the one that holds for every merge, not the radius: what is usual between nodes that exchange says
    little of one that was done long before, and all have to leave out the same ones to end with the same bits.

    Args:
        node: Whose weights they are.
        distance: How far they are from this node's.
        own_scale: Root mean square of this node's own weights.
        bounded: False to refuse only what has no distance in float32.

    Raises:
        RejectedWeights: They are too far away (`distance`).
    """
    if not math.isfinite(distance.length) or (bounded and own_scale > 0 and distance.each > UNRELATED * own_scale):
        lengths = distance.each / own_scale if own_scale else math.inf
        raise RejectedWeights(
            f"{node}: its final weights are {lengths:.3g} times as far away as this node's own are long",
            "look at that node: its training has diverged, or it does not send what it has",
            code="distance",
        )


class WeightedAverage:
    """A running float32 average: after each model, `mean += samples / total * (model - mean)`.

    The same models in the same order give the same bits on every node, so the callers add them sorted by
    node. A step never leaves the range between the average and the model, so variances stay >= 0.

    Args:
        size: Elements of the models.
    """

    def __init__(self, size: int) -> None:
        self._mean: Float32Vector = np.zeros(size, np.float32)
        self._total = 0
        self._models = 0

    def add(self, vector: Float32Vector, samples: int) -> None:
        """Take in one model.

        Models without samples count only while no other has any; then all of them count the same.

        Args:
            vector: The model, shape (size,).
            samples: Training samples behind it, 0 or more.

        Raises:
            ValueError: The shape is wrong or the number of samples is negative.
        """
        if vector.shape != self._mean.shape:
            raise ValueError(f"a model of shape {vector.shape} does not fit an average of {self._mean.shape}")
        if samples < 0:
            raise ValueError(f"a model cannot have {samples} samples behind it")
        self._models += 1
        self._total += samples
        if self._total:
            self._move_towards(vector, samples / self._total)
        else:
            self._move_towards(vector, 1.0 / self._models)

    def result(self) -> Float32Vector:
        """The average so far, a new vector of shape (size,).

        Raises:
            ValueError: No model has been added.
        """
        if not self._models:
            raise ValueError("there is no average of no models")
        return self._mean.copy()

    def _move_towards(self, vector: Float32Vector, share: float) -> None:
        if share == 0.0:
            return
        if share == 1.0:
            self._mean[:] = vector
            return
        # What is too far apart for float32 makes an average that is not finite: for the caller to see.
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, vector.size, _PIECE):
                mean = self._mean[start : start + _PIECE]
                mean += np.float32(share) * (vector[start : start + _PIECE] - mean)
