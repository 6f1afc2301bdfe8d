"""With one worker three times slower than the other three, ADSP comes to an accuracy before those that wait for it.

Claim: on MNIST the server's weights reach a test accuracy of 0.95 under `adsp` within 0.7 of the time of the better of
`bsp` and `ssp` (staleness 3).
Source: Hu, Wang, Wu, "Distributed Machine Learning through Heterogeneous Edge Systems" (2020).
Command: python -m experiments.adsp_straggler           about 16 minutes on two cores

A server and four workers, real processes, with an `mlp` of quarter width. Workers that share two cores have no speeds
of their own, so the failpoint `trainer.step` makes each step of theirs take 80 ms, and 240 ms at the slow one, whatever
it computes; what it exchanges comes on top. Time begins with the first step of the first worker. An observer pulls the
server's weights now and then, as any node could; they are evaluated after the run. The cases take turns, in an order
that is reversed every time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.observed_server import Seen, train_and_look
from experiments.running import data_file, free_ports
from experiments.tables import output, table
from p2pdl.config import Configuration, load
from p2pdl.errors import EXIT_INTERRUPTED, P2pdlError
from p2pdl.node.children import trainer_environment

TARGET = 0.7
ENDLESS = 100_000_000
SLOWER = 3
"""How many times longer a step of the slow worker takes."""

ADSP, BASELINES = "adsp", ("bsp", "ssp")
CASES: dict[str, dict[str, Any]] = {
    "bsp": {"server": {"policy": "bsp"}},
    "ssp": {"server": {"policy": "ssp", "staleness": 3}},
    "asp": {"server": {"policy": "asp"}},
    ADSP: {
        "server": {"policy": "adsp", "check_period": 1.0, "pushes": 4, "search_window": 2.0},
        "compress": {"mask": "none"},
    },
}
"""Settings by title, besides those that all share; `asp` is there to compare, and part of no claim."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to train.

    Attributes:
        data: `digits`, or the name of a file in the folder of the data.
        width: Of the mlp.
        workers: The last of them is the slow one.
        step: Seconds of a step of the others.
        seconds: Training of each run.
        look: Seconds between two looks.
        accuracy: What is to be reached.
        rounds: Runs of each case.
    """

    data: str
    width: float
    workers: int
    step: float
    seconds: float
    look: float
    accuracy: float
    rounds: int


SIZES = {
    "small": Size("mnist.npz", 0.25, 4, 0.08, 75.0, 0.5, 0.95, 2),
    "smoke": Size("digits", 0.1, 2, 0.005, 4.0, 0.2, 0.5, 1),
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
        print(json.dumps({"size": arguments.size, "accuracy": arguments.accuracy, "rows": rows}))
    else:
        show(rows, arguments.accuracy)
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the program where it makes no sense."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="small", choices=SIZES, help="smoke tries it out, and shows nothing")
    parser.add_argument("--cases", default=",".join(CASES), help="with commas between them")
    parser.add_argument("--rounds", type=int, help="runs of each case")
    parser.add_argument("--seconds", type=float, help="of training of each run")
    parser.add_argument("--accuracy", type=float, help="what is to be reached")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of adsp's `server`; JSON")
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    size = SIZES[arguments.size]
    for name in ("rounds", "seconds", "accuracy"):
        if getattr(arguments, name) is None:
            setattr(arguments, name, getattr(size, name))
    arguments.cases = arguments.cases.split(",")
    if unknown := set(arguments.cases) - CASES.keys():
        parser.error(f"there is no case {', '.join(sorted(unknown))}; choose from {', '.join(CASES)}")
    if min(arguments.rounds, arguments.seconds, arguments.accuracy) <= 0:
        parser.error("rounds, seconds and accuracy have to be above zero")
    try:
        pairs = (text.split("=", 1) for text in arguments.set)
        arguments.set = {key: json.loads(value) for key, value in pairs}
    except ValueError:
        parser.error("--set takes KEY=VALUE, such as pushes=4")
    return arguments


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Train with each case in turn; one row for each.

    Raises:
        P2pdlError: A node could not start, or has ended.
    """
    size = SIZES[arguments.size]
    load_before = os.getloadavg()[0]
    runs: dict[str, list[dict[str, Any]]] = {title: [] for title in arguments.cases}
    for number in range(arguments.rounds):
        for title in arguments.cases[:: -1 if number % 2 else 1]:
            print(f"running: {title}, round {number + 1} of {arguments.rounds} ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="p2pdl-straggler-") as folder:
                configuration = configured(title, size, arguments, arguments.seed + number, Path(folder))
                lengths = {name: size.step for name in configuration.founders}
                lengths[configuration.founders[-1]] *= SLOWER
                seen = train_and_look(configuration, lengths, arguments.seconds, size.look, arguments.accuracy)
            runs[title].append(figures(seen, arguments.accuracy))
            print(f"{title}: {said(runs[title][-1])}", file=sys.stderr, flush=True)
    return [row(title, runs[title], load_before) for title in arguments.cases]


def configured(title: str, size: Size, arguments: argparse.Namespace, seed: int, folder: Path) -> Configuration:
    """The configuration of a run."""
    ports = free_ports(size.workers + 1)
    entries = [{"name": "server", "address": f"127.0.0.1:{ports[0]}", "role": "server"}]
    entries += [{"name": f"worker{n}", "address": f"127.0.0.1:{port}"} for n, port in enumerate(ports[1:], start=1)]
    case = CASES[title]
    sections = {
        **case,
        "server": {**case["server"], **(arguments.set if title == ADSP else {})},
        "model": {"name": "mlp", "width": size.width},
        "data": {"source": size.data if size.data == "digits" else f"npz:{data_file(size.data).resolve()}"},
        "train": {"steps": ENDLESS, "batch_size": 64, "threads": 1, "seed": seed},
        "strategy": "parameter-server",
    }
    file = folder / "peers.yaml"
    file.write_text(json.dumps({"cluster": {"name": "straggler"}, "nodes": entries, **sections}))
    return load(file, ())


def figures(seen: Seen, accuracy: float) -> dict[str, Any]:
    """What a run has come to.

    Args:
        seen: What was observed.
        accuracy: To be reached.
    """
    return {
        "seconds": next((look.seconds for look in seen.looks if look.accuracy >= accuracy), None),
        "final_accuracy": seen.looks[-1].accuracy,
        "looks": [(look.seconds, look.version, look.accuracy) for look in seen.looks],
        "steps_per_second": seen.steps_per_second,
        "pushes_per_second": seen.server["pushes"] / seen.looks[-1].seconds,
        "commits_per_period": seen.server.get("policy_commits_per_period"),
    }


def said(run: Mapping[str, Any]) -> str:
    """A run in words."""
    reached = "did not reach it" if run["seconds"] is None else f"reached it after {run['seconds']:.1f} s"
    steps = " ".join(f"{rate:.1f}" for rate in run["steps_per_second"].values())
    commits = "" if run["commits_per_period"] is None else f", {run['commits_per_period']} commits a period at the end"
    return f"{reached}, ended at {run['final_accuracy']:.4f}; steps/s {steps}{commits}"


def row(title: str, runs: Sequence[Mapping[str, Any]], load_before: float) -> dict[str, Any]:
    """A case's figures: the median of its rounds, none if one of them did not reach the accuracy."""
    times = [run["seconds"] for run in runs]
    return {
        "case": title,
        "seconds": None if None in times else statistics.median(times),
        "final_accuracy": statistics.median(run["final_accuracy"] for run in runs),
        "load": load_before,
        "runs": list(runs),
    }


def ratio_of(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The time of ADSP over that of the better of those that wait; None where one of them is missing."""
    times = {row["case"]: row["seconds"] for row in rows}
    waiting = [times[title] for title in BASELINES if times.get(title) is not None]
    if times.get(ADSP) is None or not waiting:
        return None
    return float(times[ADSP] / min(waiting))


def show(rows: Sequence[Mapping[str, Any]], accuracy: float) -> None:
    """The table, and the verdict."""
    made = table("case", f"s to {accuracy:g}", "rounds", "in the end", "steps/s", "pushes/s", left=("case", "rounds"))
    for case in rows:
        last = case["runs"][-1]
        made.add_row(
            case["case"],
            _number(case["seconds"]),
            " ".join(_number(run["seconds"]) for run in case["runs"]),
            f"{case['final_accuracy']:.4f}",
            " ".join(f"{rate:.1f}" for rate in last["steps_per_second"].values()),
            f"{last['pushes_per_second']:.1f}",
        )
    console = output()
    console.print(made)
    ratio = ratio_of(rows)
    verdict = "not known" if ratio is None else f"{ratio:.2f}, {'holds' if ratio <= TARGET else 'does not hold'}"
    console.print(f"adsp over the better of {' and '.join(BASELINES)}, at most {TARGET:g}: {verdict}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    # What TensorFlow must find before it is loaded.
    os.environ.update(trainer_environment(threads=0))
    sys.exit(main())
