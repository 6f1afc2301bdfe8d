"""`python -m p2pdl.node.inspection_process`: started by `inspection`; writes what a configuration comes to."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import numpy as np

from p2pdl.config import Configuration
from p2pdl.errors import P2pdlError
from p2pdl.node.inspection import Inspection
from p2pdl.training.keras_import import load_keras


def main() -> int:
    """Inspect the configuration on standard input; returns the exit code."""
    # What libraries and the user's own functions print must not get between the lines of the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    configuration = Configuration.from_json(sys.stdin.read())
    try:
        answer.write(json.dumps(asdict(_inspect(configuration))))
    except P2pdlError as error:
        answer.write(json.dumps({"error": [type(error).__name__, error.message, error.remedy]}))
    answer.close()
    return 0


def _inspect(configuration: Configuration) -> Inspection:
    # Loads TensorFlow, which takes seconds.
    load_keras()
    from p2pdl.node.training_settings import preparation_settings
    from p2pdl.training import preparation
    from p2pdl.training.batches import Batches
    from p2pdl.training.weights import spec_of

    preparation.use_threads(configuration.train.threads)
    parts = preparation.Preparation(preparation_settings(configuration, configuration.founders[0]))
    sizes = parts.partition_sizes
    samples = {name: sizes[place % len(sizes)] for place, name in enumerate(configuration.founders)}
    train = configuration.train
    nothing = np.empty(0)
    steps = {}
    for place, (name, size) in enumerate(samples.items()):
        # Counts and complains as the node's own batches will; no sample is looked at.
        batches = Batches(nothing, nothing, np.arange(size), train.batch_size, train.seed, place)
        steps[name] = train.steps if train.steps is not None else batches.steps_for(train.passes)
    spec = spec_of(parts.model)
    return Inspection(
        parameters=parts.model.count_params(),
        exchange_nbytes=spec.nbytes,
        dataset_size=parts.dataset_size,
        samples=samples,
        steps=steps,
        spec=spec.digest,
        spec_rows=list(spec.rows()),
    )


if __name__ == "__main__":
    sys.exit(main())
