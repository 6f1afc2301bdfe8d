"""The server's optimizer: how a scaled update moves the weights, by the formulas of Keras 3's SGD."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from p2pdl.aggregation.contract import State
from p2pdl.aggregation.saved import expect_nothing, saved
from p2pdl.types import Float32Vector, Indices

PIECE = 1 << 14
"""Entries that are scaled and subtracted at one time: they and their products stay in the cache."""


class ServerOptimizer(Protocol):
    """Moves weights against an update.

    Attributes:
        name: The name that a configuration uses.
        learning_rate: The rate; a schedule may set it between updates.
    """

    name: str
    learning_rate: float

    def apply(
        self,
        weights: Float32Vector,
        values: Float32Vector,
        *,
        rate: float = 1.0,
        start: int = 0,
        indices: Indices | None = None,
    ) -> None:
        """Subtract an update, in place.

        Args:
            weights: The server's vector, shape (size,).
            values: The update, shape (count,); not written into.
            rate: By what the update is multiplied besides.
            start: First entry of a dense update.
            indices: Entries of a sparse update, strictly ascending; None for a dense one.
        """
        ...

    def state(self) -> State:
        """What a checkpoint has to hold; the arrays are the optimizer's own."""
        ...

    def restore(self, state: State) -> None:
        """Go on from a state of the same optimizer for a vector of the same size.

        Raises:
            CheckpointMismatch: It is of another one.
        """
        ...


class Sgd:
    """w -= lr * g.

    Args:
        learning_rate: lr, above 0.

    Raises:
        ValueError: The rate is not above 0.
    """

    name = "sgd"

    def __init__(self, learning_rate: float) -> None:
        if not 0.0 < learning_rate < math.inf:
            raise ValueError(f"{self.name} needs a learning rate above 0, not {learning_rate}")
        self.learning_rate = learning_rate

    def apply(
        self,
        weights: Float32Vector,
        values: Float32Vector,
        *,
        rate: float = 1.0,
        start: int = 0,
        indices: Indices | None = None,
    ) -> None:
        """One step over the update's entries."""
        scale = np.float32(self._step * rate)
        if indices is not None:
            weights[indices] -= values * scale
            return
        moving = weights[start : start + values.size]
        for first in range(0, values.size, PIECE):
            piece = slice(first, first + PIECE)
            moving[piece] -= values[piece] * scale

    @property
    def _step(self) -> float:
        """By what an update is multiplied whatever its rate."""
        return self.learning_rate

    def state(self) -> State:
        """Empty."""
        return {}

    def restore(self, state: State) -> None:
        """Check that the state is empty.

        Raises:
            CheckpointMismatch: It is not.
        """
        expect_nothing(state, self.name)


class NoOptimizer(Sgd):
    """w -= g: the updates are changes of the weights already, made by the optimizers of the workers.

    The learning rate is not read.
    """

    name = "none"

    def __init__(self) -> None:
        super().__init__(learning_rate=1.0)

    @property
    def _step(self) -> float:
        return 1.0


class Momentum:
    """v = m * v - lr * g; then w += v, or with nesterov w += m * v - lr * g.

    A sparse update is a gradient that is zero elsewhere: the velocity decays, and moves the weights, at every entry. So
    it costs passes over the whole vector, as a dense one does, however few its entries are. A dense update of a range
    is about that range alone.

    Args:
        size: Entries of the server's vector; the velocity has 4 bytes for each.
        learning_rate: lr, above 0.
        momentum: m, from 0 to below 1.
        nesterov: Which of the two.

    Raises:
        ValueError: A rate or momentum is out of its range.
    """

    name = "momentum"

    def __init__(self, size: int, learning_rate: float, momentum: float = 0.9, nesterov: bool = False) -> None:
        if not 0.0 < learning_rate < math.inf:
            raise ValueError(f"momentum needs a learning rate above 0, not {learning_rate}")
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must be from 0 to below 1, not {momentum}")
        self.learning_rate = learning_rate
        self._momentum = np.float32(momentum)
        self._nesterov = nesterov
        self._velocity: Float32Vector = np.zeros(size, np.float32)

    def apply(
        self,
        weights: Float32Vector,
        values: Float32Vector,
        *,
        rate: float = 1.0,
        start: int = 0,
        indices: Indices | None = None,
    ) -> None:
        """One step over the range of a dense update, over everything for a sparse one."""
        moved = slice(None) if indices is not None else slice(start, start + values.size)
        velocity, moving = self._velocity[moved], weights[moved]
        gradient_place = slice(None) if indices is None else indices
        change = values * np.float32(self.learning_rate * rate)
        velocity *= self._momentum
        velocity[gradient_place] -= change
        if not self._nesterov:
            moving += velocity
            return
        step = velocity * self._momentum
        step[gradient_place] -= change
        moving += step

    def state(self) -> State:
        """The velocity."""
        return {"velocity": self._velocity}

    def restore(self, state: State) -> None:
        """Take the velocity back.

        Raises:
            CheckpointMismatch: There is none of this size.
        """
        self._velocity = saved(state, "velocity", np.float32, self._velocity.shape)
