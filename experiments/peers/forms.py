"""A training step in the forms in which users of `tf.distribute` write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from experiments.peers.records import read_test
from experiments.peers.work import STEPS_PER_CALL, Work
from p2pdl.training.divergence import diverged
from p2pdl.training.evaluate import evaluate
from p2pdl.training.losses import resolve
from p2pdl.training.models.mlp import LAYERS, UNITS
from p2pdl.training.models.registry import build
from p2pdl.training.models.units import scaled


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that a strategy's variables hold.

    Attributes:
        step: (inputs, labels) -> loss; does one step of one worker.
        weights: Reads all weights, in the order of the Keras model's.
        trainable_nbytes: Bytes of those that have a gradient.
    """

    step: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    weights: Callable[[], list[np.ndarray]]
    trainable_nbytes: int


def keras_form(work: Work) -> Trained:
    """A Keras model, and its optimizer; to be called in the strategy's scope."""
    model = _model(work)
    optimizer = keras.optimizers.SGD(work.learning_rate, momentum=work.momentum)
    optimizer.build(model.trainable_variables)
    loss_of = resolve("auto", model)

    def step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            # Where workers act together, Keras divides this by their number and sums the gradients: once is enough.
            loss = loss_of(labels, model(inputs, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return Trained(step, model.get_weights, 4 * sum(prod(it.shape) for it in model.trainable_variables))


def module_form(work: Work) -> Trained:
    """The `mlp` over plain variables: a worker reads each once, and the update is one operation at the server."""
    tf.random.set_seed(work.seed)
    weights = []
    units = [prod(work.input_shape), *LAYERS * [scaled(UNITS, work.width)], work.classes]
    for before, after in zip(units, units[1:], strict=False):
        limit = (6 / (before + after)) ** 0.5
        weights.append(tf.Variable(tf.random.uniform((before, after), -limit, limit)))
        weights.append(tf.Variable(tf.zeros(after)))
    velocities = [tf.Variable(tf.zeros_like(weight), trainable=False) for weight in weights]

    def step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            read = [tf.convert_to_tensor(weight) for weight in weights]
            tape.watch(read)
            values = tf.reshape(inputs, (work.batch, units[0]))
            for number in range(0, len(read), 2):
                values = (tf.nn.relu(values) if number else values) @ read[number] + read[number + 1]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=values))
        gradients = tape.gradient(loss, read)
        for weight, velocity, gradient in zip(weights, velocities, gradients, strict=True):
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=weight.handle, accum=velocity.handle, lr=work.learning_rate, grad=gradient, momentum=work.momentum
            )
        return loss

    return Trained(step, lambda: [weight.numpy() for weight in weights], 4 * sum(prod(it.shape) for it in weights))


FORMS: dict[str, Callable[[Work], Trained]] = {"keras": keras_form, "module": module_form}


def steps_of(strategy: tf.distribute.Strategy, trained: Trained, iterator: tf.data.Iterator) -> tuple[tf.Tensor, ...]:
    """Do `STEPS_PER_CALL` steps of one worker; to be traced.

    Returns:
        The last loss, and when each step had its loss, float64 seconds, (STEPS_PER_CALL,).
    """
    moments = []
    for _ in range(STEPS_PER_CALL):
        loss = strategy.run(trained.step, args=next(iterator))
        with tf.control_dependencies([loss]):
            moments.append(tf.timestamp())
    return loss, tf.stack(moments)


def require_finite(loss: float, step: int) -> None:
    """Stop where a loss is none.

    Raises:
        DivergedError: It is not finite.
    """
    if not np.isfinite(loss):
        raise diverged(step, loss)


def accuracy(work: Work, weights: list[np.ndarray]) -> float:
    """Accuracy of a model with these weights on the whole test set, 0 to 1; computed in this process alone."""
    model = _model(work)
    model.set_weights(weights)
    x, y = read_test(Path(work.folder))
    return evaluate(model, x, y, resolve("auto", model), len(x)).accuracy


def _model(work: Work) -> keras.Model:
    return build(work.model, input_shape=work.input_shape, classes=work.classes, width=work.width, seed=work.seed)
