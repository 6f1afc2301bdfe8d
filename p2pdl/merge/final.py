"""The final merge: an average of whole models weighted by samples, built up one model at a time."""

from __future__ import annotations

import numpy as np

from p2pdl.types import Float32Vector

_PIECE = 1 << 18
"""Elements worked on at a time (1 MiB), which bounds the memory beside the average itself."""


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
        for start in range(0, vector.size, _PIECE):
            mean = self._mean[start : start + _PIECE]
            mean += np.float32(share) * (vector[start : start + _PIECE] - mean)
