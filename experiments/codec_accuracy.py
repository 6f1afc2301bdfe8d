"""What fewer bytes cost in accuracy: the consensus of four nodes, and the bytes they received, for each codec.

Claim: on MNIST, with an exchange after every step, the best codec takes the consensus to an accuracy of 0.97 with 1/20
of the bytes of `float32`, and ends within 0.3 points of it. On CIFAR-10, with a VGG-19 of quarter width, `int8` and
deltas end within 1 point of `float32` at 1/4 and 1/15 of the bytes.
Source: Koloskova, Stich, Jaggi, "Decentralized Stochastic Optimization and Gossip Algorithms with Compressed
Communication" (2019), section 5, in small.
All codecs start from the same weights and see the same batches and neighbours, in one process and in lock-step, so that
a run can be repeated bit for bit. With --real the nodes are processes of `p2pdl up`, of whose consensus only the end is
known. With --out results are kept, and what is there is not done again.
Command: python -m experiments.codec_accuracy --data mnist --out runs/mnist             about 12 minutes on two cores
         python -m experiments.codec_accuracy --data cifar10 --model vgg19 --width 0.25 --batch 32 --steps 1500
         --learning-rate 0.01 --look-every 250 --codecs float32,int8,top-k:0.05:int8 --out runs/cifar10
                                                                                        about 30 minutes on two cores
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.codec_results import compared, keep, kept, show
from experiments.running import data_file, run_case
from p2pdl.codec import is_stateless
from p2pdl.codec.delta_settings import DeltaSettings
from p2pdl.codec.ends import shard_nbytes
from p2pdl.config import Configuration, load
from p2pdl.errors import EXIT_INTERRUPTED, P2pdlError
from p2pdl.node.children import trainer_environment
from p2pdl.node.inspection import inspect
from p2pdl.training.recorder import duration

CODECS = "float32,int8,top-k:0.05:int8,top-k:0.01:int8,mean-threshold:int8"
SETTINGS = (
    *("data", "nodes", "partition", "model", "width", "batch", "passes", "steps", "learning_rate", "mask"),
    *("topology", "merge", "exchange_every", "look_every", "samples", "seed", "real"),
)
"""The arguments that a result depends on."""

Result = dict[str, Any]


def main(words: list[str] | None = None) -> int:
    arguments = parse(words)
    try:
        results = run(arguments)
    except P2pdlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    rows = compared(results, arguments.target)
    if arguments.out:
        (arguments.out / "compared.json").write_text(json.dumps(rows, indent=2) + "\n")
    if arguments.json:
        print(json.dumps({"target": arguments.target, "settings": settings_of(arguments), "results": rows}))
    else:
        show(rows, settings_of(arguments), arguments.target)
    return 0


def parse(words: list[str] | None) -> argparse.Namespace:
    """The command line; ends the program where it makes no sense."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="mnist", choices=["digits", "mnist", "cifar10"])
    parser.add_argument("--path", type=Path, help="the data's .npz file; else DATA.npz in the folder P2PDL_DATA")
    parser.add_argument("--codecs", default=CODECS, help="names as on the wire, with commas between them")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--partition", default="iid", choices=["iid", "dirichlet", "by-class"])
    parser.add_argument("--model", default="mlp", choices=["mlp", "cnn", "vgg19"])
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--passes", type=float, default=6.0, help="over each node's own part of the data")
    parser.add_argument("--steps", type=int, help="of each node, in place of --passes")
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--mask", default="magnitude", choices=["magnitude", "signed", "none"])
    parser.add_argument("--topology", default="random", choices=["random", "ring", "exponential"])
    parser.add_argument("--merge", default="contribution", choices=["contribution", "mean"])
    parser.add_argument("--exchange-every", type=int, default=1, help="steps from one pull to the next")
    parser.add_argument("--target", type=float, default=0.97, help="consensus accuracy to reach")
    parser.add_argument("--look-every", type=int, default=50, help="steps between two evaluations of the consensus")
    parser.add_argument("--samples", type=int, default=10000, help="test samples of an evaluation, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="processes of `p2pdl up` in place of a simulated network")
    parser.add_argument("--out", type=Path, help="folder to keep each codec's result in")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    arguments.codecs = arguments.codecs.split(",")
    for codec in arguments.codecs:
        try:
            shard_nbytes(codec)
        except ValueError as error:
            parser.error(str(error))
    if min(arguments.batch, arguments.exchange_every, arguments.look_every, arguments.nodes - 1) < 1:
        parser.error("counts have to be at least 1, and nodes at least 2")
    if arguments.path is None and arguments.data != "digits":
        arguments.path = data_file(f"{arguments.data}.npz")
    return arguments


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a result depends on, but for the codec and the data's place."""
    return {name: getattr(arguments, name) for name in SETTINGS}


def run(arguments: argparse.Namespace) -> list[Result]:
    """Train with every codec, in turn; what is kept already is only read."""
    settings = settings_of(arguments)
    found = {codec: kept(arguments.out, codec, settings) if arguments.out else None for codec in arguments.codecs}
    train: Callable[[str], Result] | None = None
    results = []
    for codec, result in found.items():
        if result is None:
            train = train or (processes(arguments) if arguments.real else lock_step(arguments))
            started = time.monotonic()
            made = train(codec)
            result = {"codec": codec, "settings": settings, "seconds": time.monotonic() - started, **made}
            if arguments.out:
                keep(arguments.out, result)
        else:
            print(f"{codec}: kept in {arguments.out}", file=sys.stderr)
        results.append(result)
    return results


def lock_step(arguments: argparse.Namespace) -> Callable[[str], Result]:
    """Prepare the models of all nodes in this process; returns what trains them with a codec."""
    # Here, since they load TensorFlow, which processes of real nodes do for themselves.
    from experiments.lockstep import LocalModel, LockStep
    from p2pdl.node.training_run import preparation_settings
    from p2pdl.training.preparation import Preparation

    with tempfile.TemporaryDirectory() as folder:
        configuration = configured(arguments, Path(folder))
    parts = [Preparation(preparation_settings(configuration, name)) for name in configuration.names]
    models = [LocalModel(part) for part in parts]
    steps = min(part.steps for part in parts)

    def train(codec: str) -> Result:
        a = arguments
        run = LockStep(models, codec, steps, a.exchange_every, a.topology, a.merge, a.seed)
        looks = []
        started = time.monotonic()
        for look in run.run(a.look_every, a.samples):
            looks.append(look)
            left = (time.monotonic() - started) / look.step * (steps - look.step)
            place = f"{codec}: step {look.step} of {steps}, consensus {look.accuracy:.4f}"
            print(f"{place}, {look.nbytes / 1e6:.2f} MB a node, {duration(left)} left", file=sys.stderr, flush=True)
        nodes = run.cluster.nodes.values()
        return {
            "looks": [asdict(look) for look in looks],
            "consensus_accuracy": looks[-1].accuracy,
            "node_accuracies": run.accuracies(a.samples),
            "nbytes": looks[-1].nbytes,
            "final_merge_nbytes": (len(models) - 1) * models[0].spec.nbytes,
            "merges": [node.merges for node in nodes],
            "failures": [dict(node.failures) for node in nodes],
        }

    return train


def processes(arguments: argparse.Namespace) -> Callable[[str], Result]:
    """Look at the model; returns what trains real nodes with a codec."""
    with tempfile.TemporaryDirectory() as folder:
        model_nbytes = inspect(configured(arguments, Path(folder))).exchange_nbytes

    def train(codec: str) -> Result:
        summary = run_case(codec, arguments.nodes, {**sections(arguments), "compress": compress(arguments, codec)})
        nodes = sorted(summary["nodes"], key=lambda node: str(node["node"]))
        merged = [(len(node["final_merge"]["nodes"]) - 1) * model_nbytes for node in nodes]
        received = [node["bytes_received"] - final for node, final in zip(nodes, merged, strict=True)]
        return {
            "looks": [],
            "consensus_accuracy": summary["consensus"]["test_accuracy"],
            "node_accuracies": [node["before_final_merge"]["test_accuracy"] for node in nodes],
            "nbytes": sum(received) / len(nodes),
            "final_merge_nbytes": max(merged),
            "merges": [node["merges"] for node in nodes],
            "failures": [node["exchange_failures"] for node in nodes],
        }

    return train


def sections(arguments: argparse.Namespace) -> dict[str, Any]:
    """The sections of the configuration that are the same for every codec."""
    length = {"passes": arguments.passes} if arguments.steps is None else {"steps": arguments.steps}
    return {
        "model": {"name": arguments.model, "width": arguments.width},
        "data": {
            "source": f"npz:{arguments.path.resolve()}" if arguments.path else arguments.data,
            "partition": arguments.partition,
        },
        "train": {
            **length,
            "batch_size": arguments.batch,
            "optimizer": {"learning_rate": arguments.learning_rate},
            "seed": arguments.seed,
        },
        "gossip": {
            "topology": arguments.topology,
            "merge": arguments.merge,
            "exchange_every": arguments.exchange_every,
        },
        "compress": {"mask": arguments.mask},
        "metrics": {"evaluation_samples": arguments.samples},
    }


def compress(arguments: argparse.Namespace, codec: str) -> dict[str, Any]:
    """The section `compress` that stands for a codec's name on the wire."""
    if is_stateless(codec):
        name, _, packed = codec.partition("+")
        return {"mask": arguments.mask, "codec": name, "deflate": bool(packed)}
    delta = DeltaSettings.parse(codec)
    chosen: dict[str, Any] = {"mask": arguments.mask, "codec": delta.sparsifier, "values": delta.values}
    return {**chosen, "density": delta.density} if delta.density else chosen


def configured(arguments: argparse.Namespace, folder: Path) -> Configuration:
    """The configuration of nodes that nobody starts."""
    nodes = [{"name": f"node{n}", "address": f"127.0.0.1:{7100 + n}"} for n in range(1, arguments.nodes + 1)]
    file = folder / "peers.yaml"
    file.write_text(json.dumps({"cluster": {"name": "codecs"}, "nodes": nodes, **sections(arguments)}))
    return load(file, ())


if __name__ == "__main__":
    # What TensorFlow must find before it is loaded.
    os.environ.update(trainer_environment(threads=0))
    sys.exit(main())
