"""Gossip for people with a `model.fit` of their own: a Keras callback around the same exchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import keras

from p2pdl.errors import StartupError
from p2pdl.types import JsonObject


class Session(Protocol):
    """A node that takes part in a cluster while somebody else trains its model."""

    def before_step(self) -> None:
        """A step begins now."""
        ...

    def after_step(self, step: int, samples: int, loss: float) -> JsonObject:
        """Exchange what is due; returns figures for Keras' logs."""
        ...

    def before_evaluation(self) -> None:
        """An evaluation begins now."""
        ...

    def after_evaluation(self) -> None:
        """The evaluation has ended."""
        ...

    def finish(self) -> None:
        """All steps are done: final merge, then leave."""
        ...

    def close(self) -> None:
        """Leave at once; does nothing a second time."""
        ...


class GossipCallback(keras.callbacks.Callback):
    """Exchanges weights with the cluster after every batch, and ends with the final merge.

    Steps are counted by the optimizer, so `steps_per_execution` may be anything; the exchange then happens once in
    such a block.

    Args:
        connect: Makes the session of a built model.
    """

    def __init__(self, connect: Callable[[keras.Model], Session]) -> None:
        super().__init__()
        if keras.backend.backend() != "tensorflow":
            raise StartupError(
                f"p2pdl needs Keras on TensorFlow, and this is Keras on {keras.backend.backend()}: other backends do "
                "not keep what a callback writes into the weights",
                "set the environment variable KERAS_BACKEND=tensorflow before Keras is imported",
            )
        self._connect = connect
        self._session: Session | None = None
        self._losses = BatchLosses()
        self._samples = 0
        self._figures: JsonObject = {}

    def on_train_begin(self, logs=None) -> None:
        """Join the cluster."""
        self._leave()
        self._session = self._connect(self.model)
        self._samples = 0

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        """Keras has reset its running means."""
        self._losses = BatchLosses()

    def on_train_batch_begin(self, batch: int, logs=None) -> None:
        """The step begins."""
        if self._session is not None:
            self._session.before_step()

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        """Exchange what is due."""
        if self._session is None:
            return
        loss, samples = self._losses.latest(self.model, logs or {})
        self._samples += samples
        self._figures = self._session.after_step(int(self.model.optimizer.iterations), self._samples, loss)

    def on_test_begin(self, logs=None) -> None:
        """`fit` looks at its validation data."""
        if self._session is not None:
            self._session.before_evaluation()

    def on_test_end(self, logs=None) -> None:
        """`fit` goes on."""
        if self._session is not None:
            self._session.after_evaluation()

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Put the exchange's figures where other callbacks, and the history, find them."""
        if logs is not None:
            logs.update({f"p2pdl/{name}": value for name, value in self._figures.items()})

    def on_train_end(self, logs=None) -> None:
        """Merge for the last time: the model is then the consensus of all nodes."""
        if self._session is not None:
            self._session.finish()
        self._leave()

    def _leave(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class BatchLosses:
    """The loss of each batch, out of the running mean over the epoch that Keras keeps.

    `logs["loss"]` is that mean. Its tracker holds the sum of losses times samples and the number of samples, so the
    difference between two moments is the loss of what came in between.
    """

    def __init__(self) -> None:
        self._total = 0.0
        self._count = 0.0

    def latest(self, model: keras.Model, logs: JsonObject) -> tuple[float, int]:
        """The mean loss since the last call, and over how many samples.

        Raises:
            StartupError: The model reports no loss.
        """
        tracker = next((metric for metric in model.metrics if metric.name == "loss"), None)
        if tracker is None or not hasattr(tracker, "total"):
            raise StartupError(
                "the model has no loss metric to learn the batch's loss from",
                "compile the model with a loss, or report one named 'loss' from your own train_step",
            )
        total, count = float(tracker.total), float(tracker.count)
        loss, samples = (total - self._total) / max(count - self._count, 1e-9), count - self._count
        self._total, self._count = total, count
        return loss, round(samples)
