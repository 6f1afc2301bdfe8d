"""What a peer's weights are worth to this node: their loss on a batch of its own, without touching the model."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from p2pdl.puller.inbox import aligned_empty
from p2pdl.training.weights import exchanged, spec_of
from p2pdl.types import Float32Vector

NextBatch = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""Gives the batch of a step, counted from 0."""


class Judgement:
    """Measures losses in inference mode, by one compiled forward pass whose variables are arguments.

    The batch is the one that the node trains on next: neither side has seen it. The model's variables stay where they
    are (Keras' `stateless_call`), so a pass that fails leaves nothing behind. A measurement takes the forward part of a
    step and one pass over the weights; the memory of one more model is taken by the first one.

    Args:
        model: A built Keras model.
        loss: (labels, outputs) -> loss, a scalar or one for each sample.
        batch: The node's batches.
    """

    def __init__(self, model: keras.Model, loss: Callable, batch: NextBatch) -> None:
        self._batch = batch
        self._spec = spec_of(model)
        self._exchanged = exchanged(model)
        # Asking a model for its variables walks through all of its layers.
        self._trained, self._kept = list(model.trainable_variables), list(model.non_trainable_variables)
        self._forward = _compile(model, loss)
        self._candidate: Float32Vector | None = None
        self._tensors: dict[int, tf.Tensor] = {}
        self._prepared: tuple[int, tf.Tensor, tf.Tensor] | None = None

    def own_loss(self, step: int) -> float:
        """The loss of the model as it is.

        Args:
            step: Steps done, which is the number of the next batch.

        Returns:
            The mean over the batch, without regularisation; not finite if the model has diverged.
        """
        return self._loss(step, {})

    def loss_of(self, write: Callable[[Float32Vector], object], step: int) -> float:
        """The loss that the model would have with other weights.

        Args:
            write: Writes them into a vector of the model's layout.
            step: As in `own_loss`.
        """
        if self._candidate is None:
            self._candidate = aligned_empty(self._spec.size)
            self._tensors = {
                # Made once: a tensor over the vector's memory shows whatever has been written there.
                id(variable): tf.experimental.dlpack.from_dlpack(
                    self._candidate[place.span].reshape(place.shape).__dlpack__()
                )
                for place, variable in zip(self._spec.variables, self._exchanged, strict=True)
            }
        write(self._candidate)
        return self._loss(step, self._tensors)

    def _loss(self, step: int, others: dict[int, tf.Tensor]) -> float:
        trained, kept = (
            [tf.cast(others[id(each)], each.dtype) if id(each) in others else _read(each) for each in variables]
            for variables in (self._trained, self._kept)
        )
        if self._prepared is None or self._prepared[0] != step:
            inputs, labels = self._batch(step)
            self._prepared = step, tf.constant(inputs), tf.constant(labels)
        return float(self._forward(trained, kept, *self._prepared[1:]))


def _read(variable: keras.Variable) -> tf.Tensor:
    """A variable's value without a copy; as a tensor, so that both kinds of measurement are one compiled function."""
    return tf.raw_ops.ReadVariableOp(resource=variable.value.handle, dtype=variable.value.dtype)


def _compile(model: keras.Model, loss: Callable) -> Callable:
    @tf.function(autograph=False, reduce_retracing=True)
    def forward(trained: list[tf.Tensor], kept: list[tf.Tensor], inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        outputs, _ = model.stateless_call(trained, kept, inputs, training=False)
        return tf.reduce_mean(loss(labels, outputs))

    return forward
