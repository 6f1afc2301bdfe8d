"""A worker of a `MultiWorkerMirroredStrategy`: all workers do each step together, with the mean of their gradients.

Patarasuk and Yuan, "Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations", 2009: the gradients go
around a ring. A Keras 3 model has to be trained in a loop of one's own: its `fit` does not work under this strategy.
"""

from __future__ import annotations

import time
from typing import Any

import tensorflow as tf

from experiments.peers.figures import MIRRORED, bytes_per_step, step_seconds, summary
from experiments.peers.forms import accuracy, keras_form, require_finite, steps_of
from experiments.peers.records import batches
from experiments.peers.work import STEPS_PER_CALL, WARM_UP_CALLS, Work


def train(work: Work, index: int) -> dict[str, Any]:
    """Train, with the workers of `TF_CONFIG`.

    Args:
        work: What is trained.
        index: This worker's number; worker 0 evaluates.

    Returns:
        The figures of the run, as this worker has seen it.

    Raises:
        DivergedError: A loss is not finite.
    """
    strategy = tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=tf.distribute.experimental.CommunicationOptions(
            implementation=tf.distribute.experimental.CommunicationImplementation.RING
        )
    )
    with strategy.scope():
        trained = keras_form(work)
    iterator = iter(batches(work, index))

    @tf.function
    def call() -> tuple[tf.Tensor, ...]:
        return steps_of(strategy, trained, iterator)

    for _ in range(WARM_UP_CALLS):
        call()
    moments: list[float] = []
    started = time.perf_counter()
    for number in range(WARM_UP_CALLS, work.calls):
        loss, ends = call()
        require_finite(float(loss), (number + 1) * STEPS_PER_CALL)
        moments += ends.numpy().tolist()
    took = time.perf_counter() - started
    seconds = step_seconds([moments])
    figures: dict[str, Any] = {
        "steps": work.calls * work.workers * STEPS_PER_CALL,
        "steps_per_second": (work.calls - WARM_UP_CALLS) * work.workers * STEPS_PER_CALL / took,
        "seconds_per_step": summary(seconds),
        "step_seconds": seconds,
        "bytes_per_step": bytes_per_step(MIRRORED, 0, trained.trainable_nbytes, work.workers),
    }
    weights = trained.weights()
    return figures | ({"accuracy": accuracy(work, weights)} if index == 0 else {})
