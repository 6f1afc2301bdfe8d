"""AdaComp's server takes in a hundredth of the bytes of plain asynchronous training, at equal accuracy.

Claim: on MNIST, with the built-in CNN and 20 workers, `adacomp` reaches the test accuracies that dense `asp` reaches
with at most 1/100 of the bytes into the server.
Source: Hardy, Le Merrer, Sericola, "Distributed deep learning on edge-devices: feasibility via adaptive compression"
(2017): about 191 times less ingress traffic, MNIST, a CNN, 20 workers.
Command: python -m experiments.adacomp_ingress          about 20 minutes on two cores

Twenty workers that are processes do not fit on two cores, so here they take turns in one process, with one Keras model:
each has its own pulled weights, batches, residual and link, and the order of their steps is that of workers of about
equal speed, drawn with a seed. All else is what a cluster runs: gradient, sparsifier, coding, messages to bytes and
back, server, pulls. Ingress is all that the server receives after the first weights, the requests of the pulls
included, and the headers. All cases have the same weights to begin with, batches, and order; the learning rate of each
is the better of 0.01 and 0.02 after a third of a pass, without momentum.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.running import data_file
from experiments.tables import output, table
from p2pdl.errors import EXIT_INTERRUPTED, P2pdlError
from p2pdl.node.children import trainer_environment

TARGET = 100.0
DENSE, CLAIMED = "dense", "adacomp 1 %, int8"


@dataclass(frozen=True, slots=True)
class Case:
    """A system.

    Attributes:
        kept: Share of the entries of each variable that is pushed; None for all.
        values: How values are coded.
        rule: The server's update rule.
        learning_rate: Of a push.
    """

    kept: float | None = None
    values: str = "float32"
    rule: str = "adacomp"
    learning_rate: float = 0.02


CASES = {
    DENSE: Case(rule="consgd", learning_rate=0.01),
    "adacomp 1 %": Case(0.01),
    CLAIMED: Case(0.01, "int8"),
    "adacomp 0.5 %, int8": Case(0.005, "int8"),
    "adacomp 0.2 %, int8": Case(0.002, "int8"),
    "1 %, int8, one rate": Case(0.01, "int8", "consgd", 0.01),
}
"""By title; the last one is without the adaptive rates."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to train.

    Attributes:
        data: `digits`, or the name of a file in the folder of the data.
        width: Of the CNN.
        workers: How many.
        batch: Samples of a push.
        passes: Over each worker's part of the data.
        look_every: Pushes between two evaluations.
        samples: Test samples of each.
        accuracies: At which the systems are compared.
    """

    data: str
    width: float
    workers: int
    batch: int
    passes: float
    look_every: int
    samples: int
    accuracies: tuple[float, ...]


SIZES = {
    "small": Size("mnist.npz", 1.0, 20, 16, 1.25, 150, 2500, (0.9, 0.95, 0.97)),
    "smoke": Size("digits", 0.25, 5, 16, 1.0, 30, 300, (0.2, 0.3)),
}


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse(words)
    try:
        rows = measure(arguments)
    except P2pdlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if arguments.json:
        print(json.dumps({"size": arguments.size, "rows": rows}))
    else:
        show(rows)
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the program where it makes no sense."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="small", choices=SIZES, help="smoke tries it out, and shows nothing")
    parser.add_argument("--cases", help="with ; between them")
    parser.add_argument("--passes", type=float, help="over each worker's part of the data")
    parser.add_argument("--learning-rate", type=float, help="of a push, of all cases; else that of each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    arguments.cases = arguments.cases.split(";") if arguments.cases else list(CASES)
    if unknown := set(arguments.cases) - CASES.keys():
        parser.error(f"there is no case {', '.join(sorted(unknown))}; choose from {'; '.join(CASES)}")
    if arguments.passes is None:
        arguments.passes = SIZES[arguments.size].passes
    if arguments.passes <= 0 or (arguments.learning_rate is not None and arguments.learning_rate <= 0):
        parser.error("passes and learning rate have to be above zero")
    return arguments


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Train with each case in turn; one row for each, the dense one's first where it is among them.

    Raises:
        P2pdlError: The data cannot be had, or training has diverged.
    """
    # Here, since it loads TensorFlow.
    from experiments.logical_workers import Crew, Look, Task

    size = SIZES[arguments.size]
    source = size.data if size.data == "digits" else f"npz:{data_file(size.data)}"
    task = Task(source, "cnn", size.width, size.workers, size.batch, arguments.seed)
    pushes = round(arguments.passes * task.samples / size.batch)
    rows: list[dict[str, Any]] = []
    for title in arguments.cases:
        case = CASES[title]
        started = time.monotonic()
        crew = Crew(task, case.kept, case.values, case.rule, arguments.learning_rate or case.learning_rate)
        looks: list[Look] = []
        for look in crew.run(pushes, size.look_every, size.samples):
            looks.append(look)
            said = f"push {look.pushes} of {pushes}, accuracy {look.accuracy:.4f}, {1e-6 * look.ingress:.3f} MB"
            print(f"{title}: {said}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        rows.append(row(title, looks, crew.staleness, time.monotonic() - started, size.accuracies))
    return compared(rows)


def row(
    title: str, looks: Sequence[Any], staleness: float, seconds: float, accuracies: Sequence[float]
) -> dict[str, Any]:
    """A case's figures: bytes by the first look at which each accuracy was reached, none where it was not."""
    reached = {
        f"{wanted:g}": next((look.ingress for look in looks if look.accuracy >= wanted), None) for wanted in accuracies
    }
    return {
        "case": title,
        "accuracy": looks[-1].accuracy,
        "best_accuracy": max(look.accuracy for look in looks),
        "ingress": looks[-1].ingress,
        "bytes_a_push": looks[-1].ingress / looks[-1].pushes,
        "reached": reached,
        "staleness": staleness,
        "seconds": seconds,
        "looks": [asdict(look) for look in looks],
    }


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each with how many times fewer bytes than the dense case's it took: to each accuracy, and in all."""
    dense = next((row for row in rows if row["case"] == DENSE), None)
    for row in rows:
        row["times_fewer"] = {}
        if dense is not None:
            row["times_fewer"] = {
                wanted: dense["reached"][wanted] / nbytes
                for wanted, nbytes in row["reached"].items()
                if nbytes and dense["reached"][wanted]
            }
            row["times_fewer"]["in all"] = dense["ingress"] / row["ingress"]
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The table, and the verdict."""
    accuracies = list(rows[0]["reached"])
    columns = [f"MB to {wanted}" for wanted in accuracies] + [f"fewer to {wanted}" for wanted in accuracies]
    made = table("case", "accuracy", "best", "kB/push", *columns, "in all", "staleness", "s", left=("case",))
    for row in rows:
        nbytes = [_cell(row["reached"][wanted], "{:.3g}", 1e-6) for wanted in accuracies]
        fewer = [_cell(row["times_fewer"].get(wanted), "{:.0f}") for wanted in (*accuracies, "in all")]
        made.add_row(
            row["case"],
            f"{row['accuracy']:.4f}",
            f"{row['best_accuracy']:.4f}",
            f"{1e-3 * row['bytes_a_push']:.4g}",
            *nbytes,
            *fewer,
            f"{row['staleness']:.1f}",
            f"{row['seconds']:.0f}",
        )
    console = output()
    console.print(made)
    claimed = next((row for row in rows if row["case"] == CLAIMED), None)
    if claimed is None or not claimed["times_fewer"]:
        return
    both = {wanted: times for wanted, times in claimed["times_fewer"].items() if wanted != "in all"}
    if both:
        wanted, times = list(both.items())[-1]
        verdict = "holds" if times >= TARGET else "does not hold"
        console.print(f"{CLAIMED}: {times:.0f} times fewer bytes to {wanted}, at least {TARGET:g}: {verdict}")


def _cell(value: float | None, form: str, factor: float = 1.0) -> str:
    return "-" if value is None else form.format(factor * value)


if __name__ == "__main__":
    # What TensorFlow must find before it is loaded.
    os.environ.update(trainer_environment(threads=0))
    sys.exit(main())
