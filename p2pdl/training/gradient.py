"""The step of a worker whose optimizer is at the parameter server: forward and backward, and no update."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from p2pdl.training.weights import exchanged, spec_of


class GradientStep:
    """Computes the gradient of a batch into a flat vector, where a step would move the weights.

    Args:
        model: A built model.
        loss: (labels, outputs) -> loss, a scalar or one for each sample.

    Attributes:
        vector: The gradient of the last batch, float32, laid out as `spec_of(model)`; zero for what is not trained.
        share: What the gradient is multiplied by. With SGD and its momentum, in Keras' formulas, that is the same as to
            multiply the learning rate, which the server keeps.
    """

    def __init__(self, model: keras.Model, loss: Callable) -> None:
        spec = spec_of(model)
        self.vector = np.zeros(spec.size, np.float32)
        self.share = 1.0
        places = {id(variable): place.span for place, variable in zip(spec.variables, exchanged(model), strict=True)}
        self._spans = [places[id(variable)] for variable in model.trainable_variables]
        self._compiled = _compile(model, loss)

    def __call__(self, inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The loss of the batch, regularisation included."""
        value, gradients = self._compiled(inputs, labels)
        for span, gradient in zip(self._spans, gradients, strict=True):
            # `numpy()` would be a copy.
            values = np.asarray(memoryview(gradient)).reshape(-1)
            np.multiply(values, np.float32(self.share), out=self.vector[span])
        return value


def _compile(model: keras.Model, loss: Callable) -> Callable:
    @tf.function(autograph=False, reduce_retracing=True)
    def step(inputs: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            value = tf.reduce_mean(loss(labels, outputs))
            if model.losses:
                value += tf.add_n(model.losses)
        gradients = tape.gradient(value, model.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return value, [tf.cast(tf.convert_to_tensor(gradient), tf.float32) for gradient in gradients]

    return step
