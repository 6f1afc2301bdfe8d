"""Loss and accuracy of a model on held-out samples, by one compiled function per model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary, ref

import keras
import numpy as np
import tensorflow as tf

from p2pdl.training.data.dataset import UINT8_SCALE
from p2pdl.training.losses import ends_in_probabilities

BATCH_SIZE = 128


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model is worth on so many samples.

    Attributes:
        loss: Mean over the samples; not finite if the model has diverged.
        accuracy: Share of samples whose likeliest class is their label, 0 to 1.
        samples: Number of samples.
    """

    loss: float
    accuracy: float
    samples: int


_Sums = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

_compiled: WeakKeyDictionary[keras.Model, tuple[keras.losses.Loss, _Sums]] = WeakKeyDictionary()


def evaluate(model: keras.Model, x: np.ndarray, y: np.ndarray, loss: keras.losses.Loss, limit: int) -> Evaluation:
    """Evaluate in inference mode, without a break; arguments as for `evaluate_in_batches`.

    Returns:
        The means over the samples taken.
    """
    *_, whole = evaluate_in_batches(model, x, y, loss, limit)
    return whole


def evaluate_in_batches(
    model: keras.Model, x: np.ndarray, y: np.ndarray, loss: keras.losses.Loss, limit: int
) -> Iterator[Evaluation]:
    """Evaluate in inference mode, batch by batch.

    Of more than `limit` samples, `limit` evenly spaced ones are taken, always the same.

    Args:
        model: The model.
        x: Samples, (n, *input_shape), uint8 or float32.
        y: Labels, (n,), int32.
        loss: The loss that the model is trained with, its mean over the batch (`losses.resolve`).
        limit: Greatest number of samples.

    Yields:
        The means over the samples so far, after each batch; the last ones are those over all samples taken.
    """
    chosen = np.arange(min(limit, len(x))) * len(x) // min(limit, len(x))
    sums = _sums_of(model, loss)
    total_loss, total_correct = 0.0, 0.0
    for start in range(0, len(chosen), BATCH_SIZE):
        rows = chosen[start : start + BATCH_SIZE]
        counted = np.zeros(BATCH_SIZE, np.float32)
        counted[: len(rows)] = 1
        # The last batch is filled up with its first sample, so that every batch has the one compiled shape.
        rows = np.concatenate([rows, np.full(BATCH_SIZE - len(rows), rows[0])])
        batch_loss, batch_correct = sums(tf.constant(x[rows]), tf.constant(y[rows]), tf.constant(counted))
        total_loss += float(batch_loss)
        total_correct += float(batch_correct)
        count = min(start + BATCH_SIZE, len(chosen))
        yield Evaluation(total_loss / count, total_correct / count, count)


def _sums_of(model: keras.Model, loss: keras.losses.Loss) -> _Sums:
    """The compiled function for this model and loss: made once, dropped with the model."""
    known = _compiled.get(model)
    if known is None or known[0] is not loss:
        known = (loss, _compile(model, loss))
        _compiled[model] = known
    return known[1]


def _compile(model: keras.Model, loss: keras.losses.Loss) -> _Sums:
    # Strong references would keep the model alive for as long as its own entry in the table.
    reference = ref(model)
    middle = 0.5 if ends_in_probabilities(model) else 0.0

    @tf.function
    def sums(x: tf.Tensor, y: tf.Tensor, counted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values = tf.cast(x, tf.float32) * UINT8_SCALE if x.dtype == tf.uint8 else x
        outputs = tf.cast(reference()(values, training=False), tf.float32)
        # Keras divides the weighted sum by the size of the batch, not by the sum of the weights.
        loss_sum = BATCH_SIZE * loss(y, outputs, sample_weight=counted)
        if outputs.shape[-1] == 1:
            guesses = tf.cast(outputs[:, 0] > middle, y.dtype)
        else:
            guesses = tf.argmax(outputs, axis=-1, output_type=y.dtype)
        correct = tf.cast(guesses == y, tf.float32)
        return loss_sum, tf.reduce_sum(correct * counted)

    return sums
