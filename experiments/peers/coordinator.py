"""The coordinator of a `ParameterServerStrategy`: hands steps out to the workers, then evaluates what they have made.

Li et al., "Scaling Distributed Machine Learning with the Parameter Server", 2014, as TensorFlow has it: asynchronous,
variables and optimizer at the server, a worker that is free takes the next steps.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from typing import Any

import tensorflow as tf

from experiments.peers.figures import PARAMETER_SERVER, bytes_per_step, step_seconds, summary
from experiments.peers.forms import FORMS, accuracy, require_finite, steps_of
from experiments.peers.records import batches
from experiments.peers.work import STEPS_PER_CALL, WARM_UP_CALLS, Work


def train(work: Work, form: str) -> dict[str, Any]:
    """Train, with the servers and workers of `TF_CONFIG`.

    Args:
        work: What is trained.
        form: A key of `FORMS`.

    Returns:
        The figures of the run.

    Raises:
        DivergedError: A loss is not finite.
    """
    cluster = tf.train.ClusterSpec(json.loads(os.environ["TF_CONFIG"])["cluster"])
    strategy = tf.distribute.ParameterServerStrategy(
        tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, task_type="chief", task_id=0, rpc_layer="grpc")
    )
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        trained = FORMS[form](work)
    own_number = tf.distribute.coordinator.experimental_get_current_worker_index

    @tf.function
    def call(iterator: tf.data.Iterator) -> tuple[tf.Tensor, ...]:
        return (*steps_of(strategy, trained, iterator), tf.identity(own_number()))

    iterator = iter(coordinator.create_per_worker_dataset(lambda: batches(work, own_number())))

    def done(calls: int) -> list[Any]:
        results = [coordinator.schedule(call, args=(iterator,)) for _ in range(calls)]
        coordinator.join()
        return results

    done(WARM_UP_CALLS * work.workers)
    calls = (work.calls - WARM_UP_CALLS) * work.workers
    started = time.perf_counter()
    results = done(calls)
    took = time.perf_counter() - started
    moments: dict[int, list[float]] = defaultdict(list)
    for number, (loss, ends, worker) in enumerate(coordinator.fetch(results), start=1):
        require_finite(float(loss), number * STEPS_PER_CALL)
        moments[int(worker)] += ends.tolist()
    seconds = step_seconds(moments.values())
    weights = trained.weights()
    nbytes = sum(weight.nbytes for weight in weights)
    return {
        "steps": work.calls * work.workers * STEPS_PER_CALL,
        "steps_per_second": calls * STEPS_PER_CALL / took,
        "seconds_per_step": summary(seconds),
        "step_seconds": seconds,
        "bytes_per_step": bytes_per_step(PARAMETER_SERVER, nbytes, trained.trainable_nbytes, work.workers),
        "accuracy": accuracy(work, weights),
    }
