"""A node without anybody to exchange with trains about as fast as one that was never meant to exchange.

Claim: a node whose four peers are all dead, and a node that is alone in its file, do at least 0.97 of the steps per
second of `strategy: single` with the same settings.
Source: the promises of this project, `docs/reliability.md`.
Command: python -m experiments.alone                    about 8 minutes on two cores

All three nodes are started, and stopped by SIGSTOP; then each in turn goes on for some seconds, in an order that is
reversed every time. So whatever else the machine does falls upon all three alike, and each round gives a ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.running import free_ports
from experiments.shaped_training import LEARNING_RATE, write_noise
from experiments.tables import output, table
from experiments.training_figures import read_lines
from p2pdl.errors import EXIT_INTERRUPTED, P2pdlError, ProcessDied
from tools.storm.cluster import StormCluster, StormNode

TARGET = 0.97

SINGLE, ALONE, DEAD = "single", "alone in its file", "four dead peers"

START_SECONDS = 300.0
"""How long three nodes may take to load TensorFlow and to do their first steps."""

WARM_UP_STEPS = 10

SETTLE_SECONDS = 0.5
"""After a node goes on, what is not counted: its memory comes back into the caches."""

LINE_SECONDS = 0.1
PROCESSES = ("supervisor", "server", "trainer")

ENDLESS = 100_000_000


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained.

    Attributes:
        name: A built-in model.
        width: Factor on its width.
        batch: Samples of a step.
    """

    name: str
    width: float
    batch: int


MODELS = {"mlp": Model("mlp", 1.0, 64), "vgg19-quarter": Model("vgg19", 0.25, 32)}


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse(words)
    try:
        rows = [row for name in arguments.models.split(",") for row in measure(name, arguments)]
    except P2pdlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if arguments.json:
        print(json.dumps({"rounds": arguments.rounds, "block_seconds": arguments.block, "rows": rows}))
    else:
        show(rows)
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the program where it makes no sense."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", default=",".join(MODELS), help="with commas between them")
    parser.add_argument("--rounds", type=int, default=15, help="how often each node has its turn")
    parser.add_argument("--block", type=float, default=4.0, help="seconds of a turn")
    parser.add_argument("--quick", action="store_true", help="two short rounds of the mlp: tries it out, shows nothing")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    if arguments.quick:
        arguments.models, arguments.rounds, arguments.block = "mlp", 2, 2.0
    if unknown := set(arguments.models.split(",")) - MODELS.keys():
        parser.error(f"there is no model {', '.join(sorted(unknown))}; choose from {', '.join(MODELS)}")
    if arguments.rounds < 1 or arguments.block < 2 * SETTLE_SECONDS:
        parser.error(f"at least one round, and blocks of {2 * SETTLE_SECONDS:g} s")
    return arguments


def measure(name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Let the three nodes train in turn; one row for each.

    Raises:
        ProcessDied: A node has ended, or has done no steps.
    """
    model, load = MODELS[name], os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pdl-alone-")))
        data = write_noise(folder, argparse.Namespace(model=model.name, nodes=1))
        nodes = {}
        for case in (SINGLE, ALONE, DEAD):
            print(f"starting: {name}, {case} ...", file=sys.stderr, flush=True)
            dead = [
                {"name": f"dead{number}", "address": f"127.0.0.1:{port}"} for number, port in enumerate(free_ports(4))
            ]
            others = dead if case == DEAD else []
            cluster = StormCluster(folder / case, ["node1"], sections(model, case, data), others=others)
            nodes[case] = stack.enter_context(cluster).nodes["node1"]
            nodes[case].start()
            wait_for_steps(nodes[case])
            send(nodes[case], signal.SIGSTOP)
        rates: dict[str, list[float]] = {case: [] for case in nodes}
        for number in range(arguments.rounds):
            for case in list(nodes)[:: 1 if number % 2 else -1]:
                rates[case].append(steps_per_second(nodes[case], arguments.block))
            print(f"{name}: round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
    return [figures(name, case, rates[case], rates[SINGLE], load) for case in rates]


def sections(model: Model, case: str, data: Path) -> dict[str, Any]:
    """The configuration but for its nodes; the data are split as for one node, so that all train on the same."""
    return {
        "model": {"name": model.name, "width": model.width},
        "data": {"source": f"npz:{data}", "partition": "all"},
        "train": {
            "steps": ENDLESS,
            "batch_size": model.batch,
            "optimizer": {"learning_rate": LEARNING_RATE},
        },
        "strategy": "single" if case == SINGLE else "gossip",
        "metrics": {"interval": LINE_SECONDS},
    }


def wait_for_steps(node: StormNode) -> None:
    """Wait until a node has done its first steps.

    Raises:
        ProcessDied: It has ended, or takes too long.
    """
    give_up_at = time.monotonic() + START_SECONDS
    while not any(line["step"] >= WARM_UP_STEPS for line in read_lines(node.folder / "metrics.jsonl")):
        if node.supervisor is None or time.monotonic() > give_up_at:
            raise ProcessDied(f"the node has done no steps; it said:\n{node.last_words()}")
        time.sleep(0.1)


def send(node: StormNode, number: signal.Signals) -> None:
    """Send a signal to all processes of a node.

    Raises:
        ProcessDied: It has none.
    """
    if not node.signal("supervisor", number):
        raise ProcessDied(f"the node has ended; it said:\n{node.last_words()}")
    for role in PROCESSES[1:]:
        node.signal(role, number)


def steps_per_second(node: StormNode, seconds: float) -> float:
    """Let a node that is stopped go on for so long; the steps that it does in a second."""
    send(node, signal.SIGCONT)
    began = time.time()
    time.sleep(seconds)
    send(node, signal.SIGSTOP)
    return rate(read_lines(node.folder / "metrics.jsonl"), began + SETTLE_SECONDS)


def rate(lines: Sequence[Mapping[str, Any]], since: float) -> float:
    """Steps per second from the first line on that was written after a moment.

    Args:
        lines: Of `metrics.jsonl`.
        since: Seconds since 1970.

    Raises:
        ProcessDied: There are fewer than two lines.
    """
    counted = [line for line in lines if line["time"] >= since]
    if len(counted) < 2:
        raise ProcessDied("a node has hardly done a step in its turn", "give it more time with --block")
    first, last = counted[0], counted[-1]
    return float((last["step"] - first["step"]) / (last["time"] - first["time"]))


def figures(model: str, case: str, rates: Sequence[float], single: Sequence[float], load: float) -> dict[str, Any]:
    """One node's row: its rate, and that over the rate of the single node in the same round."""
    ratios = [ours / theirs for ours, theirs in zip(rates, single, strict=True)]
    return {
        "model": model,
        "case": case,
        "steps_per_second": statistics.median(rates),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "load": load,
    }


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table."""
    made = table("model", "node", "steps/s", "ratio", "from", "to", "load", "", left=("model", "node", ""))
    for row in rows:
        verdict = "" if row["case"] == SINGLE else "holds" if row["ratio"] >= TARGET else "does not hold"
        ratios = (row["ratio"], min(row["ratios"]), max(row["ratios"]))
        figures_of = [f"{row['steps_per_second']:.1f}", *(f"{ratio:.3f}" for ratio in ratios), f"{row['load']:.1f}"]
        made.add_row(row["model"], row["case"], *figures_of, verdict)
    console = output()
    console.print(made)
    console.print(
        f"Ratios are medians over the rounds, each against `strategy: single` in the same one; target {TARGET}."
    )


if __name__ == "__main__":
    sys.exit(main())
