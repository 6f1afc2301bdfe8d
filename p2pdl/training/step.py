"""The training step as one compiled function."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

Step = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(inputs, labels) -> loss of this batch, regularisation included."""


def compile_step(model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Callable) -> Step:
    """Make the step: forward, backward, update.

    The mask of the gradients is part of the optimizer (`MeanThreshold`), and so part of the compiled function. XLA
    stays as TensorFlow has it: off on CPUs, where it makes a convolutional step several times slower.

    Args:
        model: A built model.
        optimizer: Built here for the model's trainable variables.
        loss: (labels, outputs) -> loss, a scalar or one for each sample.
    """
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            value = tf.reduce_mean(loss(labels, outputs))
            if model.losses:
                value += tf.add_n(model.losses)
            scaled = optimizer.scale_loss(value)
        gradients = tape.gradient(scaled, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return value

    return step
