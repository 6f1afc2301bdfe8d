"""TensorFlow's own strategies on the same model, data and batch: how fast they are, and how good what they train.

`ParameterServerStrategy` is asynchronous, with a coordinator and one server; `MultiWorkerMirroredStrategy` is
synchronous, in a ring. See the documentation of `tf.distribute`; Keras 3 models in custom loops. What is claimed of
them is in `experiments/tensorflow_strategies.py`; this is to try others of their settings:

    python -m experiments.peers --data mnist --passes 3          about 3 minutes on two cores

Each worker trains on an iid part of its own, the one that p2pdl's nodes have, in a new order in every pass. Under the
parameter server a worker that is free takes the next steps, so that a faster one makes more passes over its part. SGD
with momentum is at the server, or at all workers alike after the mean of their gradients. Ten steps are handed out at a
time. The first twenty steps of each worker train, but count for no time. `MB a step` is what one worker's step moves at
least, by arithmetic.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from experiments.harness import data
from experiments.peers import clusters, records
from experiments.peers.figures import MIRRORED, PARAMETER_SERVER
from experiments.peers.work import STEPS_PER_CALL, WARM_UP_CALLS, Work
from experiments.tables import output, table
from p2pdl.errors import EXIT_INTERRUPTED, P2pdlError, StartupError
from p2pdl.node.local_nodes import cores

STRATEGIES = (PARAMETER_SERVER, MIRRORED)
LEARNING_RATE, MOMENTUM = 0.05, 0.9
SMOKE = {"data": "digits", "workers": 2, "batch": 32, "passes": 20.0, "model": "mlp", "width": 0.25}
"""Small enough for a test, of data that are part of scikit-learn."""


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse(words)
    # As an exception, so that the children are ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        rows = [row for _ in range(arguments.repeats) for row in measure(arguments)]
    except P2pdlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    settings = {name: value for name, value in vars(arguments).items() if name != "json"}
    if arguments.json:
        print(json.dumps({**settings, "cores": cores(), "rows": rows}))
    else:
        show(settings, rows)
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the program where it makes no sense."""
    parser = argparse.ArgumentParser(prog="experiments.peers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--strategy", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--form", choices=("keras", "module"), default="keras", help="of the parameter server's step")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--data", default="mnist", help="mnist or cifar10 of P2PDL_DATA, digits, or npz:PATH")
    parser.add_argument("--model", choices=("mlp", "cnn", "vgg19"), default="mlp")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the model's width")
    parser.add_argument("--batch", type=int, default=64, help="samples of a step of one worker")
    parser.add_argument("--passes", type=float, default=1.0, help="over all training samples, of all workers together")
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=LEARNING_RATE,
        help="of a step of all workers; the parameter server divides it among them, as p2pdl's does",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1, help="rounds, each with every strategy")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds that one strategy may take")
    parser.add_argument("--size", choices=("full", "smoke"), default="full", help="smoke: small, whatever else is said")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    if arguments.size == "smoke":
        vars(arguments).update(SMOKE)
    numbers = ("workers", "width", "batch", "passes", "learning_rate", "repeats", "limit")
    if any(not getattr(arguments, name) > 0 for name in numbers) or arguments.seed < 0:
        parser.error("numbers have to be above zero")
    if arguments.workers < 2 and MIRRORED in arguments.strategy:
        parser.error("a ring needs at least 2 workers")
    if arguments.form == "module" and arguments.model != "mlp":
        parser.error("the form module is there for the model mlp only")
    return arguments


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each strategy.

    Raises:
        DataUnavailable: The data cannot be loaded.
        StartupError: There is too little to train on.
        ProcessDied: A strategy's task has failed.
    """
    from p2pdl.training.data.registry import load

    if why := data.missing(arguments.data):
        raise StartupError(why, "or train on others, with --data digits")
    dataset = load(data.source(arguments.data, Path.cwd()), Path.cwd())
    rows = []
    with tempfile.TemporaryDirectory(prefix="p2pdl-peers-") as folder:
        samples = records.write(dataset, Path(folder), arguments.workers, arguments.seed)
        steps = ceil(arguments.passes * len(dataset.y_train) / arguments.workers / arguments.batch)
        if steps < (least := (WARM_UP_CALLS + 1) * STEPS_PER_CALL):
            raise StartupError(
                f"{arguments.passes:g} passes are {steps} steps of each worker, fewer than the {least} that are needed",
                "give it more with --passes, or a smaller --batch",
            )
        for strategy in arguments.strategy:
            print(f"running: {strategy} ...", file=sys.stderr, flush=True)
            load_before = os.getloadavg()[0]
            rate = arguments.learning_rate / (arguments.workers if strategy == PARAMETER_SERVER else 1)
            work = Work(
                folder=folder,
                model=arguments.model,
                width=arguments.width,
                input_shape=dataset.input_shape,
                dtype=dataset.x_train.dtype.name,
                classes=dataset.classes,
                samples=samples,
                workers=arguments.workers,
                batch=arguments.batch,
                steps=steps,
                learning_rate=rate,
                momentum=MOMENTUM,
                seed=arguments.seed,
            )
            found = clusters.train(strategy, work, Path(folder), arguments.limit, arguments.form)
            del found["step_seconds"]
            rows.append({"strategy": strategy, "load": load_before, **found})
    return rows


def show(settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """The table."""
    columns = ("steps", "steps/s", "ms a step", "p90", "MB a step", "accuracy", "load")
    made = table("strategy", *columns, left=("strategy",))
    for row in rows:
        seconds = row["seconds_per_step"]
        made.add_row(
            row["strategy"],
            f"{row['steps']}",
            f"{row['steps_per_second']:.1f}",
            f"{1000 * seconds['median']:.1f}",
            f"{1000 * seconds['p90']:.1f}",
            f"{1e-6 * row['bytes_per_step']:.2f}",
            f"{row['accuracy']:.4f}",
            f"{row['load']:.1f}",
        )
    console = output()
    what = f"{settings['data']}, {settings['model']}, {settings['workers']} workers, batch {settings['batch']}"
    console.print(f"{what}, {cores()} cores; steps and steps/s are those of all workers together", made)


if __name__ == "__main__":
    sys.exit(main())
