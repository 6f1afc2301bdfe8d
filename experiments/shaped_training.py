"""What slow links cost the training: step time of four nodes on shaped links, over the same without a limit.

Claim: with `codec: auto` and overlap, a step of a full VGG-19 on links of 300 Mbit/s, and of 50 Mbit/s, takes at most
1.05 of a step on links without a limit, and no node ever waits for another.
Four real nodes train, each in a network namespace of its own, and exchange after every step. Runs without and with a
limit alternate, so that a machine whose speed drifts changes both alike. Steps count while all nodes are training,
without the first ones. The samples are noise: only times are of interest. Needs root.
Command: python -m experiments.shaped_training --mbit 300 50 --steps 30        about 7 minutes on two cores
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.network import ShapedNetwork
from experiments.shaped_cluster import train_once
from experiments.tables import output, table
from experiments.training_figures import WARM_UP_STEPS, node_figures, ratios, step_seconds
from p2pdl.errors import EXIT_INTERRUPTED, P2pdlError, StartupError
from p2pdl.node.local_nodes import cores
from p2pdl.training.recorder import duration

TARGET = 1.05
SAMPLES_A_NODE = 256
LEARNING_RATE = 0.001
"""Low, so that no noise makes a run diverge."""

LINE_SECONDS = 0.05
"""Between two lines of a node's metrics: each step of a large model gets its own."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mbit", type=float, nargs="+", default=[300.0], help="rates of the links, each measured")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--model", default="vgg19", choices=["mlp", "cnn", "vgg19"])
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40, help="of each node in each run")
    parser.add_argument("--codec", default="auto", help="compress.codec of the configuration")
    parser.add_argument("--data", type=Path, help="an .npz file with x_train, y_train, x_test, y_test; else noise")
    parser.add_argument("--repeats", type=int, default=1, help="rounds: one run without a limit, one at each rate")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if min(*arguments.mbit, arguments.width, arguments.batch, arguments.repeats) <= 0 or arguments.nodes < 2:
        parser.error("rates and counts have to be above zero, and nodes at least 2")
    if arguments.steps < WARM_UP_STEPS + 5:
        parser.error(f"at least {WARM_UP_STEPS + 5} steps, of which the first {WARM_UP_STEPS} do not count")
    # As an exception, so that processes and namespaces are removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        figures = measure(arguments)
    except P2pdlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if arguments.json:
        print(json.dumps(figures))
    else:
        show(figures)
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train again and again: in each round once without a limit and once at each rate."""
    load = os.getloadavg()[0]
    runs: list[dict[str, Any]] = []
    total = arguments.repeats * (1 + len(arguments.mbit))
    with tempfile.TemporaryDirectory(prefix="p2pdl-shaped-") as folder, ShapedNetwork(arguments.nodes) as network:
        data = arguments.data.resolve() if arguments.data else write_noise(Path(folder), arguments)
        for number in range(1, arguments.repeats + 1):
            for mbit in (None, *arguments.mbit):
                network.shape(mbit)
                title = f"run {len(runs) + 1} of {total}, {link_text(mbit)}"
                started = time.monotonic()
                left = train_once(network, Path(folder) / f"run{len(runs)}", configured(arguments, data), title)
                taken = {"round": number, "mbit": mbit, "seconds": time.monotonic() - started}
                runs.append({**taken, "nodes": rows_of(left)})
    settings = {name: getattr(arguments, name) for name in ("nodes", "model", "width", "batch", "steps", "codec")}
    return {**settings, "cores": cores(), "load": load, "rates": rates_of(runs), "runs": runs}


def configured(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    """The sections of the configuration."""
    return {
        "model": {"name": arguments.model, "width": arguments.width},
        "data": {"source": f"npz:{data}"},
        "train": {
            "steps": arguments.steps,
            "batch_size": arguments.batch,
            "optimizer": {"learning_rate": LEARNING_RATE},
            "threads": max(1, cores() // arguments.nodes),
        },
        # The final merge belongs to no step, and over slow links it takes a while.
        "gossip": {"exchange_every": 1, "overlap": True, "start_wait": 600, "final_merge": False},
        "compress": {"codec": arguments.codec},
        "metrics": {"interval": LINE_SECONDS, "evaluation_samples": 1},
    }


def write_noise(folder: Path, arguments: argparse.Namespace) -> Path:
    """Random images of CIFAR-10's shape, or of MNIST's for the model that is made for it, with labels."""
    random = np.random.default_rng(0)
    shape = (28, 28, 1) if arguments.model == "mlp" else (32, 32, 3)
    count = SAMPLES_A_NODE * arguments.nodes
    images = random.integers(256, size=(count, *shape), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int32) % 10
    path = folder / "noise.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    return path


def rows_of(left: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]) -> list[dict[str, Any]]:
    """The figures of a run's nodes, out of their lines and summaries.

    Raises:
        StartupError: There are too few steps to say anything.
    """
    seconds = step_seconds({name: lines for name, (lines, _) in left.items()})
    for name, counted in seconds.items():
        if not counted:
            raise StartupError(f"{name} has hardly done a step beside the others", "give the nodes more --steps")
    return [node_figures(seconds[name], lines, summary) for name, (lines, summary) in left.items()]


def rates_of(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each rate the ratios of its step times, and what its nodes have waited in all."""
    return [
        {
            "mbit": mbit,
            "ratio": statistics.median(found),
            "ratios": found,
            "wait_seconds": sum(node["wait_seconds"] for run in runs if run["mbit"] == mbit for node in run["nodes"]),
        }
        for mbit, found in ratios(runs).items()
    ]


def link_text(mbit: float | None) -> str:
    """A rate in words."""
    return "without a limit" if mbit is None else f"{mbit:g} Mbit/s"


def show(figures: dict[str, Any]) -> None:
    """Print the figures: a row for each node of each run, how the nodes have pulled, and the ratios."""
    console = output()
    console.print(
        f"{figures['nodes']} nodes, {figures['model']}, width {figures['width']:g}, batch {figures['batch']}, "
        f"{figures['steps']} steps each, {figures['cores']} cores, load {figures['load']:.1f} before"
    )
    columns = ("median ms", "p90 ms", "merge, publish ms", "wait s", "pulls", "merges", "busy", "failed")
    rows = table("links", "node", *columns, "MB in", "MB a merge", left=("links", "node"))
    for run in figures["runs"]:
        for node in run["nodes"]:
            times = ("median_step_seconds", "p90_step_seconds", "publish_and_merge_seconds_per_step")
            megabytes = node["bytes_received"] / 1e6
            rows.add_row(
                link_text(run["mbit"]),
                node["node"],
                *(f"{1e3 * node[name]:.1f}" for name in times),
                f"{node['wait_seconds']:.2f}",
                *(str(node[name]) for name in ("pulls", "merges", "busy")),
                str(sum(node["failures"].values())),
                f"{megabytes:.1f}",
                f"{megabytes / node['merges']:.2f}" if node["merges"] else "-",
            )
    console.print(rows)
    for run in figures["runs"]:
        console.print(f"{link_text(run['mbit'])}, round {run['round']}, {duration(run['seconds'])} in all:")
        for node in run["nodes"]:
            for peer, link in node["links"].items():
                console.print(
                    f"  {node['node']} from {peer}: {' '.join(link['codecs'])}, now {link['codec']}: {link['reason']}"
                )
    for row in figures["rates"]:
        spread = " ".join(f"{ratio:.3f}" for ratio in row["ratios"])
        verdict = "holds" if row["ratio"] <= TARGET and row["wait_seconds"] == 0 else "does not hold"
        console.print(
            f"{link_text(row['mbit'])}: {row['ratio']:.3f} of a step without a limit ({spread}), waits "
            f"{row['wait_seconds']:g} s; at most {TARGET} and 0 s: {verdict}"
        )


if __name__ == "__main__":
    sys.exit(main())
